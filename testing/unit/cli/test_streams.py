"""What commands do on odd terminals, in odd places, and where nobody reads what they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from testing.support.bundles import make_bundle
from testing.support.prepared_data import make_prepared

from vision_mlops.cli.output import emit_table

CONFIG = ("config", "show", "-w", "textile")


def mlops(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "vision_mlops", *words]
    return subprocess.run(command, capture_output=True, check=False, cwd=cwd, env={**os.environ, **environment})


def in_shell(script: str) -> subprocess.CompletedProcess[str]:
    """Run bash with ``$mlops`` as the command, buffered as it is for a user."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment["mlops"] = f"{sys.executable} -m vision_mlops"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    """A workload with two classes, whose names few encodings have."""
    make_prepared(tmp_path / "prepared")
    (tmp_path / "photos").mkdir()
    for old, new in (("red", "猫"), ("blue", "é")):
        (tmp_path / "prepared" / "train" / old).rename(tmp_path / "photos" / new)
    file = tmp_path / "names.yml"
    file.write_text("name: names\ndata: {path: photos, min_images_per_class: 1}\n")
    return file


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8"])
def test_names_that_the_terminal_cannot_show(workload: Path, encoding: str) -> None:
    words = ("data", "prepare", "-w", "names.yml", "--out", "out")
    done = mlops(*words, cwd=workload.parent, PYTHONIOENCODING=encoding)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    cat = rb"\u732b" if encoding in ("latin-1", "cp1252") else "猫".encode()
    assert cat in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_json_stays_json_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    make_prepared(tmp_path / "data")
    bundle = make_bundle(tmp_path / "bundle")
    image = tmp_path / "😀é.png"
    (tmp_path / "data" / "train" / "red" / "000.png").rename(image)
    done = mlops("predict", str(bundle), str(image), "--json", PYTHONIOENCODING=encoding)
    assert json.loads(done.stdout.decode(encoding))[0]["image"] == str(image)


@pytest.mark.parametrize(
    ("columns", "width"), [("0", 200), ("1", 1), ("20", 20), ("-5", 200), ("abc", 200), ("1000", 1000)]
)
def test_odd_widths(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys, "__stdout__", None)  # no terminal, even where the tests have one
    emit_table([{"name": "x" * 300}], as_json=False)
    assert max(map(len, capsys.readouterr().out.splitlines())) == min(width, 300)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("$mlops config show -w textile | true; exit ${PIPESTATUS[0]}", 141),
        ("$mlops --help | true; exit ${PIPESTATUS[0]}", 141),
        ("$mlops config show -w missing 2>&1 | true; exit ${PIPESTATUS[0]}", 141),
        ("$mlops config show -w textile > /dev/full", 2),
        ("$mlops config show -w missing 2> /dev/full", 2),
        ("$mlops config show -w textile >&-", 0),
        ("$mlops config show -w textile >&- 2>&- <&-", 0),
        ("env -u HOME $mlops config show -w textile", 0),
        ("HOME=/nonexistent TMPDIR=/nonexistent $mlops config show -w textile", 0),
        ("MLOPS_HOME=~nobody-at-all/x $mlops config show -w textile", 2),
    ],
)
def test_streams_that_are_closed_or_full_and_homes_that_are_missing(script: str, code: int) -> None:
    done = in_shell(script)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_a_closed_stream_is_not_taken_by_a_file(tmp_path: Path) -> None:
    """The first file that a process opens gets the descriptor of what was closed, and then what is printed."""
    make_prepared(tmp_path / "data")
    done = in_shell(f"cd {tmp_path} && $mlops data register data/train --name train >&- 2>&-")
    assert done.returncode == 0
    listed = mlops("data", "list", "--json")
    assert [row["name"] for row in json.loads(listed.stdout)] == ["train"]


def test_a_deleted_working_folder_is_named(tmp_path: Path) -> None:
    script = (
        f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && unset MLOPS_HOME && $mlops data list"
    )
    done = in_shell(script)
    assert (done.returncode, done.stderr.splitlines()[-2]) == (2, "error: the working directory was deleted")


AT_EXIT = """
import atexit, os, signal, sys
from vision_mlops.cli import main
def press(*_): os.kill(os.getpid(), signal.SIGINT)
def fail(): raise KeyboardInterrupt
{}
main.main()
"""


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("main._run = fail; main.say = press", id="while the first is reported"),
        pytest.param("main._run = fail; main.standard_streams.finish = press", id="while the output is written"),
        pytest.param("atexit.register(press); main._run = fail", id="while Python exits"),
    ],
)
def test_a_second_ctrl_c_ends_with_130_as_the_first(how: str) -> None:
    command = [sys.executable, "-c", AT_EXIT.format(how)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (130, False), done.stderr
