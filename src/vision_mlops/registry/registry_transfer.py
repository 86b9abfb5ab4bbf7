"""Copies a bundle to another registry, to promote it from workspace to workspace without training it again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from vision_mlops.core.errors import RegistryError
from vision_mlops.registry import lineage
from vision_mlops.registry.bundle_registry import Registry
from vision_mlops.registry.model_versions import HASH_TAG, ModelVersion


def transfer(
    source: Registry,
    reference: str,
    target: Registry,
    *,
    name: str | None = None,
    aliases: Sequence[str] = (),
    force: bool = False,
) -> ModelVersion:
    """Copy one version, with everything that is known about it, from one registry to another.

    The bundle is verified when it leaves and when it arrives; its digest is the same in both registries. Azure ML shares
    models between workspaces through a registry: copy from the workspace to the registry, then from there to the other one.

    Args:
        source: Registry that has the version.
        reference: ``NAME``, ``NAME:3`` or ``NAME@champion``.
        target: Registry to copy it to. The identical bundle is not stored twice.
        name: Its name there; by default the same.
        aliases: Aliases to give it there.
        force: Give the aliases even if its verdict is reject.

    Raises:
        RegistryError: the version does not exist, a registry refuses, or the bundle is no longer the same.
        BundleError: the bundle is broken.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-") as temporary:
        folder = Path(temporary) / "bundle"
        version = source.download(reference, folder)
        facts = lineage.stored_facts(version)
        facts.setdefault("origin", {"reference": version.reference, "source": version.source})
        made = target.adopt(folder, name or version.name, facts, aliases=aliases, force=force)
    before, after = version.tags.get(HASH_TAG), made.tags.get(HASH_TAG)
    if before and before != after:
        raise RegistryError(
            f"{made.reference} has the digest {after}, but {version.reference} has {before}", "transfer it again"
        )
    return made
