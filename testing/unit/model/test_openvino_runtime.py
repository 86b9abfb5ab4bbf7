"""Signals reach a process that has freed a model, whichever thread freed it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: what it checks for is a segmentation fault.
_SCRIPT = """
import os, signal, sys, threading
import numpy as np
from vision_mlops.model.openvino_runtime import load_openvino, shared_core

load_openvino()
from openvino import Model, opset13 as opset

def compiled():
    values = opset.parameter([1, 64], np.float32)
    product = opset.matmul(values, opset.constant(np.ones((64, 64), np.float32)), False, False)
    return shared_core().compile_model(Model([opset.result(product)], [values]), "CPU", {})

models = [compiled(), compiled()]
if sys.argv[1] == "thread":
    thread = threading.Thread(target=models.clear)
    thread.start()
    thread.join()
else:
    del models[0]
    del models[0]
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.sigtimedwait([signal.SIGUSR1], 5)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("freed", ["thread", "in order"])
def test_ctrl_c_after_a_model_was_freed(freed: str) -> None:
    ended = subprocess.run([sys.executable, "-c", _SCRIPT, freed], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "interrupted\n"), ended.stderr


def test_no_other_module_makes_a_core() -> None:
    package = Path(__file__).parents[3] / "src" / "vision_mlops"
    made = [path.name for path in package.rglob("*.py") if "Core()" in path.read_text()]
    assert made == ["openvino_runtime.py"]
