"""The scoring server in the foreground: it listens, tells who started it, and runs its workers until it is stopped."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vision_mlops.config.workload import Serving
from vision_mlops.core.cpu import available_cores
from vision_mlops.core.errors import require
from vision_mlops.core.listening import listen, url_of
from vision_mlops.serving.access_keys import AccessKeys
from vision_mlops.serving.telemetry.metrics_folder import metrics_folder
from vision_mlops.serving.workers.ipc import IpcConnection

if TYPE_CHECKING:
    from vision_mlops.model.predictor import Precision


@dataclass(frozen=True, slots=True)
class ForegroundServer:
    """What is served, and how.

    Attributes:
        folder: Bundle.
        model: Name and version of the model in responses.
        title: What the model is called when it is announced.
        limits: Limits and defaults.
        host: Address to listen on.
        port: Port, 0 for a free one; None for that of ``limits``.
        size: Number of workers; None for that of ``limits``, else one a core.
        precision: Number format of the computation.
        keys: Keys of clients; None if none is needed.
        admin_key: Key that opens the reload.
        parent: Socket to the process that started this one and wants to hear of it.
    """

    folder: Path
    model: tuple[str, str]
    title: str
    limits: Serving
    host: str
    port: int | None
    size: int | None
    precision: Precision
    keys: AccessKeys | None
    admin_key: str | None
    parent: IpcConnection | None

    def run(self, say: Callable[[str], None], port_file: Path | None) -> None:
        """Serve until a signal, or the end of the parent, ends it.

        Args:
            say: Called with where it serves, and when it has stopped.
            port_file: File that the port is written to as soon as it is bound.

        Raises:
            ServingError: it cannot listen, or no worker starts.
            MissingExtraError: a package of the server is not installed.
        """
        limits = self.limits
        listener = listen(self.host, limits.port if self.port is None else self.port)
        port = listener.getsockname()[1]
        if port_file is not None:
            port_file.write_text(f"{port}\n", encoding="utf-8")
        if self.parent is not None:
            self.parent.send(
                "bound",
                port=port,
                max_body=limits.max_body_mb * 2**20,
                request_timeout_s=limits.request_timeout_s,
                cors_origins=limits.cors_origins,
            )

        def announce(problem: str) -> None:
            if self.parent is not None:
                self.parent.send("ready", problem=problem)
            text = f"not ready: {problem}" if problem else f"serving {self.title} at {url_of(self.host, port)}"
            with contextlib.suppress(OSError):  # a terminal that is gone or a full disk is no reason not to serve
                say(f"{text}  (Ctrl-C stops)")

        size = self.size or limits.workers or available_cores()
        with metrics_folder(size):
            self._run_workers(listener, size, announce)
        with contextlib.suppress(OSError):
            say("stopped")

    def _run_workers(self, listener: socket.socket, size: int, announce: Callable[[str], None]) -> None:
        require("httptools", "prometheus_client", "openvino")
        # Only now: the packages read the folder of the metrics when they are imported.
        from vision_mlops.serving.served_model import ModelSource
        from vision_mlops.serving.telemetry.server_log import start_log, stop_log
        from vision_mlops.serving.telemetry.tracing import check_tracing
        from vision_mlops.serving.workers.supervisor import Supervisor
        from vision_mlops.serving.workers.worker import WorkerSettings

        source = ModelSource(self.folder.absolute(), *self.model, self.precision)
        check_tracing()
        predictions = self.limits.predictions
        if predictions.sample and predictions.to:
            from vision_mlops.serving.prediction_log.shipping import check_destination

            check_destination(predictions.to)
        start_log()
        settings = WorkerSettings(source, self.limits, self.keys, self.admin_key)
        Supervisor(listener, settings, size, on_ready=announce, parent=self.parent).run()
        stop_log()
