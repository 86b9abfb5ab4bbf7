"""Name, colours, logo and texts that a project gives the web frontend: a folder with ``brand.yml`` and ``logo.svg``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vision_mlops.core.errors import ConfigError, in_plain_words, problem_of_file
from vision_mlops.core.text import nearest
from vision_mlops.core.yaml_text import read_yaml

BRAND, LOGO, STYLES = "brand.yml", "logo.svg", "brand.css"
SURFACES = {"light": ("#f3f5f3", "#ffffff"), "dark": ("#0e1312", "#161d1b")}
"""Backgrounds of texts in the accent colour, by theme: --ground and --panel of app.css."""
LEAST_CONTRAST = 4.5
"""Of text of normal size, WCAG 2.2, 1.4.3."""
_LOGO_BYTES = 100_000
_ACTIVE = re.compile(
    rb"<script|<foreignobject|\son\w+\s*=|javascript:|(?:href|src)\s*=\s*[\"']\s*(?:https?:)?//", re.IGNORECASE
)
_Colour = tuple[float, float, float]


def _colour(text: str) -> str:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError(f"{text!r} is not a colour such as #0b6456")
    return text.lower()


Colour = Annotated[str, AfterValidator(_colour)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Accent(_Strict):
    """Colour of links, buttons and marks, in the light and in the dark theme."""

    light: Colour = "#0b6456"
    dark: Colour = "#62d3b4"


class BrandFile(_Strict):
    """Content of ``brand.yml``; an empty text leaves the page as it is."""

    title: str = Field("", max_length=80, description="Heading of all pages.")
    lead: str = Field("", max_length=400, description="Text above the field for images.")
    foot: str = Field("", max_length=200, description="Text at the foot of all pages.")
    accent: Accent = Accent()


@dataclass(frozen=True, slots=True)
class Brand:
    """What a brand changes.

    Attributes:
        texts: From its file.
        files: Further static files by name: styles, and the logo where there is one.
    """

    texts: BrandFile
    files: dict[str, bytes]

    @property
    def has_logo(self) -> bool:
        """Whether it has a logo of its own."""
        return LOGO in self.files


def load_brand(folder: Path) -> Brand:
    """Read and check a brand.

    Args:
        folder: Folder with ``brand.yml`` and, optionally, ``logo.svg``.

    Raises:
        ConfigError: names the file, the key, and what is accepted there.
    """
    file = folder / BRAND
    try:
        content = read_yaml(file.read_text(encoding="utf-8")) or {}
        texts = BrandFile.model_validate(content)
    except ValidationError as error:
        raise ConfigError(*_explained(file, error)) from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} cannot be read: {problem_of_file(error)}", "see docs/how_to/web_app.md") from error
    for theme, colour in texts.accent.model_dump().items():
        _check_contrast(file, theme, colour)
    files = {STYLES: _styles(texts.accent).encode()}
    if (logo := folder / LOGO).is_file():
        files[LOGO] = _logo(logo)
    return Brand(texts, files)


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _explained(file: Path, error: ValidationError) -> tuple[str, str]:
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = Accent.model_fields if len(first["loc"]) > 1 else BrandFile.model_fields
        return f"{file}: unknown key {key!r}", nearest(str(first["loc"][-1]), known)
    return (
        f"{file}: {key or 'the file'}: {in_plain_words(first)[0]}",
        "see docs/how_to/web_app.md",
    )


def _check_contrast(file: Path, theme: str, colour: str) -> None:
    least = _least_contrast(theme, colour)
    if least >= LEAST_CONTRAST:
        return
    away = "#000000" if theme == "light" else "#ffffff"
    similar = (_mixed(colour, away, share / 100) for share in range(1, 101))
    better = next(found for found in similar if _least_contrast(theme, found) >= LEAST_CONTRAST)
    raise ConfigError(
        f"{file}: accent.{theme}: {colour} has a contrast of {least:.1f} to its background, but text needs {LEAST_CONTRAST}",
        f"{better} has enough",
    )


def _least_contrast(theme: str, colour: str) -> float:
    return min(contrast(colour, surface) for surface in (*SURFACES[theme], _tint(theme, colour)))


def _styles(accent: Accent) -> str:
    light, dark = accent.light, accent.dark
    values = {
        "accent": (light, dark),
        "accent-strong": (_mixed(light, "#000000", 0.25), _mixed(dark, "#ffffff", 0.35)),
        "on-accent": ("#ffffff", SURFACES["dark"][0]),
        "tint": (_tint("light", light), _tint("dark", dark)),
    }
    lines = "".join(f"  --{name}: light-dark({one}, {other});\n" for name, (one, other) in values.items())
    return f":root {{\n{lines}}}\n"


def _logo(file: Path) -> bytes:
    content = file.read_bytes()
    if b"<svg" not in content[:1000]:
        raise ConfigError(f"{file} is not an SVG image", "save the logo as SVG")
    if len(content) > _LOGO_BYTES:
        raise ConfigError(f"{file} has {len(content):,} bytes, more than {_LOGO_BYTES:,}", "simplify the drawing")
    if found := _ACTIVE.search(content):
        raise ConfigError(
            f"{file} has {found[0].decode(errors='replace').strip()!r}: a logo must have no script and load nothing",
            "save it as plain SVG",
        )
    return content


def _tint(theme: str, colour: str) -> str:
    return _mixed(SURFACES[theme][1], colour, 0.1)


def _mixed(one: str, other: str, share: float) -> str:
    pairs = zip(_channels(one), _channels(other), strict=True)
    return "#" + "".join(f"{round(255 * (a + (b - a) * share)):02x}" for a, b in pairs)


def _channels(colour: str) -> _Colour:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def _luminance(colour: str) -> float:
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in _channels(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
