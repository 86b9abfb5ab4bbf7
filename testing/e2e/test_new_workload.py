"""From a folder of images to a registered model with no code and no key edited: ``mlops new``, then ``mlops run``.

Two kinds of images that the shipped workload knows nothing of: digits of 8 x 8 pixels that come with scikit-learn, and drawn
shapes on cluttered ground, split already, of another size and number of classes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from vision_mlops.data.manifest import read_manifest
from vision_mlops.evaluation.evaluate import read_evaluation
from vision_mlops.model.bundle import read_bundle

pytestmark = pytest.mark.slow


def digits(folder: Path) -> None:
    """Twenty scanned digits of each of six classes."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    for digit in range(6):
        place = folder / str(digit)
        place.mkdir(parents=True)
        for number, pixels in enumerate(scans.images[scans.target == digit][:20]):
            Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(place / f"{number}.png")


def shapes(folder: Path) -> None:
    """Discs, squares and triangles of any colour, place and size; 20 of each in train, 8 in test."""
    generator = np.random.default_rng(3)
    for split, count in {"train": 20, "test": 8}.items():
        for corners, label in {0: "disc", 4: "square", 3: "triangle"}.items():
            place = folder / split / label
            place.mkdir(parents=True)
            for number in range(count):
                ground = generator.integers(0, 255, (9, 12, 3), dtype=np.uint8)
                image = Image.fromarray(ground).resize((120, 90), Image.Resampling.BICUBIC)
                radius = int(generator.integers(20, 34))
                x, y = int(generator.integers(38, 82)), int(generator.integers(38, 52))
                colour = tuple(int(value) for value in generator.integers(0, 255, 3))
                pen = ImageDraw.Draw(image)
                if corners:
                    pen.regular_polygon((x, y, radius), corners, rotation=int(generator.integers(0, 90)), fill=colour)
                else:
                    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
                image.filter(ImageFilter.GaussianBlur(0.7)).save(place / f"{number}.jpg", quality=90)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("make", "classes", "floor"), [(digits, 6, 0.8), (shapes, 3, 0.8)])
def test_new_then_run(tmp_path: Path, make: Callable[[Path], None], classes: int, floor: float) -> None:
    name = make.__name__
    make(tmp_path / "images" / name)

    def mlops(*words: str) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "MLOPS_HOME"}
        environment["OMP_NUM_THREADS"] = "1"  # other tests want the other processor
        command = [sys.executable, "-m", "vision_mlops", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    told = mlops("new", name, "--images", f"images/{name}")
    assert told.rstrip().endswith(f"mlops run --workload {name}")
    assert "verdict: promote" in mlops(*told.rstrip().splitlines()[-1].split()[1:])
    outputs = tmp_path / "outputs"
    assert len(read_bundle(outputs / "bundles" / name).classes) == classes
    assert read_evaluation(outputs / "reports" / name).metrics["accuracy"] >= floor
    manifest = read_manifest(outputs / "data" / name)
    assert manifest.source.endswith(f"images/{name}")
    if name == "shapes":
        assert sum(manifest.counts()["test"].values()) == 24, "the folder's own test split is kept"
    assert f"{name}:1" in mlops("models", "explain", f"{name}@champion")
    assert "4 of 4 steps reused" in mlops("run", "--workload", name)
