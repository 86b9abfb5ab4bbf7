"""What the machine offers to training: precision, memory allocation, processes."""

from __future__ import annotations

import ctypes
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch

from vision_mlops.config.workload import Training

# Constants of glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory instead of giving each large tensor back to the system.

    On a CPU each step allocates the same hundreds of megabytes; without this every one of its pages is mapped, zeroed and
    unmapped each time. Measured in ``benchmarks/training.py``. Does nothing off Linux/glibc.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6")
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28))
    return all(libc.mallopt(option, value) for option, value in settings)


def precision(training: Training) -> Literal["32-true", "bf16-mixed"]:
    """Return Lightning's precision: bf16 if asked for, or if the processor computes it faster than fp32."""
    if training.precision != "auto":
        return "bf16-mixed" if training.precision == "bf16" else "32-true"
    if training.accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.ops.mkldnn._is_mkldnn_bf16_supported() and _has_matrix_units() else "32-true"


def _has_matrix_units() -> bool:
    """Return whether there is AMX. With AVX-512 alone, bf16 trains at half the speed of fp32 (17 against 41 images/s)."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "amx_bf16" in cpuinfo.read_text()


def rank() -> int:
    """Return the number of this process among those that torchrun started; 0 without it."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """Return the number of those processes on this machine, each with a device of its own."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def library_versions() -> dict[str, str]:
    """Return the versions of what determines a trained model."""
    names = ("torch", "timm", "pytorch-lightning", "onnx", "openvino", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}
