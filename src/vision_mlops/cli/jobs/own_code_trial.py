"""Own code that a workload names, tried on made-up data in the process of the command, before anything is started.

Training tries transforms and backbones itself. It does not see metrics, for a changed metric must not train again.
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
    """Call the metrics of a workload on made-up labels and probabilities; say why where that is not possible here.

    Args:
        workload: It may name metrics.
        images: Folder or registered data to use in the place of its own; the classes are counted in it.
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
                f"note: {_listed(wanted)} is called at the evaluation only: the classes are not known ({error.message})"
            )
            return
        with redirect_stdout(sys.stderr):
            metrics.check(classes)
    except ConfigError as error:
        # The environment of the step may have what this machine lacks.
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        say(f"note: not tried before the evaluation: {error.message}")


def try_network(workload: Workload) -> None:
    """Build a network with own code, without pretrained weights, and try it as training does; say so where torch is missing.

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
        # What is tried lies below the layer for the classes, so that any number of them will do.
        check_own_code(Classifier(workload.model, 2, load_weights=False), workload.training.augment)


def _count_classes(workload: Workload, images: str | Path | None, place: RunLocation) -> int:
    """Number of classes that have enough images to be trained on. Raises MlopsError where it cannot be known here."""
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
        raise DataError(f"{found or workload.name} has no two classes with enough images")
    return classes


def _listed(wanted: Iterable[CodeReference]) -> str:
    return ", ".join(map(str, wanted))
