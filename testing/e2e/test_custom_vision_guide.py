"""docs/how_to/custom_vision.md: its commands as they stand, against the emulator; only the workload is a small one."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from testing.support.quick_training import write_colours
from testing.support.recorded_commands import World
from testing.support.vision_places import training_client, vision_place

from vision_mlops.config.custom_vision_settings import PREFIX, CustomVisionSettings

GUIDE = Path(__file__).parents[2] / "docs" / "how_to" / "custom_vision.md"
WORKLOAD = """
name: textile
data: {path: photos, min_images_per_class: 1}
"""


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for word, text in found if word == language]


def commands() -> Iterator[str]:
    for block in blocks("bash"):
        yield from (line for line in block.splitlines() if line.strip())


def test_every_setting_is_in_the_guide() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    names = [str(field.alias).removeprefix(PREFIX) for field in CustomVisionSettings.model_fields.values()]
    assert [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.slow
def test_commands_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    write_colours(folder / "photos")
    (folder / "workloads").mkdir()
    (folder / "workloads" / "textile.yml").write_text(WORKLOAD)
    (tmp_path / "world").mkdir()
    ran: list[str] = []
    with World.run_in(tmp_path / "world") as world, vision_place(tmp_path / "state") as place:
        place.loopback  # noqa: B018 - skips where the accounts are real
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**place.environment, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
        place.enter(monkeypatch)
        for line in commands():
            words = shlex.split(line)
            ran.append(" ".join(words[1:3]) if words[0] == "mlops" else words[0])
            if ran[-1] == "azure emulate":  # it has accounts of its own, and results that are not to be found later
                own = {name: value for name, value in environment.items() if not name.startswith(PREFIX)}
                done = subprocess.run(
                    words, cwd=folder, env=own, capture_output=True, text=True, check=False, timeout=300
                )
                shutil.rmtree(folder / "outputs")
            elif words[0].startswith("infrastructure/"):
                done = world.run(words[0].removeprefix("infrastructure/"), *words[1:])
            else:
                benchmarks, here = folder / "outputs" / "benchmarks", tmp_path / "benchmarks"
                if ran[-1] == "benchmark import":  # elsewhere, where nothing is known of the run
                    benchmarks.rename(here)
                elif ran[-1] == "benchmark clean":  # by who has run it
                    shutil.rmtree(benchmarks)
                    here.rename(benchmarks)
                done = subprocess.run(
                    words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
                )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            check(line, done, folder)
    assert len(ran) == len(set(ran)) == 8


def check(line: str, done: subprocess.CompletedProcess[str], folder: Path) -> None:
    """What a command of the guide is to lead to."""
    if "create.sh" in line:
        names = re.findall(rf"^({PREFIX}\w+)=\S+$", done.stdout, re.MULTILINE)
        assert names == re.findall(rf"^({PREFIX}\w+)=", blocks("")[0], re.MULTILINE), (
            "the settings, as the guide has them"
        )
    elif "azure emulate" in line:
        assert "predicted" in done.stdout + done.stderr
        assert training_client().call("GET", "projects") == []
    elif "benchmark run" in line:
        assert "Azure Custom Vision" in done.stdout + done.stderr or "custom-vision" in done.stdout
        assert len(training_client().call("GET", "projects")) == 1
    elif "benchmark report" in line:
        assert re.search(r"recorded on \d{4}-", done.stdout + done.stderr)
        assert "custom-vision" in (folder / "outputs" / "benchmarks" / "textile" / "report.html").read_text()
    elif "benchmark clean" in line:
        assert training_client().call("GET", "projects") == []
