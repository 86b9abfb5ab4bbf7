"""Pictures of prepared data: a few images of each class, and how many there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vision_mlops.core.figures import FigureWords, Picture
from vision_mlops.data.manifest import SPLITS, SplitName, read_manifest
from vision_mlops.images.decoding import open_rgb
from vision_mlops.images.picture_grid import GridImage, picture_grid


def draw_samples(data: Path, *, split: SplitName = "train", each: int = 4, most_classes: int = 8) -> Picture:
    """Draw a row of images for each class, spread evenly over its images.

    Args:
        data: Prepared data.
        split: Where the images are taken from.
        each: Images of a class.
        most_classes: Rows; further classes are left out.

    Raises:
        DataError: the folder is not prepared.
        ImageError: an image was damaged since.
    """
    manifest = read_manifest(data)
    shown = []
    for label in manifest.classes[:most_classes]:
        records = [record for record in manifest.of_split(split) if record.label == label]
        chosen = [records[number * len(records) // each] for number in range(min(each, len(records)))]
        shown += [GridImage(open_rgb(data / record.path), (label,)) for record in chosen]
    return picture_grid(shown, columns=each)


def draw_class_balance(data: Path) -> Picture:
    """Draw bars of the number of images per class, one below the other, in the colours of the splits.

    Raises:
        DataError: the folder is not prepared.
    """
    from matplotlib.figure import Figure

    manifest = read_manifest(data)
    counts, words = manifest.counts(), FigureWords()
    names = [words.stand_in(name) for name in manifest.classes]
    figure = Figure(figsize=(7, 1.2 + 0.34 * len(names)), layout="constrained")
    axes: Any = figure.subplots()
    before = [0] * len(names)
    for split in SPLITS:
        widths = [counts[split][label] for label in manifest.classes]
        axes.barh(range(len(names)), widths, left=before, label=split)
        before = [begin + width for begin, width in zip(before, widths, strict=True)]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="images", title="Images per class")
    figure.legend(loc="outside right upper", fontsize="small")
    return Picture(words.svg(figure))
