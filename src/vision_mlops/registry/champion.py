"""Compares with the champion: how it does on the very images that the candidate was judged on."""

from __future__ import annotations

from pathlib import Path

from vision_mlops.core.errors import RegistryError
from vision_mlops.data.manifest import read_manifest
from vision_mlops.evaluation.evaluate import Evaluation, evaluate
from vision_mlops.model.bundle import read_bundle
from vision_mlops.registry.bundle_registry import Registry
from vision_mlops.registry.model_versions import CHAMPION


def champion_evaluation(
    registry: Registry, name: str, candidate: Evaluation, data: Path, out: Path
) -> tuple[Evaluation | None, str]:
    """Evaluate the champion of a model on the split that the candidate was evaluated on.

    Args:
        registry: Where the champion is.
        name: Model.
        candidate: Evaluation of the candidate; returned if the champion is the same bundle.
        data: Prepared data.
        out: Folder for the champion's report.

    Returns:
        The evaluation, or None if there is nothing to compare with; and what to tell a person.

    Raises:
        DataError, BundleError: the data or the champion's bundle is broken.
    """
    try:
        champion = registry.get(f"{name}@{CHAMPION}")
    except RegistryError:
        return None, f"{name} has no champion yet"
    if champion.bundle_id == candidate.metrics["bundle_id"]:
        return candidate, f"the candidate is the champion {champion.reference}"
    folder = registry.bundle_path(champion)
    classes = list(read_manifest(data).classes)
    if list(read_bundle(folder).classes) != classes:
        return None, f"not compared with {champion.reference}, whose classes are not {', '.join(classes)}"
    split = candidate.metrics.get("split", "test")
    return evaluate(folder, data, out, split=split), f"compared with the champion {champion.reference}"
