"""FastAPI as its documentation sets it up, run by uvicorn: one endpoint that takes the bytes of an image."""

import io
import json
import os
from pathlib import Path
from typing import Annotated

import numpy as np
import openvino
from fastapi import Body, FastAPI
from PIL import Image

bundle = Path(os.environ["BUNDLE"])
described = json.loads((bundle / "bundle.json").read_text())
classes, size = described["classes"], described["preprocessing"]["image_size"]
options = {"ENABLE_CPU_PINNING": False} if os.environ.get("UNPINNED") else {}
model = openvino.Core().compile_model(bundle / "model.onnx", "CPU", options)
app = FastAPI()


@app.post("/score")
async def score(image: Annotated[bytes, Body(media_type="image/jpeg")]) -> dict[str, list[dict[str, str | float]]]:
    # On the event loop: a compiled model runs one call at a time, and a worker has nothing else to do meanwhile.
    pixels = Image.open(io.BytesIO(image)).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    probabilities = model([np.asarray(pixels)[None]])["probabilities"][0]
    best = probabilities.argsort()[::-1][:5]
    return {"predictions": [{"label": classes[i], "probability": float(probabilities[i])} for i in best]}
