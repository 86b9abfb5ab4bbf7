"""Imports MLflow without what only tables of data need, since that takes longer than most commands that use MLflow.

Runs and models need neither pandas nor what comes with it, and MLflow works without them if they are not installed. It
has no setting for that, so a process that asks for it hides them while MLflow is imported.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from vision_mlops.core import library_settings

_NOT_NEEDED = frozenset({"numpy", "pandas", "pyarrow", "scipy", "pygments"})
"""Libraries for tables, and the one with which a library of MLflow would colour its error pages."""
_lock = threading.Lock()
_records_only = False


@contextmanager
def records_only() -> Iterator[None]:
    """Import MLflow without tables if it is first imported in this block; this then holds for the whole process.

    For a process that only handles runs and models. Code of a project may use all of MLflow and must not run in it.
    """
    global _records_only
    before, _records_only = _records_only, True
    try:
        yield
    finally:
        _records_only = before


def client_class(*, with_database: bool) -> Any:
    """Import ``mlflow.MlflowClient``, and what it opens a database with. Raises ImportError if MLflow is missing."""
    with library_settings.loading(), _lock:
        if "mlflow" in sys.modules or not _records_only:
            return _client_class(with_database)
        finder = WithoutTables()
        sys.meta_path.insert(0, finder)
        try:
            return _client_class(with_database)
        finally:
            sys.meta_path.remove(finder)
            gc.freeze()  # A fifth of the time of such a command went into searching MLflow's modules for garbage.


def _client_class(with_database: bool) -> Any:
    from mlflow.tracking import MlflowClient

    if with_database:
        import mlflow.store.model_registry.sqlalchemy_store
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - here, garbage collection is switched off
    return MlflowClient


class WithoutTables(MetaPathFinder):
    """Hides the modules of the table libraries from the thread that creates it; other threads may import them."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse the module, or leave it to the finders behind this one."""
        if fullname in _NOT_NEEDED and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None
