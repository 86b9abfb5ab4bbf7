"""Images side by side with a line of text below each, as one SVG picture.

The images are JPEGs inside it, which keeps it small. The text stays text, so that names in any script are drawn with the
fonts of whoever looks at it.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from vision_mlops.core.figures import Picture, shortened

_GAP, _LINE, _QUALITY = 10, 15, 80
_TEXT = 'font-family="sans-serif" font-size="11" fill="#777"'


@dataclass(frozen=True, slots=True)
class GridImage:
    """An image and the lines of text below it."""

    image: Image.Image
    lines: tuple[str, ...] = ()


def picture_grid(images: Sequence[GridImage], *, columns: int, edge: int = 112) -> Picture:
    """Draw images in rows.

    Args:
        images: What is drawn, row by row; one at least.
        columns: Images in a row.
        edge: Largest width and height of an image, in pixels.

    Raises:
        ValueError: there is no image.
    """
    if not images:
        raise ValueError("a grid needs an image at least")
    shown = [_shrunk(each.image, edge) for each in images]
    wide = max(edge, max(image.width for image in shown))
    high = max(image.height for image in shown) + _LINE * max(len(each.lines) for each in images) + _GAP
    width = min(columns, len(images)) * (wide + _GAP)
    height = -(-len(images) // columns) * high
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">']
    for number, (each, image) in enumerate(zip(images, shown, strict=True)):
        left, top = number % columns * (wide + _GAP), number // columns * high
        parts.append(
            f'<image x="{left}" y="{top}" width="{image.width}" height="{image.height}" href="{_data_url(image)}"/>'
        )
        for line, text in enumerate(each.lines, start=1):
            place = f'x="{left}" y="{top + image.height + line * _LINE - 3}"'
            parts.append(f"<text {place} {_TEXT}>{html.escape(shortened(text))}</text>")
    return Picture("".join([*parts, "</svg>"]))


def _shrunk(image: Image.Image, edge: int) -> Image.Image:
    """As it is, or so much smaller that neither side is longer than ``edge``; a strip keeps one pixel."""
    share = min(1.0, edge / max(image.size))
    size = max(1, round(image.width * share)), max(1, round(image.height * share))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS) if share < 1 else image.convert("RGB")


def _data_url(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
