"""Makes torchvision importable beside a CPU build of torch; imported before anything that imports torchvision.

The torchvision wheel is linked against CUDA. Next to a CPU-only torch its extension does not load, and its import then fails
on two operators it expects. Declaring their schemas is enough, since nothing here calls them.
"""

from __future__ import annotations

import importlib.util

import torch

_declared: list[torch.library.Library] = []


def declare_operators() -> None:
    """Declare ``torchvision::nms`` and ``torchvision::qnms`` once, where torch has no CUDA but torchvision is there."""
    if _declared or torch.version.cuda or importlib.util.find_spec("torchvision") is None:
        return
    if torch._C._dispatch_has_kernel("torchvision::nms"):
        return
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _declared.append(library)


declare_operators()
