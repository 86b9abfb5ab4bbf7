"""The tracking store: MLflow on an SQLite file below :func:`paths.home`, or wherever MLFLOW_TRACKING_URI points.

MLflow takes more than a second to import, so it is imported inside the functions, and only here is it set up: silent,
and sending nothing away. In an Azure ML job the service sets MLFLOW_TRACKING_URI and MLFLOW_RUN_ID; both are respected.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from vision_mlops.core import library_settings, paths
from vision_mlops.core.errors import MlopsError, require
from vision_mlops.core.locks import locked
from vision_mlops.tracking import mlflow_import

T = TypeVar("T")

LOCK_TIMEOUT_SECONDS = 120.0
_ATTEMPTS = 8
_BATCH = 100
_PARAM_LENGTH = 6000
_SQLITE = "sqlite:///"
_NOT_IN_A_KEY = re.compile(r"[^\w\-./ ]", re.ASCII)


def tracking_uri() -> str:
    """Return where runs and models are recorded: MLFLOW_TRACKING_URI, else ``mlflow.db`` below the home folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{(paths.home() / 'mlflow.db').as_posix()}"


def absolute_uri() -> str:
    """Return the same address for a process with another working folder."""
    uri = tracking_uri()
    database = _database(uri)
    if database is not None:
        return f"{_SQLITE}{database.as_posix()}{uri[len(uri.partition('?')[0]) :]}"
    return uri if "://" in uri or uri in ("databricks", "uc") else str(Path(uri.removeprefix("file:")).resolve())


def database_file() -> Path | None:
    """Return the file of the store if it is an SQLite database, which may not exist yet; None for any other store."""
    return _database(tracking_uri())


def has_store() -> bool:
    """Return whether there is anything to read: not as long as nobody has written to a database file."""
    database = database_file()
    return database is None or _is_written(database)


def without_credentials(text: str) -> str:
    """Return a text without user names and passwords of the addresses in it."""
    return re.sub(r"://[^/@\s]+@", "://", text)


def store_key() -> str:
    """Return a key that tells one store from another, without MLflow; empty for a database that does not exist yet."""
    uri = absolute_uri()
    database = _database(uri)
    if database is not None and not database.exists():
        return ""
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


def check_reachable(experiment: str) -> None:
    """Ask the store for an experiment, and give up within seconds instead of retrying for minutes as MLflow does.

    Raises:
        MlopsError: the database file cannot be used.
        MlflowException, OSError: the store does not respond, or refuses.
    """
    brief = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
    before = {key: os.environ.get(key) for key in brief}
    os.environ.update(brief)
    try:
        client().get_experiment_by_name(experiment)
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def client() -> Any:
    """Return a silent ``mlflow.MlflowClient`` of the store; the first use creates the database, even if two processes race.

    Raises:
        MissingExtraError: MLflow is not installed.
        MlopsError: the database file cannot be used, or was written by another MLflow release.
    """
    client_class = _load()
    uri = tracking_uri()
    database = _database(uri)
    if database is not None:
        _create_database(database)
    try:
        return client_class(tracking_uri=uri)
    except refusal() as error:
        hint = f"mlflow db upgrade {uri}" if "out-of-date" in str(error) else "check MLFLOW_TRACKING_URI"
        raise MlopsError(f"the tracking store {uri} cannot be opened: {str(error).splitlines()[0]}", hint) from error


def refusal() -> Any:
    """Return ``MlflowException``, which a store raises. Nothing, if MLflow is not loaded: this does not load it."""
    module = sys.modules.get("mlflow.exceptions")
    return getattr(module, "MlflowException", ())


def experiment_id(name: str) -> str:
    """Return the id of the experiment of this name, which is created, or restored if it was deleted."""
    store = client()
    found = store.get_experiment_by_name(name)
    if found is None:
        location = None
        if database_file() is not None:
            location = (paths.home() / "artifacts" / _NOT_IN_A_KEY.sub("_", name).replace("/", "_")).as_uri()
        try:
            return str(with_retries(store.create_experiment, name, artifact_location=location))
        except refusal() as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = store.get_experiment_by_name(name)
    if found.lifecycle_stage == "deleted":
        with_retries(store.restore_experiment, found.experiment_id)
    return str(found.experiment_id)


def start_run(experiment: str, name: str, tags: Mapping[str, str] | None = None) -> str:
    """Create a run and return its id. If MLFLOW_RUN_ID names the run of a surrounding job, that one is used."""
    given = os.environ.get("MLFLOW_RUN_ID")
    if given:
        set_tags(given, tags or {})
        return given
    run = with_retries(client().create_run, experiment_id(experiment), run_name=name, tags=dict(tags or {}))
    return str(run.info.run_id)


def start_child(parent: str, name: str, tags: Mapping[str, str] | None = None) -> str:
    """Create a run nested in another one, in the same experiment, and return its id."""
    store = client()
    experiment = store.get_run(parent).info.experiment_id
    everything = {"mlflow.parentRunId": parent, **(tags or {})}
    return str(with_retries(store.create_run, experiment, run_name=name, tags=everything).info.run_id)


def reopen_run(run_id: str) -> None:
    """Mark a run that was ended as running again."""
    with_retries(client().update_run, run_id, status="RUNNING")


def set_tags(run_id: str, tags: Mapping[str, str]) -> None:
    """Add tags to a run."""
    store = client()
    for key, value in tags.items():
        with_retries(store.set_tag, run_id, _key(key), value)


