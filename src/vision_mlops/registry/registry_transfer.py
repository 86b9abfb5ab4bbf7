"""The same bundle in another registry: promotion from workspace to workspace without training again."""

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
    """Copy one version, with all that is known about it, from one registry to another.

    The bundle is verified when it leaves and when it arrives; its digest is the same in both. Azure ML shares models
    between workspaces through a registry: copy from the workspace to the registry, then from there to the other one.

    Args:
        source: Registry that has it.
        reference: ``NAME``, ``NAME:3`` or ``NAME@champion``.
        target: Registry to copy it to; the identical bundle is not stored twice.
        name: Its name there; the same where not given.
        aliases: Aliases to give it there.
        force: Give the aliases also where its verdict is reject.

    Raises:
        RegistryError: there is no such version, a registry refuses, or the bundle is not the same any more.
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
