"""A dataset with known problems: photos made by the test, and one of everything that can be wrong."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

CLASSES = ("circle", "plain <b>&", "stripes")
SIZE = (200, 150)


@dataclass(slots=True)
class Planted:
    """Where the problems are: paths below ``root`` of each kind, as they are shown in a report."""

    root: Path
    expected: dict[str, set[str]] = field(default_factory=dict)

    def add(self, kind: str, *paths: Path) -> None:
        """Note that these files are to be found as ``kind``."""
        shown = {os.fsencode(p.relative_to(self.root)).decode("utf-8", "backslashreplace") for p in paths}
        self.expected.setdefault(kind, set()).update(shown)


def photo(seed: int, label: str = "circle", size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture of its own for each seed, with light, texture and noise as in a photo; the class decides its shape."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(40, 200, (5, 6, 3)).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float64)
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    if label == CLASSES[0]:
        centre = generator.uniform(0.3, 0.7, 2) * size
        inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < (min(size) * generator.uniform(0.2, 0.3)) ** 2
        pixels = np.where(inside[..., None], 255 - pixels, pixels)
    elif label == CLASSES[2]:
        angle = generator.uniform(0, 3.1)
        pixels += 45 * np.sign(np.sin((x * np.cos(angle) + y * np.sin(angle)) / generator.uniform(3, 5)))[..., None]
    pixels = pixels + generator.normal(0, 7, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    """Write an image in the format of its suffix; JPEGs at quality 92 unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **({"quality": 92} | options if path.suffix == ".jpg" else options))
    return path


def make_clean(root: Path, count: int, *, splits: tuple[str, ...] = ("",)) -> Path:
    """``count`` different images of each class in each split."""
    for place, split in enumerate(splits):
        for number, label in enumerate(CLASSES):
            for index in range(count):
                save(photo(100_000 * place + 1000 * number + index, label), root / split / label / f"{index:03d}.jpg")
    return root


def plant(root: Path) -> Planted:
    """Put one of each problem into a clean folder with train and test, made by :func:`make_clean`."""
    planted = Planted(root)
    train, test = root / "train", root / "test"
    circle, plain, stripes = (train / label for label in CLASSES)
    whole = (circle / "000.jpg").read_bytes()
    truncated, empty, text, noise = (circle / name for name in ("cut.jpg", "empty.jpg", "text.jpg", "noise.png"))
    truncated.write_bytes(whole[: int(len(whole) * 0.9)])
    empty.write_bytes(b"")
    text.write_text("this is no image")
    save(photo(900_000), noise)
    broken = bytearray(noise.read_bytes())
    broken[5000:5100] = bytes(100)
    noise.write_bytes(broken)
    planted.add("corrupt", truncated, empty, noise)
    planted.add("not-an-image", text)
    copy = circle / "copy of 001 ü #1 100% 'q' \"d\".jpg"
    shutil.copyfile(circle / "001.jpg", copy)
    planted.add("exact-duplicate", circle / "001.jpg", copy)
    again = save(Image.open(circle / "002.jpg"), circle / "re-encoded.jpg", quality=50)
    smaller = save(Image.open(circle / "002.jpg").resize((110, 82)), circle / "smaller.png")
    brighter = save(
        Image.open(circle / "002.jpg").point(lambda value: min(255, round(value * 1.08))), circle / "lit.jpg"
    )
    planted.add("near-duplicate", circle / "002.jpg", again, smaller, brighter)
    leaked = test / CLASSES[0] / "leaked.jpg"
    shutil.copyfile(circle / "003.jpg", leaked)
    near = save(Image.open(circle / "004.jpg"), test / CLASSES[0] / "leaked nearly.jpg", quality=60)
    planted.add("leak", circle / "003.jpg", leaked, circle / "004.jpg", near)
    shutil.copyfile(circle / "005.jpg", stripes / "conflict.jpg")
    near = save(Image.open(circle / "006.jpg"), plain / "nearly.jpg", quality=60)
    planted.add("conflict", circle / "005.jpg", stripes / "conflict.jpg", circle / "006.jpg", near)
    planted.add("dark", save(photo(900001, CLASSES[2]).point(lambda value: value // 5), plain / "dark.jpg"))
    planted.add("bright", save(photo(900002, CLASSES[2]).point(lambda value: 222 + value // 8), plain / "bright.jpg"))
    planted.add(
        "low-contrast", save(photo(900003, CLASSES[2]).point(lambda value: 110 + value // 9), plain / "flat.jpg")
    )
    planted.add("blank", save(Image.new("RGB", SIZE, (90, 120, 200)), plain / "blank.jpg"))
    planted.add("blurred", save(photo(900004, CLASSES[1]).filter(ImageFilter.GaussianBlur(6)), plain / "blurred.jpg"))
    planted.add("too-small", save(photo(900005, CLASSES[1], (40, 30)), plain / "tiny.png"))
    planted.add("odd-aspect", save(photo(900006, CLASSES[1], (900, 120)), plain / "strip.jpg"))
    planted.add("odd-size", save(photo(900007, CLASSES[1], (1000, 750)), plain / "large.jpg"))
    planted.add("loose", save(photo(900008, CLASSES[1]), root / "train" / "loose.jpg"))
    odd = Path(os.fsdecode(os.fsencode(plain) + b"/caf\xe9 <b>.jpg"))
    shutil.move(save(photo(900009, CLASSES[1]), plain / "name.jpg"), odd)
    planted.add("bad-name", odd)
    (test / "nothing").mkdir()
    return planted
