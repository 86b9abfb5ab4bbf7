"""A quick look at a folder of images, before anything is prepared: classes, counts and sizes, from the files' headers."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.config.workload import Split
from vision_mlops.core.errors import DataError, ImageError
from vision_mlops.core.text import counted, few
from vision_mlops.data.class_names import lookalikes
from vision_mlops.data.image_files import on_one_line, summary
from vision_mlops.data.manifest import SplitName
from vision_mlops.data.sources import Source, list_images
from vision_mlops.images.decoding import read_size

MOST_HEADERS = 2_000
"""Headers that are read, spread evenly over the images: enough for a median, and quick on a network drive."""


@dataclass(frozen=True, slots=True)
class FolderOverview:
    """What a folder holds.

    ``counts`` are images by class, ``splits`` images by split (empty if the folder is not split), both of what will be
    used: without files whose header was found unreadable, and without the classes in ``small``, which have too few images
    left to be prepared. Sizes are in pixels, as displayed, medians over the images whose headers were read; ``same_size``
    says that those are all alike.
    ``unreadable`` names image files whose header cannot be read, ``left_out`` says what else is not used.
    """

    folder: Path
    counts: dict[str, int]
    splits: dict[SplitName, int]
    width: int
    height: int
    same_size: bool
    unreadable: list[str]
    left_out: list[str]
    small: dict[str, int]

    @property
    def images(self) -> int:
        """Number of images that will be used."""
        return sum(self.counts.values())

    @property
    def largest_share(self) -> float:
        """Share of the images that the largest class has: the accuracy of always predicting it."""
        return max(self.counts.values()) / self.images

    def expected(self, split: SplitName, fractions: Split) -> int:
        """Estimate the number of images that a split will have after preparation."""
        if not self.splits:
            return round(self.images * float(getattr(fractions, split)))
        if split in self.splits and split != "train":
            return self.splits[split]
        # What the folder lacks is drawn from its train.
        lacking: list[SplitName] = [name for name in ("val", "test") if name not in self.splits]
        shares = {name: float(getattr(fractions, name)) for name in lacking}
        share = shares.get(split, 1.0 - sum(shares.values()))
        return round(self.splits["train"] * share)


def look_at(folder: Path, smallest: int = 1) -> FolderOverview:
    """List a folder of class folders and read some headers.

    Args:
        folder: Where the images are.
        smallest: Images that a class needs to be prepared.

    Raises:
        DataError: it does not exist, has fewer than two classes with enough images, or none of its files is an image.
    """
    source = list_images(folder)
    counts = dict(sorted(Counter(image.label for image in source.images).items()))
    if len(counts) < 2:
        raise DataError(
            f"{source.root}: {counted(len(counts), 'class folder')} with images; a classifier needs at least two",
            "give a folder with one sub-folder of images per class",
        )
    sizes, unreadable, broken = _sizes(source)
    if not sizes:
        raise DataError(f"{source.root}: none of its files is an image: {unreadable[0]}", "give a folder of images")
    images = [image for image in source.images if image.path not in broken]
    counts = dict.fromkeys(sorted(source.classes), 0) | dict(sorted(Counter(image.label for image in images).items()))
    readable = sum(count > 0 for count in counts.values())
    if readable < 2:
        raise DataError(
            f"{source.root}: {counted(readable, 'class folder')} with images that can be read; a classifier needs at least"
            f" two: {unreadable[0]}",
            "`mlops data check` lists all files that cannot be read",
        )
    kept = {label: count for label, count in counts.items() if count >= smallest}
    if len(kept) < 2:
        found = few([f"{on_one_line(label)} has {count:,}" for label, count in counts.items()])
        raise DataError(
            f"{source.root}: {counted(len(kept), 'class folder')} with at least {counted(smallest, 'image')};"
            f" a classifier needs at least two: {found}",
            "add images of these classes",
        )
    return FolderOverview(
        folder=source.root,
        counts=kept,
        splits=dict(Counter(image.split for image in images if image.split is not None and image.label in kept)),
        width=round(statistics.median(width for width, _ in sizes)),
        height=round(statistics.median(height for _, height in sizes)),
        same_size=len(set(sizes)) == 1,
        unreadable=unreadable,
        left_out=[
            *(f"{on_one_line(str(path.relative_to(source.root)))}: is not in a class folder" for path in source.loose),
            *summary(source.left_out),
        ],
        small={label: count for label, count in counts.items() if label not in kept},
    )


def left_out(look: FolderOverview, smallest: int) -> list[str]:
    """Describe images and classes that preparation will leave out, and names that look alike; a line for each kind.

    Args:
        look: What the folder holds.
        smallest: Images that a class needs to be prepared.
    """
    counts = look.small | look.counts
    found = [
        f"class {label!r} has {counted(count, 'image')}, fewer than {smallest}: it will be left out"
        for label, count in counts.items()
        if count < smallest
    ]
    found += [f"will be left out: {few(lines, '; ')}" for lines in (look.unreadable, look.left_out) if lines]
    return found + lookalikes(counts)


def _sizes(source: Source) -> tuple[list[tuple[int, int]], list[str], set[Path]]:
    """Read the headers of at most :data:`MOST_HEADERS` images, evenly over the list, which is sorted by class."""
    sizes: list[tuple[int, int]] = []
    unreadable: list[str] = []
    broken: set[Path] = set()
    count = min(len(source.images), MOST_HEADERS)
    for image in (source.images[number * len(source.images) // count] for number in range(count)):
        try:
            sizes.append(read_size(image.path))
        except ImageError as error:
            unreadable.append(error.message)
            broken.add(image.path)
    return sizes, unreadable, broken
