"""A working directory with pictures that are drawn for it, and the command line in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

QUICK = {
    "MLOPS_MODEL__BACKBONE": "test_resnet",
    "MLOPS_MODEL__PRETRAINED": "false",
    "MLOPS_MODEL__IMAGE_SIZE": "32",
    "MLOPS_MODEL__FROZEN_STAGES": "0",
    "MLOPS_TRAINING__EPOCHS": "6",
    "MLOPS_TRAINING__BATCH_SIZE": "8",
    "MLOPS_GATE__MAX_CALIBRATION_ERROR": "0.5",
}
LABELS = {"dark wood": (60, 30, 20), "grün": (60, 160, 60), "sky": (120, 170, 230)}


class Journey:
    """A working directory with pictures, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {key: value for key, value in os.environ.items() if key != "MLOPS_HOME"} | QUICK
        generator = np.random.default_rng(0)
        for label, colour in LABELS.items():
            place = folder / "my photos" / label
            place.mkdir(parents=True)
            for number in range(24):
                noise = np.clip(np.array(colour) + generator.normal(0, 25, (40, 48, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(noise).save(place / f"Bild {number}.PNG")

    def run(self, *words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vision_mlops", *words]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)
