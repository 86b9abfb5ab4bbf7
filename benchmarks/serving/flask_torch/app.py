"""What most tutorials show: Flask and gunicorn around a PyTorch network in eager mode and full precision."""

import io
import json
import os
from pathlib import Path

import numpy as np
import torch
from flask import Flask, request
from PIL import Image
from safetensors.torch import load_file

if torch.version.cuda is None:
    # The torchvision wheel, which timm imports, expects this operator of its own extension; beside a CPU build of torch
    # that does not load. Nothing here calls it.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    library.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")

import timm

torch.set_num_threads(1)
bundle = Path(os.environ["BUNDLE"])
described = json.loads((bundle / "bundle.json").read_text())
classes, size = described["classes"], described["preprocessing"]["image_size"]

weights = load_file(bundle / "weights.safetensors")
mean, std = weights.pop("mean"), weights.pop("std")
network = timm.create_model(described["backbone"], num_classes=len(classes))
backbone = {name.removeprefix("backbone."): tensor for name, tensor in weights.items() if name.startswith("backbone.")}
head = {f"{network.default_cfg['classifier']}.{name}": weights[f"head.{name}"] for name in ("weight", "bias")}
network.load_state_dict(backbone | head)
network.eval()
app = Flask(__name__)


@app.post("/score")
def score() -> dict[str, list[dict[str, str | float]]]:
    image = Image.open(io.BytesIO(request.get_data())).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        logits = network((pixels - mean) / std)
        probabilities = (logits / described["temperature"]).softmax(1)[0]
    best = probabilities.topk(min(5, len(classes)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return {"predictions": [{"label": classes[i], "probability": p} for i, p in pairs]}