def end_run(run_id: str, *, failed: bool = False) -> None:
    """Mark a run as finished or failed. The run of a surrounding job (MLFLOW_RUN_ID) is left to that job."""
    if os.environ.get("MLFLOW_RUN_ID") != run_id:
        with_retries(client().set_terminated, run_id, "FAILED" if failed else "FINISHED")


def log_params(run_id: str, params: Mapping[str, object]) -> None:
    """Record settings; nested mappings become dotted keys."""
    store = client()
    from mlflow.entities import Param

    entries = [Param(_key(key), str(value)[:_PARAM_LENGTH]) for key, value in flatten(params)]
    for start in range(0, len(entries), _BATCH):
        with_retries(store.log_batch, run_id, params=entries[start : start + _BATCH])


def log_metrics(run_id: str, metrics: Mapping[str, float], *, step: int = 0) -> None:
    """Record numbers, except those that are not finite, because no store sorts or plots them."""
    store = client()
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    entries = [Metric(_key(key), float(value), now, step) for key, value in metrics.items() if math.isfinite(value)]
    for start in range(0, len(entries), _BATCH):
        with_retries(store.log_batch, run_id, metrics=entries[start : start + _BATCH])


def log_artifacts(run_id: str, path: Path, artifact_path: str | None = None) -> None:
    """Copy a file, or the content of a folder, to the run's artifacts, below ``artifact_path`` if given."""
    store = client()
    log = store.log_artifacts if path.is_dir() else store.log_artifact
    log(run_id, str(path), artifact_path)


def log_evaluation(run_id: str, metrics: Mapping[str, float], folder: Path) -> bool:
    """Add an evaluation's numbers and files (as ``evaluation/``) to the run that trained the model.

    Returns:
        False if this store has no such run, since the bundle was trained elsewhere; nothing is written then.
    """
    if find_run(run_id) is None:
        return False
    log_metrics(run_id, metrics)
    log_artifacts(run_id, folder, "evaluation")
    return True


def find_run(run_id: str) -> Any | None:
    """Return the ``mlflow.entities.Run``; None if this store has no run of that id, or if it was deleted."""
    if not run_id or not has_store():
        return None
    store = client()
    try:
        run = store.get_run(run_id)
    except refusal() as error:
        # An id of another kind of store may be malformed here, which MLflow calls an invalid parameter.
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE"}:
            return None
        raise
    return None if run.info.lifecycle_stage == "deleted" else run


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a lock between processes and threads. Raises MlopsError if it is not free within two minutes."""
    refusal = MlopsError(
        f"{path} has been locked by another process for more than {LOCK_TIMEOUT_SECONDS:g} seconds",
        "wait for the other command, or stop it",
    )
    with locked(path, refusal, wait=LOCK_TIMEOUT_SECONDS):
        yield


def with_retries(call: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Repeat a call, at most 8 times over about 10 seconds, while the database is locked or a version number is taken.

    SQLite refuses at once, whatever its timeout, when two readers both want to write.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    # The waits are random, or the same two callers meet again.
    wait = wait_random_exponential(multiplier=0.1, max=3)
    retrying = Retrying(
        retry=retry_if_exception(_is_transient), stop=stop_after_attempt(_ATTEMPTS), wait=wait, reraise=True
    )
    return retrying(call, *arguments, **options)


def _is_transient(error: BaseException) -> bool:
    texts = ("is locked", "Giving up after", "TEMPORARILY_UNAVAILABLE")
    return isinstance(error, refusal()) and any(text in str(error) for text in texts)


def _load() -> Any:
    """Import MLflow with everything switched off that prints or phones home, and return MlflowClient."""
    library_settings.apply()
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    require("mlflow")
    client = mlflow_import.client_class(with_database=database_file() is not None)
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
    return client


def _database(uri: str) -> Path | None:
    """Return the file of an SQLite address; None for any other store."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]).absolute() if uri.startswith(_SQLITE) else None


def _is_written(database: Path) -> bool:
    return database.is_file() and database.stat().st_size > 0


def _create_database(path: Path) -> None:
    """Make sure that the database exists, whole: it is built under another name and renamed."""
    if _is_written(path):
        with path.open("rb") as stream:
            if not stream.read(16).startswith(b"SQLite format 3"):
                raise MlopsError(
                    f"{path} is not an SQLite database", "move the file elsewhere, or set MLFLOW_TRACKING_URI"
                )
        return
    with file_lock(path.with_name(f".{path.name}.lock")):
        if _is_written(path):
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
        temporary.unlink(missing_ok=True)
        try:
            with library_settings.loading(), _written_at_once(temporary):
                store = SqlAlchemyStore(f"{_SQLITE}{temporary.as_posix()}", (paths.home() / "artifacts").as_uri())
                store.engine.dispose()
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _written_at_once(database: Path) -> Iterator[None]:
    """Keep SQLite from waiting for the disk after each of the 400 statements that build a database that nobody uses yet."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def connected(connection: Any, _record: object) -> None:
        if Path(connection.execute("PRAGMA database_list").fetchone()[2]).name == database.name:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = MEMORY")

    event.listen(Engine, "connect", connected)
    try:
        yield
    finally:
        event.remove(Engine, "connect", connected)


def _key(name: str) -> str:
    return _NOT_IN_A_KEY.sub("_", name)


def flatten(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the values of nested mappings, with dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
