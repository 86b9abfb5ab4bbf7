"""LitServe: a LitAPI with setup, decode, predict and encode, in workers of its own behind one HTTP process."""

import io
import json
import os
from pathlib import Path
from typing import Annotated, Any

import litserve
import numpy as np
import openvino
from fastapi import Body
from PIL import Image


class Classifier(litserve.LitAPI):
    def setup(self, device: str) -> None:
        bundle = Path(os.environ["BUNDLE"])
        described = json.loads((bundle / "bundle.json").read_text())
        self.classes, self.size = described["classes"], described["preprocessing"]["image_size"]
        options = {"ENABLE_CPU_PINNING": False} if os.environ.get("UNPINNED") else {}
        self.model = openvino.Core().compile_model(bundle / "model.onnx", "CPU", options)

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> np.ndarray:
        image = Image.open(io.BytesIO(request)).convert("RGB")
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR))

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.model([x[None]])["probabilities"][0]

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        best = output.argsort()[::-1][:5]
        return {"predictions": [{"label": self.classes[i], "probability": float(output[i])} for i in best]}


if __name__ == "__main__":
    api = Classifier(api_path="/score")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]))
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, log_level="warning")
