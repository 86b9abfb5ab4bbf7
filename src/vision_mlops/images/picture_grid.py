"""Images side by side with a line of text below each, as one SVG picture.

The images are JPEGs inside it, which keeps it small. The text stays text, so that names in any script are drawn with the
fonts of the viewer.
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
        edge: The longer side of each image, in pixels.

    Raises:
        ValueError: there is no image.
    """
    if not images:
        raise ValueError("a grid needs at least one image")
    sizes = [_scaled(each.image, edge) for each in images]
    high = max(height for _, height in sizes) + _LINE * max(len(each.lines) for each in images) + _GAP
    width = min(columns, len(images)) * (edge + _GAP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{-(-len(images) // columns) * high}">']
    for number, (each, (wide, tall)) in enumerate(zip(images, sizes, strict=True)):
        left, top = number % columns * (edge + _GAP), number // columns * high
        source = _data_url(each.image, (wide, tall))
        parts.append(f'<image x="{left}" y="{top}" width="{wide}" height="{tall}" href="{source}"/>')
        for line, text in enumerate(each.lines, start=1):
            place = f'x="{left}" y="{top + tall + line * _LINE - 3}"'
            parts.append(f"<text {place} {_TEXT}>{html.escape(shortened(text))}</text>")
    return Picture("".join([*parts, "</svg>"]))


def _scaled(image: Image.Image, edge: int) -> tuple[int, int]:
    """Return width and height of which the longer one is ``edge``; a strip keeps one pixel."""
    share = edge / max(image.size)
    return max(1, round(image.width * share)), max(1, round(image.height * share))


def _data_url(image: Image.Image, size: tuple[int, int]) -> str:
    """Return the image, made smaller if it is larger; whoever shows a smaller one magnifies it."""
    shown = image.convert("RGB")
    if max(image.size) > max(size):
        shown = shown.resize(size, Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    shown.save(stream, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
