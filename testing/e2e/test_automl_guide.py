"""docs/how_to/automl_images.md: its commands as they stand, against the emulator; only the workload is a small one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from testing.support.emulator_process import emulator
from testing.support.quick_training import write_colours

from vision_mlops.config.azure_settings import VARIABLES, load_azure_settings

GUIDE = Path(__file__).parents[2] / "docs" / "how_to" / "automl_images.md"
WORKLOAD = """
name: textile
data: {path: photos, min_images_per_class: 1}
"""


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for word, text in found if word == language]


def test_settings_of_the_guide(tmp_path: Path) -> None:
    (settings,) = blocks("")
    (tmp_path / ".env").write_text(settings)
    found = load_azure_settings(env_file=tmp_path / ".env", environ={})
    assert found.gpu_is_set
    names = [name for name in VARIABLES if "_AUTOML_" in name]
    assert len(names) == 2
    assert [name for name in names if f"`{name}`" not in GUIDE.read_text(encoding="utf-8")] == []


@pytest.mark.slow
def test_commands_of_the_guide(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    write_colours(folder / "photos")
    (folder / "workloads").mkdir()
    (folder / "workloads" / "textile.yml").write_text(WORKLOAD)
    (settings,) = blocks("")
    gpu = dict(line.split("=") for line in settings.split() if line.startswith("MLOPS_AZURE_GPU_"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    results = folder / "outputs" / "benchmarks" / "textile"
    with emulator(tmp_path / "state") as running:
        environment = {**running.environment, **gpu, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
        for line in lines:
            done = subprocess.run(
                line.split(), cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=250
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            if " run " in line:
                assert re.search(r"^automl-images +1\.0000 ", done.stdout, re.MULTILINE)
                assert re.search(r"accuracy 1\.0000", done.stdout + done.stderr)
                assert "vm_hour.Standard_NC4as_T4_v3" in (results / "automl-images" / "result.json").read_text()
            else:
                assert re.search(r"job automl-textile-\S+ is archived", done.stdout + done.stderr)
                assert re.search(r"\d+ files removed from azureml://", done.stdout + done.stderr)
                assert not list((results / ".work").glob("automl-images/*"))
    assert len(lines) == 2
