"""Images that stand out: dark, bright, flat, blank, blurred, tiny, or of unusual size and proportions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vision_mlops.data.checks.findings import Finding
from vision_mlops.data.checks.listing import Listing
from vision_mlops.data.checks.scanning import Scan

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


def find(listing: Listing, scan: Scan, image_size: int) -> Iterator[Finding]:
    """Findings on single images, by absolute limits and by the distance from the rest of the folder."""
    usable = scan.usable
    if not len(usable):
        return
    looks = [scan.looks[i] for i in usable]
    mean, contrast, dark, bright, sharpness = (
        np.array([getattr(look, name) for look in looks])
        for name in ("mean", "contrast", "dark", "bright", "sharpness")
    )
    width, height = (np.array([getattr(look, name) for look in looks], np.float64) for name in ("width", "height"))
    short = np.minimum(width, height)
    blank = contrast < BLANK_CONTRAST
    shown = ~blank
    small = short * _UPSCALED < image_size
    checks = [
        ("blank", blank, contrast, "one colour only (contrast {:.1f} of 255)"),
        ("dark", shown & (bright < DARK) & _below(bright, shown), mean, "mean brightness {:.0f} of 255"),
        ("bright", shown & (dark > BRIGHT) & _above(dark, shown), mean, "mean brightness {:.0f} of 255"),
        ("low-contrast", shown & (contrast < LOW_CONTRAST) & _below(contrast, shown), contrast, "contrast {:.1f} of 255"),
        ("blurred", shown & (sharpness < SHARPNESS) & _below(_log(sharpness), shown), sharpness, "sharpness {:.3f}"),
        ("too-small", small, short, f"shorter edge {{:.0f}} pixels; the network takes {image_size}"),
    ]  # fmt: skip
    for kind, flagged, value, text in checks:
        yield from _each(listing, usable, kind, flagged, value, text)
    sizes = [f"{look.width} x {look.height} pixels" for look in looks]
    area, aspect = np.log(width * height), np.log(np.maximum(width, height) / short)
    odd = {
        "odd-size": _far(area, np.log(_SIZE_FACTOR)) & ~small,
        "odd-aspect": _far(aspect, np.log(_ASPECT_FACTOR)),
    }
    usually = {
        "odd-size": f"{np.exp(np.median(area) / 2):.0f} squared",
        "odd-aspect": f"{np.exp(np.median(aspect)):.2f} to 1",
    }
    for kind, flagged in odd.items():
        for place in np.flatnonzero(flagged):
            file = listing.shown(int(usable[place]))
            usual = usually[kind]
            details = {"width": int(width[place]), "height": int(height[place])}
            yield Finding(kind, f"{file.path}: {sizes[place]}; usual is {usual}", (file,), details=details)


def _each(
    listing: Listing, usable: npt.NDArray[np.int64], kind: str, flagged: npt.NDArray[np.bool_], value: Floats, text: str
) -> Iterator[Finding]:
    """One finding for each flagged image, or one for all where that is most of the folder."""
    places = np.flatnonzero(flagged)
    files = [listing.shown(int(usable[place])) for place in places]
    if len(places) > max(20, _MOST * len(usable)):
        middle = text.format(float(np.median(value[places])))
        yield Finding(kind, f"{len(files)} of {len(usable)} images: {middle} (median)", tuple(files))
        return
    order = np.argsort(-value[places] if kind == "bright" else value[places], kind="stable")
    for place in order:
        number = float(value[places[place]])
        details = {"value": round(number, 3)}
        yield Finding(kind, f"{files[place].path}: {text.format(number)}", (files[place],), details=details)


def _spread(values: Floats) -> tuple[float, float]:
    """Median and robust standard deviation (1.4826 times the median absolute deviation)."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))


def _below(values: Floats, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Far below the rest: a folder in which all is dark, or soft, is meant to be so."""
    middle, spread = _spread(values[among] if among.any() else values)
    return values < middle - _SPREADS * spread if spread else values < middle


def _above(values: Floats, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return _below(-values, among)


def _far(logarithms: Floats, least: float) -> npt.NDArray[np.bool_]:
    middle, spread = _spread(logarithms)
    return np.abs(logarithms - middle) > max(_SPREADS * spread, least)


def _log(values: Floats) -> Floats:
    return np.log(np.maximum(values, 1e-3))
