"""An ASGI application without a framework, run by granian, as one writes it for speed."""

import json
import os
from pathlib import Path

import cv2
import openvino
import simplejpeg

bundle = Path(os.environ["BUNDLE"])
described = json.loads((bundle / "bundle.json").read_text())
classes, size = described["classes"], described["preprocessing"]["image_size"]
model = openvino.Core().compile_model(
    bundle / "model.onnx", "CPU", {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
)
cv2.setNumThreads(1)


async def app(scope, receive, send):
    image, more = bytearray(), True
    while more:
        message = await receive()
        image += message.get("body", b"")
        more = message.get("more_body", False)
    # On the event loop: a worker has one thread for the model, and nothing else to do meanwhile.
    height, width, *_ = simplejpeg.decode_jpeg_header(image)
    scale = next((scale for scale in (8, 4, 2) if min(height, width) // scale >= size), 1)
    pixels = simplejpeg.decode_jpeg(
        image, "RGB", fastdct=True, fastupsample=True, min_height=height // scale, min_width=width // scale
    )
    probabilities = model([cv2.resize(pixels, (size, size))[None]])["probabilities"][0]
    best = probabilities.argsort()[::-1][:5]
    answer = {"predictions": [{"label": classes[i], "probability": float(probabilities[i])} for i in best]}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
