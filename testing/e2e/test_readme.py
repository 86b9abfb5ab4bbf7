"""The README: its commands, executed in order on photos drawn for it, its folder tree, and the links of all documents."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from testing.support.guide_run import fixed_ports
from testing.support.journey import QUICK

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
HERE, BESIDE, ON_AZURE, INSTALLATION = "", "In another terminal", "On Azure", "Installation"
DOCUMENTS = [README, *sorted((ROOT / "docs").rglob("*.md")), ROOT / "data" / "README.md"]


def blocks() -> Iterator[tuple[str, str]]:
    """Title and text of each block of commands."""
    yield from re.findall(
        r"^```bash(?: title=\"([^\"]*)\")?\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.fixture(scope="module")
def targets() -> set[str]:
    """Targets that `make help` lists, of the Makefile and of what it includes."""
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in listed.splitlines()}


def test_the_documents_name_targets_that_exist(targets: set[str]) -> None:
    assert {"demo", "test", "setup", "site"} <= targets
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE))
        assert named <= targets, f"{document.relative_to(ROOT)}: {named - targets}"


def test_make_help_lists_every_target(targets: set[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) <= targets


def test_links_and_pictures_exist() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)|<img src=\"(?!https?://)([^\"]+)", text):
            assert (document.parent / "".join(target)).exists(), f"{document.relative_to(ROOT)}: {target}"


def test_the_folder_tree_is_that_of_the_repository() -> None:
    """Every place of the tree exists, and every folder of the repository is in it."""
    tree = re.search(r"^```\n(├── .*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert tree
    places, current = [], Path()
    for line in tree[1].splitlines():
        found = re.fullmatch(r"((?:│   )*)├── (\S+) +<- \S.*", line)
        assert found, line
        current = Path(*current.parts[: len(found[1]) // 4], found[2])
        places.append(str(current))
    assert len(set(places)) == len(places)
    assert [place for place in places if not (ROOT / place).exists()] == []
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {line.split("/")[0] for line in tracked.splitlines() if "/" in line} - {".devcontainer"}
    assert folders <= set(places), folders - set(places)


def photos(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for label, colour in {"blackbird": (40, 30, 30), "robin": (190, 90, 50)}.items():
        (folder / label).mkdir(parents=True)
        for number in range(24):
            noise = np.clip(np.array(colour) + generator.normal(0, 25, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noise).save(folder / label / f"{number}.jpg")


@pytest.fixture
def ports() -> Iterator[None]:
    with fixed_ports():
        yield


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ports")
def test_commands_of_the_readme(tmp_path: Path) -> None:
    """Block by block; what installs is left to `make demo` of continuous integration, and to the tests of `mlops init`."""
    photos(tmp_path / "photos" / "birds")
    environment = {key: value for key, value in os.environ.items() if key != "MLOPS_HOME"} | QUICK
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    servers: list[subprocess.Popen[bytes]] = []
    ran = []
    try:
        for title, text in blocks():
            ran.append(title)
            if title == INSTALLATION:
                continue
            if title == BESIDE:
                servers.append(subprocess.Popen(["bash", "-c", f"exec {text}"], cwd=tmp_path, env=environment))
                _wait(servers[-1], "http://127.0.0.1:8080/")
                continue
            assert title in (HERE, ON_AZURE), f"unknown title {title!r}"
            emulated = ["mlops", "azure", "emulate", "--"] if title == ON_AZURE else []
            command = [*emulated, "bash", "-xeuo", "pipefail", "-c", text]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
            assert re.search(r"^1\.jpg +200 +(robin|blackbird)", done.stdout, re.MULTILINE), done.stdout
    finally:
        for server in servers:
            server.send_signal(signal.SIGINT)
            server.wait(60)
        leave = ["mlops", "endpoint", "delete", "birds", "--on", "local"]
        subprocess.run(leave, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert {HERE, BESIDE, ON_AZURE, INSTALLATION} == set(ran)
    assert (tmp_path / "workloads" / "birds.yml").is_file()
    assert (tmp_path / "outputs" / "checks" / "birds" / "report.html").is_file()


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
