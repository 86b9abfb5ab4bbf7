"""The registry on MLflow: versions, tags and aliases in its database, the bundles in folders below the home folder."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from vision_mlops import paths, tracking
from vision_mlops.exceptions import BundleError, RegistryError
from vision_mlops.model.bundle import MANIFEST, Bundle, bundle_id, file_hash, read_bundle
from vision_mlops.registry import lineage
from vision_mlops.registry.base import (
    CHAMPION,
    ModelVersion,
    Reference,
    check_alias,
    check_name,
    missing,
    parse_reference,
)
from vision_mlops.registry.tags import HASH_TAG, evidence, fact_tags, identity_tags, to_version

T = TypeVar("T")

_HISTORY_LENGTH = 100


class MlflowRegistry:
    """Registry in the store of :func:`vision_mlops.tracking.tracking_uri`. Safe for threads and processes."""

    def register(
        self,
        bundle: Path,
        name: str,
        *,
        verdict: Path | None = None,
        metrics: Path | None = None,
        data: Path | None = None,
        aliases: Sequence[str] = (),
        force: bool = False,
    ) -> ModelVersion:
        """Verify a bundle, copy it below ``models/NAME/`` of the home folder, and record it as the next version.

        Args:
            bundle: Folder that training wrote.
            name: Model to add a version to; created when new.
            verdict: ``verdict.json`` of the gate, or its folder.
            metrics: ``metrics.json`` of the evaluation, or its folder.
            data: Prepared folder that it was trained on, for its lineage.
            aliases: Aliases that the version shall get.
            force: Add a version even where this very bundle is registered already.

        Returns:
            The new version. Where the identical bundle is registered already, that version, with the verdict, metrics
            and data given now added to it.

        Raises:
            BundleError: the bundle is incomplete or was changed.
            RegistryError: a name is invalid, a report is missing or of another bundle, or an alias is asked for a
                bundle that was rejected.
        """
        check_name(name)
        for alias in aliases:
            check_alias(alias)
        content = read_bundle(bundle)
        reports = evidence(content, verdict, metrics)
        if aliases and reports.get("verdict", {}).get("decision") == "reject":
            raise _refusal(f"{bundle}", aliases[0], reports["verdict"], "register it without an alias")
        tags = identity_tags(content, file_hash(bundle / MANIFEST))
        with self._changing(name):
            existing = None if force else self._identical(name, tags[HASH_TAG])
            if existing is None:
                facts = {**lineage.gather(content, data), **reports}
                version = self._add(bundle, name, content, {**tags, **fact_tags(facts)})
            else:
                version = existing.version
                if reports or data is not None:
                    facts = lineage.stored_facts(existing)
                    # A run that is gone by now must not erase what was known about it.
                    fresh = {key: value for key, value in lineage.gather(content, data).items() if value}
                    self._set_tags(name, version, fact_tags({**facts, **fresh, **reports}))
            for alias in aliases:
                self._move_alias(name, version, alias, force=False)
        return self.get(name, str(version))

    def models(self) -> list[str]:
        """Names of all registered models, sorted."""
        found = _pages(lambda token: self._client().search_registered_models(page_token=token))
        return sorted(model.name for model in found)

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model, sorted by number. Raises RegistryError where there is no such model."""
        aliases = self._aliases(name)
        condition = f"name='{name}'"
        found = _pages(lambda token: self._client().search_model_versions(condition, page_token=token))
        return sorted((to_version(entry, aliases) for entry in found), key=lambda version: version.version)

    def get(self, name: str, ref: str = "") -> ModelVersion:
        """One version of a model.

        Args:
            name: Model, or a whole reference (``NAME:3``, ``NAME@champion``) where ``ref`` is empty.
            ref: Version number, alias, ``latest``, or a whole reference.

        Raises:
            RegistryError: there is none; the message lists what there is.
        """
        reference = _reference(name, ref)
        versions = self.versions(reference.name)
        if not versions:
            raise RegistryError(f"model {reference.name!r} has no versions", "mlops models register --help")
        if reference.alias is not None:
            for version in versions:
                if reference.alias in version.aliases:
                    return version
            known = sorted({alias for version in versions for alias in version.aliases})
            raise missing(
                f"model {reference.name!r} has no alias {reference.alias!r}",
                reference.alias,
                known,
                f"mlops models promote {versions[-1].reference} --alias {reference.alias}",
            )
        if reference.version is None:
            return versions[-1]
        for version in versions:
            if version.version == reference.version:
                return version
        raise missing(
            f"model {reference.name!r} has no version {reference.version}",
            "",
            (str(version.version) for version in versions),
            f"mlops models list {reference.name}",
        )

    def promote(self, name: str, version: int, alias: str = CHAMPION, *, force: bool = False) -> ModelVersion:
        """Point an alias at a version and record when, and which version had it before.

        Raises:
            RegistryError: no such version, or its verdict is reject and ``force`` is not given.
        """
        check_alias(alias)
        with self._changing(name):
            self._move_alias(name, version, alias, force=force)
        return self.get(name, str(version))

    def history(self, name: str) -> list[dict[str, Any]]:
        """Alias changes of a model, oldest first: alias, version, previous (or None), at (UTC), forced."""
        try:
            entries = json.loads(self._model(name).tags.get(lineage.HISTORY_TAG, "[]"))
        except ValueError:
            # The tag can be edited in MLflow's page; a broken history must not stop a promotion.
            return []
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    def bundle_path(self, version: ModelVersion) -> Path:
        """Folder of the version's bundle; found again where the whole home folder was moved.

        Raises:
            RegistryError: the folder is gone.
        """
        folder = _location(version)
        if folder is not None:
            return folder
        raise RegistryError(
            f"the bundle of {version.reference} is not in {version.source} any more",
            "restore the folder, or register it again",
        )

    def download(self, ref: str, out: Path) -> ModelVersion:
        """Write a verified copy of a version's bundle to ``out``, whole or not at all.

        Raises:
            RegistryError: no such version, or it is not the bundle that was registered.
            BundleError: its files were changed.
            MlopsError: ``out`` exists.
        """
        version = self.get(ref)
        source = self.bundle_path(version)
        with paths.atomic_folder(out) as temporary:
            copied = _copy(source, read_bundle(source), temporary)
            expected = version.tags.get(HASH_TAG)
            if expected and copied != expected:
                raise RegistryError(
                    f"{source} is not the bundle that was registered as {version.reference} ({MANIFEST} differs)",
                    "restore the folder, or register the bundle again",
                )
        return version

    def _client(self) -> Any:
        return tracking.client()

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        """One change of a model at a time on this machine; readers do not wait."""
        with tracking.file_lock(paths.home() / "models" / f".{check_name(name)}.lock"):
            yield

    def _model(self, name: str) -> Any:
        from mlflow.exceptions import MlflowException

        check_name(name)
        try:
            return tracking.with_retries(lambda: self._client().get_registered_model(name))
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}:
                raise RegistryError(f"the registry refuses: {error}", "check MLFLOW_TRACKING_URI") from error
        raise missing(f"there is no model {name!r}", name, self.models(), "mlops models register --help")

    def _aliases(self, name: str) -> dict[int, tuple[str, ...]]:
        found: dict[int, tuple[str, ...]] = {}
        for alias, version in sorted(self._model(name).aliases.items()):
            found[int(version)] = (*found.get(int(version), ()), alias)
        return found

    def _identical(self, name: str, digest: str) -> ModelVersion | None:
        if name not in self.models():
            return None
        same = [version for version in self.versions(name) if version.tags.get(HASH_TAG) == digest]
        # A version whose folder was deleted cannot stand for the bundle.
        return next((version for version in reversed(same) if _location(version) is not None), None)

    def _add(self, bundle: Path, name: str, content: Bundle, tags: Mapping[str, str]) -> int:
        from mlflow.exceptions import MlflowException

        target = _folder(name) / f"{bundle_id(content)}-{uuid.uuid4().hex[:8]}"
        with paths.atomic_folder(target) as temporary:
            if _copy(bundle, content, temporary) != tags[HASH_TAG]:
                raise BundleError(f"{bundle} was changed while it was registered", "register it again")
        store = self._client()
        # A run that this store does not have would make MLflow look for its artifacts: a tag keeps its id instead.
        run_id = content.run_id if tracking.find_run(content.run_id) is not None else None
        created = False
        try:
            try:
                tracking.with_retries(lambda: store.create_registered_model(name))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            entry = tracking.with_retries(
                lambda: store.create_model_version(name, source=str(target), run_id=run_id, tags=dict(tags))
            )
            created = True
        except MlflowException as error:
            raise RegistryError(f"{name}: the registry refuses the bundle: {error}", "try again") from error
        finally:
            if not created:
                shutil.rmtree(target, ignore_errors=True)
        return int(entry.version)

    def _set_tags(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        store = self._client()
        for key, value in tags.items():
            _stored(partial(store.set_model_version_tag, name, str(version), key, value))

    def _move_alias(self, name: str, version: int, alias: str, *, force: bool) -> None:
        chosen = self.get(name, str(version))
        rejected = chosen.verdict == "reject"
        if rejected and not force:
            verdict = lineage.stored_facts(chosen).get("verdict", {})
            raise _refusal(chosen.reference, alias, verdict, "promote another version, or add --force")
        if alias in chosen.aliases:
            return
        previous = next((number for number, names in self._aliases(name).items() if alias in names), None)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = {"alias": alias, "version": version, "previous": previous, "at": now, "forced": rejected}
        history = json.dumps([*self.history(name), entry][-_HISTORY_LENGTH:])
        store = self._client()
        _stored(lambda: store.set_registered_model_alias(name, alias, str(version)))
        _stored(lambda: store.set_registered_model_tag(name, lineage.HISTORY_TAG, history))
        self._set_tags(
            name, version, {f"{alias}.since": now, f"{alias}.previous": "" if previous is None else str(previous)}
        )


def _stored(call: Callable[[], T]) -> T:
    from mlflow.exceptions import MlflowException

    try:
        return tracking.with_retries(call)
    except MlflowException as error:
        raise RegistryError(f"the registry refuses the change: {error}", "try again") from error


def _pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = _stored(partial(search, token))
        yield from page
        token = page.token
        if not token:
            return


def _folder(name: str) -> Path:
    return paths.home() / "models" / name


def _location(version: ModelVersion) -> Path | None:
    source = Path(version.source)
    found = (folder for folder in (source, _folder(version.name) / source.name) if (folder / MANIFEST).is_file())
    return next(found, None)


def _reference(name: str, ref: str) -> Reference:
    if not ref:
        return parse_reference(name)
    if ref == name or ref.startswith((f"{name}:", f"{name}@")):
        return parse_reference(ref)
    return parse_reference(f"{name}:{ref}" if ref.isdigit() or ref == "latest" else f"{name}@{ref}")


def _copy(source: Path, content: Bundle, target: Path) -> str:
    """Copy the files that the bundle lists, verify the copy, and return the hash of its ``bundle.json``."""
    for name in (MANIFEST, *content.files):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    read_bundle(target)
    return file_hash(target / MANIFEST)


def _refusal(what: str, alias: str, verdict: Mapping[str, Any], hint: str) -> RegistryError:
    failed = [
        reason["message"] or reason["check"] for reason in verdict.get("reasons", []) if reason.get("passed") is False
    ]
    why = f" ({'; '.join(failed)})" if failed else ""
    return RegistryError(f"{what} cannot become {alias}: its verdict is reject{why}", hint)
