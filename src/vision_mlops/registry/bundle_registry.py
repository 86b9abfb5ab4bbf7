"""Registering, finding and promoting bundles, wherever they are stored: the part that all registries share."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import BundleError, RegistryError
from vision_mlops.core.files import atomic_folder
from vision_mlops.core.hashing import file_hash
from vision_mlops.model.bundle import MANIFEST, Bundle, read_bundle
from vision_mlops.registry import lineage
from vision_mlops.registry.model_versions import (
    CHAMPION,
    HASH_TAG,
    ModelVersion,
    check_alias,
    check_name,
    missing,
    parse_reference,
    preferred,
)
from vision_mlops.registry.version_tags import evidence, fact_tags, identity_tags


class Registry(ABC):
    """A model registry, built on a few steps that a store provides. What is missing or refused raises RegistryError.

    Attributes:
        place: Where it is, for messages: ``workspace NAME``.
    """

    place: str

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
        """Verify a bundle, store a copy of it, and record it as the next version.

        Args:
            bundle: Folder that training wrote.
            name: Model to add a version to; created if it is new.
            verdict: ``verdict.json`` of the gate, or its folder.
            metrics: ``metrics.json`` of the evaluation, or its folder.
            data: Prepared folder that the bundle was trained on, for its lineage.
            aliases: Aliases to give the version.
            force: Add a version even if the identical bundle is registered already.

        Returns:
            The new version. If the identical bundle is registered already, that version, to which the verdict, metrics and
            data given now are added; of several, the one with the aliases, then the champion, then the newest.

        Raises:
            BundleError: the bundle is incomplete or was changed.
            RegistryError: a name is invalid, a report is missing or about another bundle, or a bundle that was rejected
                would get an alias.
        """
        content = _checked(bundle, name, aliases)
        reports = evidence(content, verdict, metrics)
        _refuse_rejected(bundle, aliases, reports, "register it without an alias")
        tags = identity_tags(content, file_hash(bundle / MANIFEST))
        with self._changing(name):
            existing = None if force else preferred(self._identical(name, tags[HASH_TAG]), aliases)
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
        return self.get(f"{name}:{version}")

    def adopt(
        self, bundle: Path, name: str, facts: Mapping[str, Any], *, aliases: Sequence[str] = (), force: bool = False
    ) -> ModelVersion:
        """Register a bundle of another registry with everything that is known about it there.

        Args:
            bundle: Verified copy of the bundle.
            name: Model to add a version to; created if it is new.
            facts: As :func:`vision_mlops.registry.lineage.stored_facts` returns them for the other version.
            aliases: Aliases to give the version.
            force: Give the aliases even if the verdict is reject.

        Raises:
            BundleError: the bundle is incomplete or was changed.
            RegistryError: a name is invalid, or a bundle that was rejected would get an alias.
        """
        content = _checked(bundle, name, aliases)
        if not force:
            _refuse_rejected(bundle, aliases, facts, "add --force, or give no alias")
        tags = {**identity_tags(content, file_hash(bundle / MANIFEST)), **fact_tags(facts)}
        with self._changing(name):
            existing = preferred(self._identical(name, tags[HASH_TAG]), aliases)
            version = existing.version if existing else self._add(bundle, name, content, tags)
            if existing:
                self._renew(existing, facts)
            for alias in aliases:
                self._move_alias(name, version, alias, force=force)
        return self.get(f"{name}:{version}")

    def _renew(self, version: ModelVersion, facts: Mapping[str, Any]) -> None:
        """Add to a version what has become known elsewhere since it was adopted, such as another verdict."""
        known = lineage.stored_facts(version)
        fresh = {key: value for key, value in facts.items() if value and known.get(key) != value}
        fresh.pop("origin", None)  # the first one stays
        if fresh:
            self._set_tags(version.name, version.version, fact_tags({**known, **fresh}))

    def get(self, ref: str) -> ModelVersion:
        """Return one version of a model, from ``NAME`` (the latest), ``NAME:3``, ``NAME:latest`` or ``NAME@champion``.

        Raises:
            RegistryError: it does not exist; the message lists what does.
        """
        reference = parse_reference(ref)
        versions = self.versions(reference.name)
        if not versions:
            raise RegistryError(
                f"model {reference.name!r} has no versions; archived ones do not count", "mlops models register --help"
            )
        if reference.alias is None and reference.version is None:
            return versions[-1]
        for version in versions:
            if reference.alias in version.aliases or version.version == reference.version:
                return version
        if reference.alias is not None:
            known = sorted({alias for version in versions for alias in version.aliases})
            accepted = [version.reference for version in versions if version.verdict != "reject"]
            raise missing(
                f"model {reference.name!r} has no alias {reference.alias!r}",
                reference.alias,
                known,
                f"mlops models promote {accepted[-1]} --alias {reference.alias}"
                if accepted
                else f"every version was rejected by its gate: mlops models list {reference.name}",
            )
        raise missing(
            f"model {reference.name!r} has no version {reference.version}",
            "",
            (str(version.version) for version in versions),
            f"mlops models list {reference.name}",
        )

    def _no_model(self, name: str, known: Sequence[str]) -> RegistryError:
        """Make the error for a model that is not registered: it names the registry that was asked."""
        hint = "MLOPS_REGISTRY selects another registry; to register a model: mlops models register --help"
        return missing(f"no model {name!r} is registered in {self.place}", name, known, hint)

    def promote(self, name: str, version: int, alias: str = CHAMPION, *, force: bool = False) -> ModelVersion:
        """Point an alias at a version, and record when that was and which version had it before.

        Raises:
            RegistryError: the version does not exist, or its verdict is reject and ``force`` is not set.
        """
        check_alias(alias)
        with self._changing(name):
            self._move_alias(name, version, alias, force=force)
        return self.get(f"{name}:{version}")

    def download(self, ref: str, out: Path) -> ModelVersion:
        """Write a verified copy of a version's bundle to ``out``, whole or not at all.

        Raises:
            RegistryError: the version does not exist, or its bundle is not the one that was registered.
            BundleError: its files were changed.
            MlopsError: ``out`` exists.
        """
        version = self.get(ref)
        with atomic_folder(out) as temporary:
            self._fetch(version, temporary)
            read_bundle(temporary)
            expected = version.tags.get(HASH_TAG)
            if expected and file_hash(temporary / MANIFEST) != expected:
                raise RegistryError(
                    f"{version.source} is not the bundle that was registered as {version.reference}"
                    f" ({MANIFEST} differs)",
                    "restore the folder, or register the bundle again",
                )
        return version

    @abstractmethod
    def models(self) -> list[str]:
        """Return the names of all registered models, sorted."""

    @abstractmethod
    def versions(self, name: str) -> list[ModelVersion]:
        """Return all versions of a model, sorted by number. Raises RegistryError if no such model is registered."""

    @abstractmethod
    def history(self, name: str) -> list[dict[str, Any]]:
        """Return the alias changes of a model, oldest first: alias, version, previous (or None), at (UTC), forced."""

    @abstractmethod
    def bundle_path(self, version: ModelVersion) -> Path:
        """Return the folder of a version's bundle, to read from. Raises RegistryError if it is gone."""

    @abstractmethod
    def _changing(self, name: str) -> AbstractContextManager[None]:
        """Allow one change of a model at a time on this machine; readers do not wait."""

    @abstractmethod
    def _identical(self, name: str, digest: str) -> list[ModelVersion]:
        """Return the versions that hold a bundle, given the hash of its ``bundle.json``."""

    @abstractmethod
    def _add(self, bundle: Path, name: str, content: Bundle, tags: Mapping[str, str]) -> int:
        """Store a bundle as the next version of a model, which may be new, and return its number."""

    @abstractmethod
    def _set_tags(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Add tags to a version, or replace their values."""

    @abstractmethod
    def _point(self, name: str, alias: str, entry: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Move an alias to ``entry["version"]``, add the entry to the history, and the tags to the version."""

    @abstractmethod
    def _fetch(self, version: ModelVersion, folder: Path) -> None:
        """Write the bundle's files into an empty folder."""

    def _move_alias(self, name: str, version: int, alias: str, *, force: bool) -> None:
        versions = {item.version: item for item in self.versions(name)}
        chosen = versions.get(version) or self.get(f"{name}:{version}")
        known = {CHAMPION, *(each for item in versions.values() for each in item.aliases)}
        near = next((each for each in sorted(known) if each != alias and each.lower() == alias.lower()), None)
        if near and alias not in known:
            raise RegistryError(f"the alias {alias!r} would differ from {near!r} only in case", f"write {near}")
        rejected = chosen.verdict == "reject"
        if rejected and not force:
            verdict = lineage.stored_facts(chosen).get("verdict", {})
            raise refusal(chosen.reference, alias, verdict, "promote another version, or add --force")
        if alias in chosen.aliases:
            return
        previous = next((number for number, item in versions.items() if alias in item.aliases), None)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = {"alias": alias, "version": version, "previous": previous, "at": now, "forced": rejected}
        since = {f"{alias}.since": now, f"{alias}.previous": "" if previous is None else str(previous)}
        self._point(name, alias, entry, since)


def copy_verified(source: Path, content: Bundle, target: Path, digest: str) -> None:
    """Copy a bundle as :func:`copy_bundle` does. Raises BundleError if the copy is not the bundle of this digest."""
    copy_bundle(source, content, target)
    read_bundle(target)
    if file_hash(target / MANIFEST) != digest:
        raise BundleError(f"{source} was changed while it was registered", "register it again")


def copy_bundle(source: Path, content: Bundle, target: Path) -> None:
    """Copy the files that a bundle lists, and no others, into a folder."""
    for name in (MANIFEST, *content.files):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def _checked(bundle: Path, name: str, aliases: Sequence[str]) -> Bundle:
    """Check name, aliases and bundle, and return the content of the bundle."""
    check_name(name)
    for alias in aliases:
        check_alias(alias)
    return read_bundle(bundle)


def _refuse_rejected(bundle: Path, aliases: Sequence[str], facts: Mapping[str, Any], hint: str) -> None:
    if aliases and facts.get("verdict", {}).get("decision") == "reject":
        raise refusal(f"{bundle}", aliases[0], facts["verdict"], hint)


def refusal(what: str, alias: str, verdict: Mapping[str, Any], hint: str) -> RegistryError:
    """Make the error for an alias that a rejected bundle must not get; it names the checks that failed."""
    failed = lineage.failed_checks(verdict)
    why = f" ({'; '.join(failed)})" if failed else ""
    return RegistryError(f"{what} cannot become {alias}: its verdict is reject{why}", hint)
