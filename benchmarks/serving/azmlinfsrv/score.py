"""An entry script for Azure ML's inference server: init() loads the model, run() answers a raw request."""

import io
import json
import os
from pathlib import Path

import numpy as np
import openvino
from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse
from PIL import Image


def init() -> None:
    global classes, size, model
    bundle = Path(os.environ["AZUREML_MODEL_DIR"])
    described = json.loads((bundle / "bundle.json").read_text())
    classes, size = described["classes"], described["preprocessing"]["image_size"]
    options = {"ENABLE_CPU_PINNING": False} if os.environ.get("UNPINNED") else {}
    model = openvino.Core().compile_model(bundle / "model.onnx", "CPU", options)


@rawhttp
def run(request: AMLRequest) -> AMLResponse:
    image = Image.open(io.BytesIO(request.get_data(False)))
    pixels = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    probabilities = model([np.asarray(pixels)[None]])["probabilities"][0]
    best = probabilities.argsort()[::-1][:5]
    answer = {"predictions": [{"label": classes[i], "probability": float(probabilities[i])} for i in best]}
    return AMLResponse(json.dumps(answer), 200)
