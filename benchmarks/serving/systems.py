"""The compared systems: how each is started, when it is ready, what it responds, and how it is stopped."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.serving import processes
from benchmarks.serving.environments import HERE, OURS, Environment, cache
from benchmarks.serving.load import Load

BASE = "flask_torch"
BOUND = "in_process"
PREDICTOR = "predictor"
PATH = "/score"
_READY_SECONDS = 90.0
_POLL_SECONDS = 0.01
# Variables that could influence a system are removed for all of them.
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True)
class System:
    """One row of the table.

    ``command`` and the values of ``variables`` may hold {bin} (the environment's programs), {bundle}, {port} and {workers}.
    """

    name: str
    environment: str
    command: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)
    workers: int = 2
    precision: str = "auto"
    int8: bool = False
    own_scale: bool = False
    """It decides itself at what scale a large JPEG is decoded, and scales the rest without smoothing: its answers to large
    images are not the predictor's, and only those to small ones are compared."""

    @property
    def is_loop(self) -> bool:
        """Return whether it is a loop without a server."""
        return not self.command

    @property
    def is_ours(self) -> bool:
        """Return whether it runs our package."""
        return self.environment == OURS

    @property
    def is_other(self) -> bool:
        """Return whether it serves the bundle's graph with OpenVINO in another framework."""
        return not (self.is_loop or self.is_ours or self.name == BASE)


def _ours(name: str, precision: str, *, int8: bool = False) -> System:
    command = (
        "{bin}/mlops",
        "serve",
        "{bundle}",
        "--port",
        "{port}",
        "--workers",
        "{workers}",
        "--precision",
        precision,
    )
    return System(name, OURS, command, {"MLOPS_HOME": "{home}"}, precision=precision, int8=int8)


def _loops(suffix: str, precision: str, *, int8: bool = False) -> list[System]:
    return [
        System(BOUND + suffix, "bound", (), precision=precision, int8=int8, own_scale=True),
        System(PREDICTOR + suffix, OURS, (), precision=precision, int8=int8),
    ]


_AZURE = ("{bin}/azmlinfsrv", "--entry_script", "score.py", "--model_dir", "{bundle}", "--port", "{port}",
          "--worker_count", "{workers}")  # fmt: skip
_UVICORN = ("{bin}/uvicorn", "app:app", "--host", "127.0.0.1", "--port", "{port}", "--workers", "{workers}",
            "--log-level", "warning")  # fmt: skip
_GUNICORN = ("{bin}/gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "{workers}", "app:app")
_GRANIAN = ("{bin}/granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "--workers",
            "{workers}", "--no-ws", "--log-level", "warning", "app:app")  # fmt: skip
_BENTO = ("{bin}/bentoml", "serve", "service:Classifier", "--host", "127.0.0.1", "--port", "{port}")
_OTHERS = {
    "azmlinfsrv": (_AZURE, {"AML_APP_INSIGHTS_ENABLED": "false"}),
    "fastapi": (_UVICORN, {"BUNDLE": "{bundle}"}),
    "litserve": (
        ("{bin}/python", "server.py"),
        {"BUNDLE": "{bundle}", "PORT": "{port}", "WORKERS": "{workers}"},
    ),
    "bentoml": (
        _BENTO,
        {"BUNDLE": "{bundle}", "WORKERS": "{workers}", "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": "{home}"},
    ),
}
_TUNED = {
    "fastapi, tuned": ("fastapi_tuned", _UVICORN),
    "granian": ("granian", _GRANIAN),
}
"""Other frameworks in a tuned set-up: an environment and a command each."""


def systems(*, int8: bool = False, one_worker: bool = False, unpinned: bool = False) -> list[System]:
    """Return all systems in the order of a round.

    Args:
        int8: Add ours and the loops with the int8 bundle.
        one_worker: Add the other frameworks with one worker.
        unpinned: Add the other frameworks with OpenVINO told not to pin its threads to cores, as ours and the tuned ones
            tell it.
    """
    others = [System(name, name, command, variables) for name, (command, variables) in _OTHERS.items()]
    tuned = [
        System(name, environment, command, {"BUNDLE": "{bundle}"}, own_scale=True)
        for name, (environment, command) in _TUNED.items()
    ]
    rows = [_ours(OURS, "auto"), *_loops("", "auto"), _ours(f"{OURS}, f32", "f32"), *_loops(", f32", "f32")]
    if int8:
        rows += [_ours(f"{OURS}, int8", "auto", int8=True), *_loops(", int8", "auto", int8=True)]
    rows += [System(BASE, BASE, _GUNICORN, {"BUNDLE": "{bundle}"}), *others, *tuned]
    if one_worker:
        rows += [replace(other, name=f"{other.name}, 1 worker", workers=1) for other in (*others, *tuned)]
    if unpinned:
        for other in others:
            variables = {**other.variables, "UNPINNED": "1"}
            rows.append(replace(other, name=f"{other.name}, unpinned", variables=variables))
    return rows


@dataclass
class Running:
    """A running server. ``ready_seconds``: from its start to its first response to an image."""

    system: System
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    ready_seconds: float = 0.0

    def megabytes(self) -> float:
        """Return the PSS of all its processes, in MB."""
        return processes.proportional_megabytes(self.process.pid)

    def ask(self, image: bytes, timeout: float = 60.0) -> tuple[int, bytes]:
        """Return status and body of the response to one image."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request("POST", PATH, image, {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            return response.status, response.read()

    def fail(self, problem: str) -> SystemExit:
        """Return an error that names the system and shows the end of its log."""
        return SystemExit(
            f"{self.system.name}: {problem}; its log ends with\n{self.log.read_text(errors='replace')[-3000:]}"
        )


def top(body: bytes) -> tuple[str, float]:
    """Return label and probability of the first prediction of a response. Raises ValueError for anything else."""
    try:
        first: dict[str, Any] = json.loads(body)["predictions"][0]
        return str(first["label"]), float(first["probability"])
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"not an answer with predictions: {body[:200]!r}") from error


def _surroundings(extra: dict[str, str]) -> dict[str, str]:
    home = cache() / "home"
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, "HOME": str(home), "PYTHONUNBUFFERED": "1", **extra}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def serving(system: System, environment: Environment, bundle: Path, image: bytes) -> Iterator[Running]:
    """Start a server in its environment, wait for its first response, and stop it with all its processes afterwards.

    Raises:
        SystemExit: it ended, or did not answer in time; shows the end of its log.
    """
    port = _free_port()
    places = {"bin": str(environment.folder / "bin"), "bundle": str(bundle), "port": str(port),
              "workers": str(system.workers), "home": str(cache() / "home")}  # fmt: skip
    command = [word.format(**places) for word in system.command]
    variables = _surroundings({name: value.format(**places) for name, value in system.variables.items()})
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as stream:
            begun = time.perf_counter()
            process = subprocess.Popen(command, cwd=HERE / system.environment, env=variables, stdin=subprocess.DEVNULL,
                                       stdout=stream, stderr=stream, start_new_session=True)  # fmt: skip
        running = Running(system, process, port, log)
        try:
            _await_answer(running, image, begun)
            running.ready_seconds = time.perf_counter() - begun
            yield running
        finally:
            processes.end(process.pid)
            process.wait()


def _await_answer(running: Running, image: bytes, begun: float) -> None:
    last = "no answer"
    while time.perf_counter() - begun < _READY_SECONDS:
        if running.process.poll() is not None:
            raise running.fail(f"ended with {running.process.returncode} before it answered")
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, body = running.ask(image)
            if status == 200:
                return
            last = f"{status} {body[:300]!r}"
        time.sleep(_POLL_SECONDS)
    raise running.fail(f"not ready within {_READY_SECONDS:.0f} s ({last})")


def run_loop(
    system: System, environment: Environment, bundle: Path, files: list[Path], warm_up: int, seconds: int
) -> tuple[Load, list[tuple[str, float]]]:
    """Run a loop in two processes, each with one thread.

    Returns:
        The load, and the most probable label of each file with its probability.
    """
    command = [str(environment.python), "two_processes.py", f"{system.environment}.loop", str(bundle), system.precision]
    done = subprocess.run([*command, str(warm_up), str(seconds), *map(str, files)], cwd=HERE, env=_surroundings({}),
                          capture_output=True, text=True, check=False)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{system.name} failed:\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    return Load(**result["load"]), [(label, probability) for label, probability in result["answers"]]
