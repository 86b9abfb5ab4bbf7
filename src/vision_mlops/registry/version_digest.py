"""The digest of a version: what stays the same from registry to registry, while the numbers of versions differ."""

from __future__ import annotations

from vision_mlops.core.errors import RegistryError
from vision_mlops.registry.bundle_registry import Registry
from vision_mlops.registry.model_versions import HASH_TAG, ModelVersion, parse_reference, preferred

ANY = "any"
"""Stands for every digest. An empty text does not: it is an output of a pipeline that got lost, and would check nothing."""


def digest_of(version: ModelVersion) -> str:
    """Return the hash of a version's bundle. Raises RegistryError if it is not known."""
    digest = version.tags.get(HASH_TAG, "")
    if not digest:
        raise RegistryError(
            f"{version.reference} has no digest: another tool registered it",
            "register its bundle with `mlops models register`",
        )
    return digest


def version_with(registry: Registry, reference: str, digest: str = ANY) -> ModelVersion:
    """Return the version that a reference and a digest stand for.

    Args:
        registry: Registry that has it.
        reference: A name alone means the version with the digest, whatever its number is.
        digest: The digest that it must have, or ``any``.

    Raises:
        RegistryError: the version does not exist, it has another digest, or the given one is empty.
    """
    if not digest.strip():
        raise RegistryError(
            f"the digest that {reference} must have is empty",
            f"give the one that `mlops models verdict` showed, or {ANY} to check none",
        )
    if digest == ANY:
        return registry.get(reference)
    wanted = parse_reference(reference)
    if wanted.version is None and wanted.alias is None:
        versions = registry.versions(wanted.name)
        found = preferred(version for version in versions if version.tags.get(HASH_TAG) == digest)
        if found is None:
            raise RegistryError(
                f"no version of {wanted.name} has the digest {digest}", f"see `mlops models verdict {wanted.name}:N`"
            )
        return found
    version = registry.get(reference)
    if digest_of(version) != digest:
        raise RegistryError(
            f"{version.reference} has the digest {digest_of(version)}, not {digest}",
            "it is not the model that was judged: give the reference of its version, or any as the digest",
        )
    return version
