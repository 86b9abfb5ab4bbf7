"""How gunicorn runs the web frontend: ``gunicorn --config python:vision_mlops.flask_app.gunicorn_settings APP``.

One process with many threads: what the app does is mostly waiting for the endpoint, and scaling an image down leaves the
interpreter to other threads. So the circuit breaker, the rate limits and the latencies on the status page are those of the
whole app, without a place that processes share.
"""

from __future__ import annotations

import os
import sys

from vision_mlops.core.errors import MlopsError

APP = "vision_mlops.flask_app.app:create_app()"
worker_class = "gthread"
workers = 1
threads = 32
worker_connections = 1000
backlog = 2048
timeout = 60
graceful_timeout = 20  # longer than an image may take; browsers that keep a connection open use it up
keepalive = 75  # longer than the usual proxies keep theirs
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112 - a heartbeat is no matter of a disk
control_socket_disable = True  # it would lie in the home folder
forwarded_allow_ips = ""  # the app itself decides which proxies it believes
errorlog = "-"
accesslog = None


def on_starting(_: object) -> None:
    """End with the reason where a setting is wrong, before a worker would end with its traceback."""
    from vision_mlops.flask_app.app import open_corrections
    from vision_mlops.flask_app.app_settings import load_app_settings

    try:
        open_corrections(load_app_settings())
    except MlopsError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
