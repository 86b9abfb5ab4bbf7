"""The registry on MLflow: versions, tags and aliases in its database, the bundles in folders below the home folder."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from vision_mlops.core import paths
from vision_mlops.core.errors import RegistryError
from vision_mlops.core.files import atomic_folder
from vision_mlops.model.bundle import MANIFEST, Bundle, bundle_id, read_bundle
from vision_mlops.registry import lineage
from vision_mlops.registry.bundle_registry import Registry, copy_bundle, copy_verified
from vision_mlops.registry.kept_responses import kept
from vision_mlops.registry.model_versions import HASH_TAG, ModelVersion, check_name
from vision_mlops.registry.version_index import write_index
from vision_mlops.registry.version_tags import to_version
from vision_mlops.tracking import mlflow_runs

T = TypeVar("T")

_HISTORY_LENGTH = 100


class MlflowRegistry(Registry):
    """The registry in the store of :func:`~vision_mlops.tracking.mlflow_runs.tracking_uri`, for any number of processes.

    Reading creates nothing: without a database there are no models.
    """

    def __init__(self) -> None:
        self.place = f"MLflow at {mlflow_runs.without_credentials(mlflow_runs.tracking_uri())}"

    def models(self) -> list[str]:
        """Return the names of all registered models, sorted."""
        if not mlflow_runs.has_store():
            return []

        def ask() -> list[str]:
            found = _pages(lambda token: mlflow_runs.client().search_registered_models(page_token=token))
            return sorted(model.name for model in found)

        return list(kept("models", ask))

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all versions of a model, sorted by number. Raises RegistryError if no such model is registered."""
        check_name(name)

        def ask() -> list[dict[str, Any]]:
            aliases = self._aliases(name)
            found = _pages(lambda token: mlflow_runs.client().search_model_versions(f"name='{name}'", page_token=token))
            return [_version(entry, aliases).to_dict() for entry in found]

        versions = (
            ModelVersion(**{**row, "aliases": tuple(row["aliases"])}) for row in kept(f"versions of {name}", ask)
        )
        return sorted(versions, key=lambda version: version.version)

    def history(self, name: str) -> list[dict[str, Any]]:
        """Return the alias changes of a model, oldest first: alias, version, previous (or None), at (UTC), forced."""
        return lineage.stored_history(self._model(name).tags)

    def bundle_path(self, version: ModelVersion) -> Path:
        """Return the folder of the version's bundle, which is found even if the whole home folder was moved.

        Raises:
            RegistryError: the folder is gone.
        """
        folder = _location(version)
        if folder is not None:
            return folder
        raise RegistryError(
            f"the bundle of {version.reference} is no longer in {version.source}",
            "restore the folder, or register it again",
        )

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        """Allow one change of a model at a time on this machine, and write the index after it; readers do not wait."""
        with mlflow_runs.file_lock(paths.home() / "models" / f".{check_name(name)}.lock"):
            yield
            write_index(name, self.versions(name))

    def _model(self, name: str) -> Any:
        check_name(name)
        if mlflow_runs.has_store():
            try:
                return mlflow_runs.with_retries(mlflow_runs.client().get_registered_model, name)
            except mlflow_runs.refusal() as error:
                if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}:
                    raise RegistryError(f"the registry refuses: {error}", "check MLFLOW_TRACKING_URI") from error
        raise self._no_model(name, self.models())

    def _aliases(self, name: str) -> dict[int, tuple[str, ...]]:
        found: dict[int, tuple[str, ...]] = {}
        for alias, version in sorted(self._model(name).aliases.items()):
            found[int(version)] = (*found.get(int(version), ()), alias)
        return found

    def _identical(self, name: str, digest: str) -> list[ModelVersion]:
        if name not in self.models():
            return []
        same = (version for version in self.versions(name) if version.tags.get(HASH_TAG) == digest)
        # A version whose folder was deleted cannot stand for the bundle.
        return [version for version in same if _location(version) is not None]

    def _add(self, bundle: Path, name: str, content: Bundle, tags: Mapping[str, str]) -> int:
        target = _folder(name) / f"{bundle_id(content)}-{uuid.uuid4().hex[:8]}"
        with atomic_folder(target) as temporary:
            copy_verified(bundle, content, temporary, tags[HASH_TAG])
        store = mlflow_runs.client()
        # A run that this store does not have would make MLflow look for its artifacts: a tag keeps its id instead.
        run_id = content.run_id if mlflow_runs.find_run(content.run_id) is not None else None
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, target, ignore_errors=True)
            try:
                try:
                    mlflow_runs.with_retries(store.create_registered_model, name)
                except mlflow_runs.refusal() as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                entry = mlflow_runs.with_retries(
                    store.create_model_version, name, source=str(target), run_id=run_id, tags=dict(tags)
                )
            except mlflow_runs.refusal() as error:
                raise RegistryError(f"{name}: the registry refuses the bundle: {error}", "try again") from error
            stack.pop_all()
        return int(entry.version)

    def _set_tags(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        store = mlflow_runs.client()
        for key, value in tags.items():
            _stored(store.set_model_version_tag, name, str(version), key, value)

    def _point(self, name: str, alias: str, entry: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        version = int(entry["version"])
        history = json.dumps([*self.history(name), dict(entry)][-_HISTORY_LENGTH:])
        store = mlflow_runs.client()
        _stored(store.set_registered_model_alias, name, alias, str(version))
        _stored(store.set_registered_model_tag, name, lineage.HISTORY_TAG, history)
        self._set_tags(name, version, tags)

    def _fetch(self, version: ModelVersion, folder: Path) -> None:
        source = self.bundle_path(version)
        copy_bundle(source, read_bundle(source), folder)


def _stored(call: Callable[..., T], *arguments: Any, **options: Any) -> T:
    try:
        return mlflow_runs.with_retries(call, *arguments, **options)
    except mlflow_runs.refusal() as error:
        raise RegistryError(f"the registry refuses the change: {error}", "try again") from error


def _pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = _stored(search, token)
        yield from page
        token = page.token
        if not token:
            return


def _version(entry: Any, aliases: Mapping[int, tuple[str, ...]]) -> ModelVersion:
    """Turn MLflow's version entity into ours; ``aliases`` are those of the whole model, by version number."""
    number = int(entry.version)
    return to_version(
        entry.name,
        number,
        {str(key): str(value) for key, value in entry.tags.items()},
        aliases=aliases.get(number, ()),
        created=datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC),
        run_id=entry.run_id or "",
        source=entry.source or "",
    )


def _folder(name: str) -> Path:
    return paths.home() / "models" / name


def _location(version: ModelVersion) -> Path | None:
    source = Path(version.source)
    found = (folder for folder in (source, _folder(version.name) / source.name) if (folder / MANIFEST).is_file())
    return next(found, None)
