"""Fixtures of all tests: each has its own home folder, and no environment of the machine leaks in."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vision_mlops.core import library_settings

_FOREIGN = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    *library_settings.CACHES,
)


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled code, also where the machine says not to, and search for garbage less often.

    Without it, each worker compiles all tests anew, which takes it six seconds, and each process that a test starts compiles
    the package.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # With all libraries loaded, each search for garbage goes through millions of objects: a fifth of the time of many tests.
    gc.set_threshold(50_000, 20, 50)
    # Workers of pytest-xdist share the processors: trainings with a thread for each core would spin, waiting for each other.
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def signals_as_at_a_terminal() -> Iterator[None]:
    """Ctrl-C and a closed terminal reach this process and those that tests start.

    Under nohup, and in the background of a script, both are ignored, and every process would pass that on to its children.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    if before[signal.SIGINT] is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if before[signal.SIGHUP] is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own home folder; it does not exist yet."""
    folder = tmp_path / "home"
    monkeypatch.setenv("MLOPS_HOME", str(folder))
    ours = [name for name in os.environ if name.startswith(("MLOPS_", "AZURE_", "AZUREML_")) and name != "MLOPS_HOME"]
    for name in (*_FOREIGN, *ours):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    return folder


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty tracking database: MLflow's migrations take seconds, a copy of the file does not."""
    from vision_mlops.tracking import mlflow_runs

    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_HOME", str(database.parent))
        mlflow_runs.client()
    return database


@pytest.fixture
def store(home: Path, store_template: Path) -> Path:
    """The test's home folder with an empty tracking store in it."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(store_template, home / "mlflow.db")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    return home


@pytest.fixture
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which MLflow is not installed."""
    for name in ("mlflow", "mlflow.tracking"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def plain_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Write a bundle that is whole but whose graph is a few bytes: enough wherever nothing is predicted."""
    from vision_mlops.model.bundle import Bundle, Preprocessing, write_bundle

    def write(seed: int = 0, **changes: object) -> Path:
        folder = tmp_path / f"plain-bundle-{seed}"
        (folder / "golden").mkdir(parents=True)
        (folder / "model.onnx").write_bytes(f"graph {seed}".encode())
        (folder / "weights.safetensors").write_bytes(b"weights")
        (folder / "golden" / "0.png").write_bytes(b"image")
        description: dict[str, object] = {
            "name": "textile",
            "classes": ["a", "b"],
            "preprocessing": Preprocessing(image_size=32),
            "backbone": "tiny",
            "data_fingerprint": "f" * 64,
            "git_commit": "c" * 40,
            "parity": {"probabilities": 1e-6},
            "metrics": {"val_accuracy": 0.75},
            "workload": {"name": "textile", "training": {"epochs": 2}},
        }
        write_bundle(folder, Bundle.model_validate({**description, **changes}))
        return folder

    return write


@pytest.fixture
def mlops(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``mlops`` in this process: exit code, standard output, standard error."""

    from vision_mlops.cli.main import main

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlops", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call
