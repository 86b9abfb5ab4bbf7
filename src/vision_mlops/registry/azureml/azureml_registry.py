"""The registry on Azure ML: model assets of a workspace, or of an Azure ML registry that several workspaces share.

A version is a ``custom_model`` of the bundle's folder. Its tags hold what is known about it, and its properties the hash
of its ``bundle.json`` as well, which never changes.

Azure ML has no aliases. Here a version has an alias if its tag ``mlops.alias.NAME`` holds the highest number among all
versions of the model. An alias is moved in two steps: the new version gets the next number, then the old one loses its
tag. The first step is the promotion: after it, even if the second never happens, ``get("x@champion")`` returns the new
version; the next promotion removes what is left over. Before it, ``get`` returns the old one. The result is always unique.

Two machines that promote at the same moment may write the same number; then the later time stamp wins, and then the
higher version. On one machine, changes wait for each other.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors, found_or_none
from vision_mlops.azure.clients import quiet
from vision_mlops.azure.retries import retry_while_busy
from vision_mlops.core import paths
from vision_mlops.core.errors import AzureError, RegistryError
from vision_mlops.model.bundle import MANIFEST, Bundle, read_bundle
from vision_mlops.registry import lineage
from vision_mlops.registry.azureml.tag_packing import TAG_LENGTH, shorten, whole
from vision_mlops.registry.bundle_registry import Registry, copy_bundle, copy_verified
from vision_mlops.registry.model_versions import CHAMPION, HASH_TAG, ModelVersion, check_name
from vision_mlops.registry.version_tags import to_version
from vision_mlops.tracking import mlflow_runs

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

ALIAS = "mlops.alias."
_FOLDER = "bundle"
_ATTEMPTS = 5
_PATIENCE_SECONDS = 60.0
_STAGES = {True: "Production", False: "Development"}  # shown in Azure ML studio; of no meaning here


class AzureRegistry(Registry):
    """Registry in Azure ML.

    Args:
        connect: Creates the client of a workspace or of an Azure ML registry; called when it is first needed.
        place: Where that is, for messages and for the folder of downloaded bundles: ``workspace mlw-vision``.
    """

    def __init__(self, connect: Callable[[], MLClient], place: str) -> None:
        self._connect = connect
        self.place = place
        """Where it is: ``workspace NAME`` or ``registry NAME``."""

    def models(self) -> list[str]:
        """Return the names of all registered models, sorted."""
        with self._refused("models"), quiet():
            return sorted({str(model.name) for model in self._client.models.list()})

    def versions(self, name: str) -> list[ModelVersion]:
        """Return the versions of a model, sorted by number, except archived ones and those whose version is not a number.

        The latter belong to other tools. Azure ML lists a model as long as it has any version, archived or not.

        Raises:
            RegistryError: no such model is registered, or Azure refuses.
        """
        entries = self._entries(name)
        if not entries and name not in (known := self.models()):
            raise self._no_model(name, known)
        holders = _holders(entries)
        return [_version(name, number, entry, holders) for number, entry in sorted(entries.items())]

    def history(self, name: str) -> list[dict[str, Any]]:
        """Return the alias changes of a model, oldest first: alias, version, previous (or None), at (UTC), forced.

        Each version keeps its own promotions, as many as a tag holds, which is about eight.
        """
        found = [item for entry in self._entries(name).values() for item in lineage.stored_history(entry.tags or {})]
        found.sort(key=lambda item: (str(item.get("at", "")), int(item.get("number") or 0)))
        return [{key: value for key, value in item.items() if key != "number"} for item in found]

    def bundle_path(self, version: ModelVersion) -> Path:
        """Return the folder of the version's bundle, which is downloaded and verified when it is first needed.

        Raises:
            RegistryError: the bundle is gone, or is not the one that was registered.
        """
        name = f"{version.version}-{version.tags.get(HASH_TAG, 'unknown')[:12]}"
        folder = paths.home() / "models" / "azure" / self.place.replace(" ", "-") / version.name / name
        if not (folder / MANIFEST).is_file():
            self.download(version.reference, folder)
        return folder

    @cached_property
    def _client(self) -> MLClient:
        return self._connect()

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        with mlflow_runs.file_lock(paths.home() / "models" / f".azure-{check_name(name)}.lock"):
            yield

    @contextmanager
    def _refused(self, what: str) -> Iterator[None]:
        """Turn errors of Azure into errors of the registry, which is what callers expect."""
        try:
            with azure_errors(f"{self.place}: {what}"):
                yield
        except AzureError as error:
            raise RegistryError(error.message, error.hint) from error

    def _entries(self, name: str) -> dict[int, Any]:
        """Return the SDK's entities of a model's versions, by number."""
        check_name(name)
        with self._refused(f"model {name!r}"), quiet():
            found = found_or_none(lambda: list(self._client.models.list(name=name))) or []
        return {int(entry.version): entry for entry in found if str(entry.version).isdigit()}

    def _identical(self, name: str, digest: str) -> list[ModelVersion]:
        entries = self._entries(name)
        holders = _holders(entries)
        return [_version(name, number, entry, holders) for number, entry in entries.items() if _digest(entry) == digest]

    def _add(self, bundle: Path, name: str, content: Bundle, tags: Mapping[str, str]) -> int:
        from azure.ai.ml.entities import Model

        digest = tags[HASH_TAG]
        with tempfile.TemporaryDirectory(prefix="mlops-") as temporary:
            folder = Path(temporary) / _FOLDER
            copy_verified(bundle, content, folder, digest)
            for attempt in range(_ATTEMPTS):
                model = Model(
                    name=name,
                    path=str(folder),
                    type="custom_model",
                    description=f"{content.name}: {content.backbone}, {len(content.classes)} classes",
                    tags=shorten(tags),
                    properties={HASH_TAG: digest},
                    stage=_STAGES[False],
                )
                number = self._create(model, name, last=attempt == _ATTEMPTS - 1)
                # Somebody else may have taken the number in the same moment.
                if number is not None and _digest(self._entry(name, number)) == digest:
                    return number
        raise RegistryError(f"{name}: other processes keep registering versions", "try again")

    def _create(self, model: Any, name: str, *, last: bool) -> int | None:
        """Return the number of the new version; None if the number that the SDK chose was taken in the meantime."""

        def create() -> int:
            # The SDK gives the model its number before it sends it, so sending it again makes no second version.
            with azure_errors(f"{self.place}: model {name!r}"), quiet():
                return int(self._client.models.create_or_update(model).version)

        try:
            return retry_while_busy(create, lambda text: None, seconds=_PATIENCE_SECONDS)
        except AzureError as error:
            taken = error.status == 409 or type(error.__cause__).__name__ == "AssetPathException"
            if taken and not last:
                return None
            raise RegistryError(error.message, error.hint) from error

    def _set_tags(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        self._change(self._entry(name, version), lambda own: {**own, **tags})

    def _point(self, name: str, alias: str, entry: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        version, key = int(entry["version"]), f"{ALIAS}{alias}"
        entries = self._entries(name)
        number = 1 + max((_number(item.tags, alias)[0] for item in entries.values()), default=0)

        def promoted(own: dict[str, str]) -> dict[str, str]:
            history = [*lineage.stored_history(own), {**entry, "number": number}]
            while len(json.dumps(history)) > TAG_LENGTH:
                history.pop(0)
            own |= {**tags, key: f"{number} {entry['at']}", lineage.HISTORY_TAG: json.dumps(history)}
            return own

        def demoted(own: dict[str, str]) -> dict[str, str]:
            return {name: value for name, value in own.items() if name != key}

        # The caller has checked that the version exists.
        self._change(entries[version], promoted, stage=_STAGES[True] if alias == CHAMPION else None)
        for other, item in entries.items():
            if other != version and key in (item.tags or {}):
                self._change(item, demoted, stage=_STAGES[False] if alias == CHAMPION else None)

    def _fetch(self, version: ModelVersion, folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="mlops-") as temporary:
            with self._refused(f"bundle of {version.reference}"), quiet():
                self._client.models.download(version.name, str(version.version), download_path=temporary)
            found = next(iter(sorted(Path(temporary).rglob(MANIFEST), key=lambda path: len(path.parts))), None)
            if found is None:
                raise RegistryError(
                    f"{version.reference} in {self.place} contains no model bundle ({MANIFEST} is missing)",
                    "register a bundle with `mlops models register`",
                )
            copy_bundle(found.parent, read_bundle(found.parent), folder)

    def _entry(self, name: str, version: int) -> Any:
        with self._refused(f"model {name}:{version}"), quiet():
            return self._client.models.get(name, str(version))

    def _change(
        self, entry: Any, change: Callable[[dict[str, str]], dict[str, str]], *, stage: str | None = None
    ) -> None:
        entry.tags = shorten(change(whole(entry.tags or {})))
        if stage is not None:
            entry.stage = stage
        with self._refused(f"model {entry.name}:{entry.version}"), quiet():
            self._client.models.create_or_update(entry)


def _version(name: str, number: int, entry: Any, holders: Mapping[str, int]) -> ModelVersion:
    created = getattr(entry.creation_context, "created_at", None)
    aliases = tuple(sorted(alias for alias, holder in holders.items() if holder == number))
    tags = whole(entry.tags or {})
    return to_version(
        name,
        number,
        {**tags, HASH_TAG: _digest(entry)} if _digest(entry) else tags,
        aliases=aliases,
        created=created if isinstance(created, datetime) else datetime.fromtimestamp(0, UTC),
        run_id=str(entry.job_name or ""),
        source=str(entry.path or ""),
    )


def _digest(entry: Any) -> str:
    """Hash of the bundle's manifest: from the properties, which nobody can edit, before the tags."""
    return str((entry.properties or {}).get(HASH_TAG) or (entry.tags or {}).get(HASH_TAG) or "")


def _holders(entries: Mapping[int, Any]) -> dict[str, int]:
    """Return the version that has each alias: of several that claim it, the one that was promoted last."""
    claims: dict[str, tuple[tuple[int, str], int]] = {}
    for number, entry in entries.items():
        for key in entry.tags or {}:
            if key.startswith(ALIAS) and (claim := _number(entry.tags, key.removeprefix(ALIAS)))[0] > 0:
                alias = key.removeprefix(ALIAS)
                claims[alias] = max(claims.get(alias, ((0, ""), 0)), (claim, number))
    return {alias: number for alias, (_, number) in claims.items()}


def _number(tags: Mapping[str, str] | None, alias: str) -> tuple[int, str]:
    """Return number and time of a promotion; 0 if there is none, or if somebody edited the tag into something else."""
    number, _, moment = str((tags or {}).get(f"{ALIAS}{alias}", "")).partition(" ")
    return (int(number), moment) if number.isdigit() else (0, "")
