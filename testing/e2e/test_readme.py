"""The README's commands, executed as they stand; the environment makes the training short, nothing else differs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from testing.support.guide_run import fixed_ports

ROOT = Path(__file__).resolve().parents[2]
QUICK = {
    "MLOPS_TRAINING__EPOCHS": "1",
    "MLOPS_MODEL__IMAGE_SIZE": "64",
    "MLOPS_GATE__MIN_ACCURACY": "0.1",
    "MLOPS_GATE__MIN_RECALL_PER_CLASS": "0",
    "MLOPS_GATE__MAX_CALIBRATION_ERROR": "1",
}


def commands() -> Iterator[str]:
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        yield from (line for line in block.splitlines() if line.strip())


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    text = (ROOT / "README.md").read_text()
    named = {word for line in commands() for word in re.findall(r"^make ([a-z-]+)", line)}
    listed = re.search(r"`make help` lists the tasks: (.*?)\. `pip", text, re.DOTALL)
    assert listed
    targets = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets
    assert set(re.findall(r"`([a-z-]+)`", listed[1])) == targets - {"help"}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_commands_of_the_readme(tmp_path: Path) -> None:
    for folder in ("data/examples", "src/vision_mlops/jobs/pipelines"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    environment = {key: value for key, value in os.environ.items() if key != "MLOPS_HOME"} | QUICK
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    servers: list[subprocess.Popen[bytes]] = []
    ran = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(fixed_ports())
        for line in commands():
            if line.startswith("make "):
                continue
            ran += 1
            if line.startswith("mlops serve"):
                servers.append(subprocess.Popen(line.split(), cwd=tmp_path, env=environment))
                stack.callback(servers[-1].wait, 60)
                stack.callback(servers[-1].terminate)
                _wait(servers[-1], "http://127.0.0.1:8000/health/ready")
                continue
            done = subprocess.run(
                line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            if line.startswith("curl"):
                assert '"predictions"' in done.stdout, done.stdout
    assert ran >= 12
    assert len(servers) == 1
    assert (tmp_path / "outputs" / "why.png").is_file()
    assert (tmp_path / "outputs" / "champion" / "bundle.json").is_file()


def _wait(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer")
