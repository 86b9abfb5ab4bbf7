"""A scoring server as a process of its own, for the demo and for tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from vision_mlops.core.errors import ServingError
from vision_mlops.serving.server_health import ask
from vision_mlops.serving.workers.ipc import ipc_pair


@contextlib.contextmanager
def running_server(
    bundle: Path, *, port: int = 0, name: str = "", version: str = "", timeout_s: float = 60.0
) -> Iterator[str]:
    """Run ``mlops serve`` until the block ends, or this process does, however it ends.

    Args:
        bundle: Model bundle.
        port: Port on 127.0.0.1; 0 takes a free one.
        name, version: Name and version of the model in responses.
        timeout_s: Seconds until the server must be ready.

    Yields:
        Base URL, once the server is ready.

    Raises:
        ServingError: it ended or was not ready in time; with the last lines of its log.
    """
    with tempfile.TemporaryDirectory() as folder:
        log, port_file = Path(folder, "log"), Path(folder, "port")
        command = [sys.executable, "-m", "vision_mlops", "serve", str(bundle), "--port", str(port)]
        command += ["--port-file", str(port_file)]
        command += ["--name", name] if name else []
        command += ["--version", version] if version else []
        ours, theirs = ipc_pair()  # the server drains when our end is closed, even by a SIGKILL
        command += ["--parent", str(theirs.fileno())]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, stdout=stream, stderr=stream, env=dict(os.environ), pass_fds=(theirs.fileno(),)
            )
        theirs.close()
        try:
            yield _wait(process, port_file, log, time.monotonic() + timeout_s)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            ours.close()


def _wait(process: subprocess.Popen[bytes], port_file: Path, log: Path, deadline: float) -> str:
    problem = "it did not bind a port"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            problem = f"it ended with exit code {process.returncode}"
            break
        if port_file.is_file():
            url = f"http://127.0.0.1:{port_file.read_text().strip()}"
            found = ask(url)
            if found.ready:
                return url
            problem = found.problem
        time.sleep(0.05)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    raise ServingError(f"the server is not ready: {problem}\n{tail}", "run `mlops serve BUNDLE` to see its whole log")
