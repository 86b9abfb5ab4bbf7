"""The guide to own code, executed as it stands, on images that are drawn for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from testing.support.quick_training import write_colours

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "how_to" / "own_code.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_commands_of_the_guide(tmp_path: Path) -> None:
    for name, text in re.findall(r'^```\w+ title="(\S+\.\w+)"\n(.*?)^```$', GUIDE, re.DOTALL | re.MULTILINE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "data").symlink_to(ROOT / "data")
    environment = {key: value for key, value in os.environ.items() if key != "MLOPS_HOME"} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLOPS_DATA__SOURCE": "folder",
        "MLOPS_DATA__PATH": str(write_colours(tmp_path / "colours")),
        "MLOPS_MODEL__IMAGE_SIZE": "32",
        "MLOPS_TRAINING__EPOCHS": "1",
        "MLOPS_TRAINING__BATCH_SIZE": "8",
        "COLUMNS": "200",  # no line is broken
        "MLOPS_GATE__MIN_ACCURACY": "0.0",
        "MLOPS_GATE__MAX_CALIBRATION_ERROR": "1.0",
    }

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    checked, used = (run(block) for block in re.findall(r"^```bash\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE))
    assert "top_2 1.0000 reaches the floor of 0.6" in checked
    assert "verdict: promote" in checked
    assert "with my_code/images.py, my_code/nets.py" in used
    bundle = json.loads((tmp_path / "outputs" / "bundles" / "fabric_own" / "bundle.json").read_text(encoding="utf-8"))
    assert set(bundle["own_code"]) == {"my_code/images.py", "my_code/nets.py"}
    assert bundle["backbone"] == "my_code.nets:small_net"
    # The graph has no need of the code.
    (tmp_path / "my_code").rename(tmp_path / "gone")
    assert "red" in run("mlops predict fabric_own@champion colours/red")
