"""BentoML: a service class whose endpoint takes an image as the body of the request."""

import json
import os
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import openvino
from PIL import Image


@bentoml.service(workers=int(os.environ["WORKERS"]))
class Classifier:
    def __init__(self) -> None:
        bundle = Path(os.environ["BUNDLE"])
        described = json.loads((bundle / "bundle.json").read_text())
        self.classes, self.size = described["classes"], described["preprocessing"]["image_size"]
        options = {"ENABLE_CPU_PINNING": False} if os.environ.get("UNPINNED") else {}
        self.model = openvino.Core().compile_model(bundle / "model.onnx", "CPU", options)

    @bentoml.api(route="/score")
    def score(self, image: Image.Image, /) -> dict[str, Any]:
        pixels = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        probabilities = self.model([np.asarray(pixels)[None]])["probabilities"][0]
        best = probabilities.argsort()[::-1][:5]
        return {"predictions": [{"label": self.classes[i], "probability": float(probabilities[i])} for i in best]}
