"""Tries the own code that a workload names on synthetic data, in the process of the command, before a run starts.

Training tries transforms and backbones itself. It does not see metrics, because a changed metric must not train again.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from vision_mlops.cli.data.image_location import images_for, is_registered
from vision_mlops.cli.data.versions import find_version
from vision_mlops.cli.options import RunLocation
from vision_mlops.cli.output import say
from vision_mlops.config.own_code import CodeReference, references
from vision_mlops.core.errors import ConfigError, DataError, MlopsError

if TYPE_CHECKING:
    from vision_mlops.config.workload import Workload


def try_metrics(workload: Workload, images: str | Path | None = None, place: RunLocation = RunLocation.LOCAL) -> None:
    """Call the metrics of a workload on synthetic labels and probabilities, or say why that is not possible here.

    Args:
        workload: It may name metrics.
        images: Folder or registered data to use instead of its own; the classes are counted in it.
        place: Where they are read.

    Raises:
        ConfigError: a metric cannot be loaded, fails, or does not return the same finite number twice.
    """
    wanted = references(workload, ["evaluation"])
    if not wanted:
        return
    from vision_mlops.evaluation.own_metrics import OwnMetrics

    try:
        metrics = OwnMetrics(wanted)
        try:
            classes = _count_classes(workload, images, place)
        except MlopsError as error:
            say(
                f"note: {_listed(wanted)} is not tried before the evaluation: the classes are not known ({error.message})"
            )
            return
        with redirect_stdout(sys.stderr):
            metrics.check(classes)
    except ConfigError as error:
        # The environment of the step may have a package that this machine lacks.
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        say(f"note: not tried before the evaluation: {error.message}")


def try_network(workload: Workload) -> None:
    """Build a network with own code, without pretrained weights, and try it as training does; say so if torch is missing.

    Raises:
        TrainingError: a bundle could not carry the own code, or it does not return what it should.
        ConfigError: it cannot be loaded, or raises an error.
    """
    wanted = references(workload, ["model", "training"])
    if not wanted:
        return
    try:
        from vision_mlops.model.network import Classifier
        from vision_mlops.training.own_code_check import check_own_code
    except ModuleNotFoundError as error:
        say(f"note: {_listed(wanted)} is tried when training starts: {error.name} is not installed here")
        return
    with redirect_stdout(sys.stderr):
        # What is tried lies below the classification layer, so any number of classes will do.
        check_own_code(Classifier(workload.model, 2, load_weights=False), workload.training.augment)


def _count_classes(workload: Workload, images: str | Path | None, place: RunLocation) -> int:
    """Count the classes that have enough images to train on. Raises MlopsError if that cannot be known here."""
    from vision_mlops.data.sources import find_source, list_images

    found = images_for(workload, images, place)
    counts: Counter[str] = Counter()
    if found is not None and is_registered(found):
        for split in find_version(found, place).counts.values():
            counts.update(split)
    elif found is not None and found.startswith("azureml:"):
        raise DataError(f"{found} is an address")
    else:
        source = list_images(Path(found)) if found is not None else find_source(workload, None)
        counts.update(image.label for image in source.images)
    classes = sum(count >= workload.data.min_images_per_class for count in counts.values())
    if classes < 2:
        raise DataError(f"{found or workload.name} has fewer than two classes with enough images")
    return classes


def _listed(wanted: Iterable[CodeReference]) -> str:
    return ", ".join(map(str, wanted))
