"""Images of a dataset as a bad camera would have taken them: what ``data.corrupt`` of a workload asks for."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vision_mlops.config.workload import Corruptions
from vision_mlops.images.corruptions import as_jpeg, corrupt, limited, random_of
from vision_mlops.images.decoding import MAX_PIXELS, open_rgb

SUFFIX = ".jpg"


def write_corrupted(
    source: Path, target: Path, settings: Corruptions, content: str, size: tuple[int, int]
) -> tuple[str, tuple[int, int]]:
    """Write the corrupted copy of an image, as a JPEG file.

    The order is that of a camera: light, lens, sensor, file. The same content is corrupted in the same way, whatever its
    file is called.

    Args:
        source: An image that can be decoded.
        target: File to write.
        settings: The largest strength of each corruption, and the seed.
        content: sha256 of ``source``.
        size: Width and height of the source.

    Returns:
        sha256, and width and height of what was written.
    """
    image = limited(open_rgb(source, max_pixels=max(MAX_PIXELS, size[0] * size[1])))
    drawn = random_of(content, f"strengths {settings.seed}").random(4)
    contrast, blur, noise, jpeg = drawn * (settings.contrast, settings.blur, settings.noise, settings.jpeg)
    image = corrupt(image, "contrast", contrast, content)
    image = corrupt(image, "blur", blur, content)
    image = corrupt(image, "noise", noise, content)
    data = as_jpeg(image, jpeg)
    target.write_bytes(data)
    return hashlib.sha256(data).hexdigest(), image.size
