"""Images that stand out: dark, bright, flat, blank, blurred, tiny, or of unusual size and proportions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vision_mlops.core.text import counted
from vision_mlops.data.check.dataset_findings import DatasetFinding
from vision_mlops.data.check.file_listing import ImageListing
from vision_mlops.data.check.image_scan import Scan

BLANK_CONTRAST = 3.0
"""Standard deviation in grey levels below which there is no picture: what noise and compression leave of one colour."""
LOW_CONTRAST = 10.0
DARK = 60.0  # of the 95th percentile: nearly nothing is brighter
BRIGHT = 215.0  # of the 5th percentile: nearly nothing is darker
SHARPNESS = 0.2  # a photo blurred by 2 of 640 pixels has 0.16, a sharp one 0.5 or more

_SPREADS = 5.0  # robust standard deviations from the median that count as far from the rest
_SIZE_FACTOR = 4.0  # in area
_ASPECT_FACTOR = 1.6
_UPSCALED = 2.0  # an edge that has to be enlarged more than this is too small
_MOST = 0.5  # share of the images above which one finding names them all

Floats = npt.NDArray[np.float64]


def find(listing: ImageListing, scan: Scan, image_size: int, *, assumed: bool = False) -> Iterator[DatasetFinding]:
    """Find single images beyond an absolute limit that are also far from the rest of the folder.

    A folder in which everything is dark, or soft, is meant to be so. ``image_size`` is the network's, in pixels; if it is
    ``assumed``, no network was named.
    """
    network = f"the network takes {image_size}"
    if assumed:
        network = f"a network of {image_size} is assumed; --workload names yours"
    usable = scan.usable
    if not len(usable):
        return
    looks = [scan.looks[i] for i in usable]
    names = ("mean", "contrast", "dark", "bright", "sharpness", "width", "height")
    of = {name: np.array([getattr(look, name) for look in looks], np.float64) for name in names}
    blank = of["contrast"] < BLANK_CONTRAST
    dark = ~blank & _low(of["bright"], DARK, ~blank)
    bright = ~blank & _low(255 - of["dark"], 255 - BRIGHT, ~blank)
    flat = ~(blank | dark | bright) & _low(of["contrast"], LOW_CONTRAST, ~blank)
    blurred = ~blank & _low(of["sharpness"], SHARPNESS, ~blank)
    short = np.minimum(of["width"], of["height"])
    small = short * _UPSCALED < image_size
    for kind, flagged, value, text in (
        ("blank", blank, of["contrast"], "one colour only (contrast {:.1f} of 255)"),
        ("dark", dark, of["mean"], "mean brightness {:.0f} of 255"),
        ("bright", bright, of["mean"], "mean brightness {:.0f} of 255"),
        ("low-contrast", flat, of["contrast"], "contrast {:.1f} of 255"),
        ("blurred", blurred, of["sharpness"], "sharpness {:.3f}"),
        ("too-small", small, short, f"shorter edge {{:.0f}} pixels; {network}"),
    ):
        yield from _each(listing, usable, kind, flagged, value, text)
    yield from _shapes(listing, usable, of["width"], of["height"], small)


def _shapes(
    listing: ImageListing, usable: npt.NDArray[np.int64], width: Floats, height: Floats, small: npt.NDArray[np.bool_]
) -> Iterator[DatasetFinding]:
    """Find sizes and proportions far from the rest. Portrait instead of landscape is not odd."""
    area = np.log(width * height)
    aspect = np.log(np.maximum(width, height) / np.minimum(width, height))
    usual = f"{np.median(width):.0f} x {np.median(height):.0f}"
    odd = (("odd-size", _far(area, _SIZE_FACTOR) & ~small), ("odd-aspect", _far(aspect, _ASPECT_FACTOR)))
    for kind, flagged in odd:
        for place in np.flatnonzero(flagged):
            file = listing.entries[usable[place]]
            message = f"{file.path}: {width[place]:.0f} x {height[place]:.0f} pixels; usual is {usual}"
            yield DatasetFinding(kind, message, (file,))


def _each(
    listing: ImageListing,
    usable: npt.NDArray[np.int64],
    kind: str,
    flagged: npt.NDArray[np.bool_],
    value: Floats,
    text: str,
) -> Iterator[DatasetFinding]:
    """Yield one finding for each flagged image, or one for all if that is most of the folder."""
    places = np.flatnonzero(flagged)
    files = [listing.entries[usable[place]] for place in places]
    if len(places) > max(20, _MOST * len(usable)):
        middle = text.format(float(np.median(value[places])))
        yield DatasetFinding(kind, f"{len(files)} of {counted(len(usable), 'image')}: {middle} (median)", tuple(files))
        return
    order = np.argsort(-value[places] if kind == "bright" else value[places], kind="stable")
    for place in order:
        number = float(value[places[place]])
        details = {"value": round(number, 3)}
        yield DatasetFinding(kind, f"{files[place].path}: {text.format(number)}", (files[place],), details=details)


def _low(values: Floats, limit: float, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return what is below the limit, and below half of what is usual."""
    usual = float(np.median(values[among])) if among.any() else 0.0
    return values < min(limit, usual / 2)


def _far(logarithms: Floats, factor: float) -> npt.NDArray[np.bool_]:
    """Return what is more than ``factor``, and more than five robust standard deviations, away from the median."""
    distance = np.abs(logarithms - np.median(logarithms))
    return distance > max(_SPREADS * 1.4826 * float(np.median(distance)), float(np.log(factor)))
