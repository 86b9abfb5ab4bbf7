"""Features of a picture: numbers for its colours, its edges and its texture, at several places and scales."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from azureml_emulator.custom_vision.image_checks import opened

Array = np.ndarray[Any, np.dtype[Any]]
VIEWS = 4
"""Views of a picture: as it is, mirrored, its middle, and its middle mirrored."""
_SIDE, _FINE_SIDE, _SMALLEST = 128, 512, 16
_COLOUR_BINS = 4
_EDGE_CELLS, _EDGE_DIRECTIONS = 8, 9
_ODD_SIDE, _ODD_STEP, _ODD_SHARES = 8, 3, (0, 0.002, 0.01, 0.05, 0.95, 0.99, 0.998, 1)
_SIZES = (_COLOUR_BINS**3, 96, _EDGE_CELLS**2 * (_EDGE_DIRECTIONS + 1), 256, 256, 40)
"""How many numbers each part has: colours, tones, edges, coarse and fine texture, and oddities."""
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def features(content: bytes, view: int = 0) -> Array:
    """Return the numbers of a picture.

    Args:
        content: Bytes of the picture.
        view: Which of the :data:`VIEWS` to use.

    Returns:
        float32 of shape (n,), where n is the same for all pictures.
    """
    with opened(content, _FINE_SIDE) as image:
        picture = image.convert("RGB")
    if view >= 2:
        width, height = picture.size
        left, top = width // 10, height // 10
        picture = picture.crop((left, top, max(width - left, left + 1), max(height - top, top + 1)))
    if view % 2:
        picture = ImageOps.mirror(picture)
    if min(picture.size) < _SMALLEST:
        picture = picture.resize([max(side, _SMALLEST) for side in picture.size])
    small = np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float32) / 255
    picture.thumbnail((_FINE_SIDE, _FINE_SIDE))  # never enlarges it: mixing pixels loses tiny details
    fine = np.asarray(picture.convert("L"), dtype=np.int16)
    grey = np.asarray(small @ np.array([0.299, 0.587, 0.114], dtype=np.float32) * 255, dtype=np.int16)
    parts = (_colours(small), _tones(small), _edges(grey), _texture(grey), _texture(fine), _oddities(fine))
    return np.concatenate(parts).astype(np.float32)


def weights() -> Array:
    """Return the weight of each number, so that each of the parts above counts the same, however many numbers it has."""
    return np.concatenate([np.full(size, (200 / size) ** 0.5, dtype=np.float32) for size in _SIZES])


def _colours(pixels: Array) -> Array:
    """Return how often each of 64 colours occurs; the root gives rare ones more weight."""
    steps = np.minimum((pixels * _COLOUR_BINS).astype(np.int32), _COLOUR_BINS - 1)
    codes = (steps[..., 0] * _COLOUR_BINS + steps[..., 1]) * _COLOUR_BINS + steps[..., 2]
    counts = np.bincount(codes.ravel(), minlength=_COLOUR_BINS**3)
    return np.sqrt(counts / codes.size)


def _tones(pixels: Array) -> Array:
    """Return mean and spread of each colour channel in 4 by 4 parts."""
    parts = pixels.reshape(4, _SIDE // 4, 4, _SIDE // 4, 3)
    return np.concatenate([parts.mean((1, 3)).ravel(), parts.std((1, 3)).ravel()])


def _edges(grey: Array) -> Array:
    """Return the strength of edges in nine directions, in 8 by 8 parts; each counts as much as its neighbours together."""
    down, right = np.gradient(grey.astype(np.float32))
    strength, direction = np.hypot(down, right), np.arctan2(down, right) % np.pi
    bins = np.minimum((direction / np.pi * _EDGE_DIRECTIONS).astype(np.int32), _EDGE_DIRECTIONS - 1)
    cell = np.arange(_SIDE) // (_SIDE // _EDGE_CELLS)
    places = (cell[:, None] * _EDGE_CELLS + cell[None, :]) * _EDGE_DIRECTIONS + bins
    sums = np.bincount(places.ravel(), strength.ravel(), minlength=_EDGE_CELLS**2 * _EDGE_DIRECTIONS)
    parts = sums.reshape(-1, _EDGE_DIRECTIONS)
    shape = np.sqrt(parts / (parts.sum(1, keepdims=True) + 1e-3))
    return np.concatenate([shape.ravel(), np.log1p(parts.sum(1))])


def _texture(grey: Array) -> Array:
    """Return how often each pattern of brighter and darker neighbours occurs."""
    middle = grey[1:-1, 1:-1] + 2
    codes = np.zeros(middle.shape, dtype=np.uint8)
    height, width = grey.shape
    for bit, (down, right) in enumerate(_NEIGHBOURS):
        neighbour = grey[1 + down : height - 1 + down, 1 + right : width - 1 + right]
        codes |= (neighbour > middle).astype(np.uint8) << bit
    return np.sqrt(np.bincount(codes.ravel(), minlength=256) / codes.size)


def _oddities(grey: Array) -> Array:
    """Return how far the oddest small parts of a picture are from its usual ones: in brightness, contrast, and detail."""
    values = np.pad(grey, _ODD_SIDE // 2 + 1, mode="reflect").astype(np.int32)
    detail = values[1:-1, 1:-1] * 4 - values[:-2, 1:-1] - values[2:, 1:-1] - values[1:-1, :-2] - values[1:-1, 2:]
    maps = (values, np.abs(np.diff(values, axis=0)), np.abs(np.diff(values, axis=1)), np.abs(detail))
    found = []
    for item in maps:
        parts = np.sort(np.log1p(_part_means(item)), axis=None)
        ranked = parts[[round((len(parts) - 1) * share) for share in _ODD_SHARES]]
        found += [*(ranked - (usual := parts[len(parts) // 2])), usual, parts.std()]
    return np.array(found)


def _part_means(values: Array) -> Array:
    """Return the mean of each square part; the parts overlap."""
    side, step = _ODD_SIDE, _ODD_STEP
    sums = values.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)  # whole numbers, so that nothing is rounded
    first, last = sums[:-side:step], sums[side::step]
    parts = last[:, side::step] - first[:, side::step] - last[:, :-side:step] + first[:, :-side:step]
    return np.asarray(parts, dtype=np.float32) / side**2
