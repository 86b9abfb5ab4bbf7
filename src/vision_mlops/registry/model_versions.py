"""What a model registry holds: versions of named bundles, aliases such as ``champion``, and references to them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vision_mlops.core.errors import RegistryError
from vision_mlops.core.text import closest

CHAMPION = "champion"
HASH_TAG = "bundle_sha256"
"""Tag with the hash of a version's ``bundle.json``, by which a bundle is recognised."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PREFIXES = re.compile(r"(models|azureml):/*", re.IGNORECASE)
"""How MLflow and Azure ML begin references to models."""
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered bundle. ``metrics`` are those of its evaluation, flat, by dotted name; empty without one."""

    name: str
    version: int
    aliases: tuple[str, ...] = ()
    created: str = ""
    data_fingerprint: str = ""
    git_commit: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    verdict: str = ""
    bundle_id: str = ""
    run_id: str = ""
    source: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """The version as every command accepts it: ``NAME:3``."""
        return f"{self.name}:{self.version}"

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A parsed model reference: a version number, an alias, or neither, which means the latest version."""

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        """Return the reference as text."""
        if self.alias is not None:
            return f"{self.name}@{self.alias}"
        return self.name if self.version is None else f"{self.name}:{self.version}"


def check_name(name: str) -> str:
    """Return a valid model name. Raises RegistryError if it is not."""
    if not _NAME.fullmatch(name):
        raise RegistryError(
            f"{name!r} is not a valid model name",
            "use 1 to 63 letters, digits, '.', '_' and '-', starting with a letter or digit",
        )
    return name


def check_alias(alias: str) -> str:
    """Return a valid alias. Raises RegistryError if it is not; ``latest`` and ``v3`` already mean something else."""
    if not _ALIAS.fullmatch(alias) or alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
        raise RegistryError(
            f"{alias!r} is not a valid alias",
            "write latest in lower case"
            if alias.lower() == "latest"
            else "use letters, digits, '_' and '-', starting with a letter; 'latest' and 'v<number>' are reserved",
        )
    return alias


def parse_reference(text: str) -> ModelReference:
    """Parse ``NAME`` (latest), ``NAME:3``, ``NAME:latest`` or ``NAME@alias``.

    Raises:
        RegistryError: the text is none of these.
    """
    if prefix := _PREFIXES.match(text):
        plain = re.sub(r"/(versions/)?(?=[^/]*$)", ":", text[prefix.end() :])  # models:/textile/3
        hint = f"write {plain}" if re.fullmatch(r"[^/:@]+([:@][^/:@]+)?", plain) else "write NAME:3 or NAME@champion"
        raise RegistryError(f"{text!r}: models are named without {prefix[0]!r} here", hint)
    name, mark, rest = text.partition("@")
    if mark:
        return ModelReference(check_name(name), alias=None if rest == "latest" else check_alias(rest))
    name, mark, rest = text.partition(":")
    if not mark or rest == "latest":
        return ModelReference(check_name(name))
    if not re.fullmatch(r"[0-9]{1,9}", rest) or int(rest) < 1:
        hint = f"for an alias write {name}@{rest}" if _ALIAS.fullmatch(rest) else "write NAME:3 or NAME@champion"
        hint = f"write {name}:latest" if rest.lower() == "latest" else hint
        raise RegistryError(f"{text!r}: {rest!r} is not a version number", hint)
    return ModelReference(check_name(name), version=int(rest))


def missing(what: str, wanted: str, existing: Iterable[str], otherwise: str) -> RegistryError:
    """Make the error for something that does not exist: it lists what does, and its hint is the nearest match."""
    known = list(existing)
    listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    near = closest(wanted, known)
    hint = f"did you mean {near[0]!r}?" if near else otherwise
    return RegistryError(f"{what}; known: {listed}" if known else what, hint)


def preferred(same: Iterable[ModelVersion], aliases: Iterable[str] = ()) -> ModelVersion | None:
    """Choose among versions that hold the same bundle, so that no alias moves from one of them to another.

    Args:
        same: The versions.
        aliases: Aliases that the chosen version will get: one that has them already comes first.

    Returns:
        The version with most of the aliases, then the champion, then the newest; None if there is none.
    """
    wanted = set(aliases)
    return max(
        same,
        key=lambda version: (len(wanted & set(version.aliases)), CHAMPION in version.aliases, version.version),
        default=None,
    )


def compare(a: ModelVersion, b: ModelVersion) -> list[dict[str, Any]]:
    """Return rows of metric, ``a``, ``b`` and difference b - a; what one version lacks is None."""
    rows: list[dict[str, Any]] = []
    for metric in dict.fromkeys([*a.metrics, *b.metrics]):
        left, right = a.metrics.get(metric), b.metrics.get(metric)
        difference = None if left is None or right is None else round(right - left, 6)
        rows.append({"metric": metric, "a": left, "b": right, "difference": difference})
    return rows
