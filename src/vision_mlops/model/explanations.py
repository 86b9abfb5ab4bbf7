"""Heat maps: the parts of an image that speak for a class, drawn over the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

# Blue over green and yellow to red, as (position, RGB).
_STOPS = np.array([0.0, 0.35, 0.65, 1.0])
_COLOURS = np.array([[30, 40, 160], [40, 170, 160], [250, 210, 60], [210, 30, 30]])


def overlay(image: Image.Image, activation_map: npt.NDArray[np.floating], strength: float = 0.5) -> Image.Image:
    """Blend an activation map over an image.

    Args:
        image: RGB image of any size.
        activation_map: (h, w); scaled so that its smallest value is cold and its largest hot.
        strength: Opacity of the hottest place, 0 to 1.

    Returns:
        RGB image of the size of ``image``.
    """
    low, high = float(activation_map.min()), float(activation_map.max())
    heat = (activation_map - low) / (high - low) if high > low else np.zeros_like(activation_map)
    resized = Image.fromarray(heat.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    values = np.clip(np.asarray(resized), 0, 1)
    colours = np.stack([np.interp(values, _STOPS, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    weight = (strength * values)[..., None]
    blended = np.asarray(image, np.float32) * (1 - weight) + colours * weight
    return Image.fromarray(blended.astype(np.uint8))
