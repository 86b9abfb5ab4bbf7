from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vision_mlops.core.errors import DataError, MlopsError, PipelineError
from vision_mlops.jobs.local.parallel.partitions import split

Step = Callable[..., "subprocess.CompletedProcess[str]"]
NAMES = """
from pathlib import Path
def init(): pass
def run(mini_batch):
    return [Path(path).name for path in mini_batch]
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Five files: f0 to f4, the last in a folder below."""
    folder = tmp_path / "input"
    (folder / "nested").mkdir(parents=True)
    for i in range(4):
        (folder / f"f{i}.txt").write_text(str(i))
    (folder / "nested" / "f4.txt").write_text("4")
    return folder


@pytest.fixture
def command(tmp_path: Path, files: Path) -> Callable[..., tuple[list[str], Path]]:
    """Write an entry script and a spec; gives the command line and the working directory."""

    def write(script: str, **changes: Any) -> tuple[list[str], Path]:
        code = tmp_path / "code"
        code.mkdir(exist_ok=True)
        (code / "score.py").write_text(script)
        spec = {
            "entry_script": "score.py",
            "input": str(files),
            "mini_batch_size": 2,
            "max_concurrency": 1,
            "append_row_to": str(tmp_path / "out.txt"),
            **changes,
        }
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        return [
            sys.executable,
            "-m",
            "vision_mlops.jobs.local.parallel.mini_batches",
            str(tmp_path / "spec.json"),
        ], code

    return write


@pytest.fixture
def step(command: Callable[..., tuple[list[str], Path]]) -> Step:
    """Run a parallel step to its end."""

    def run(script: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        line, code = command(script, **changes)
        return subprocess.run(line, cwd=code, capture_output=True, text=True, timeout=120)

    return run


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended but was not waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def await_true(condition: Callable[[], bool], seconds: float = 60) -> bool:
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.02)
    return condition()


@pytest.mark.slow
def test_results_are_in_the_order_of_the_files(step: Step, tmp_path: Path) -> None:
    # The first mini-batch is the last to end.
    script = NAMES.replace("    return", "    import time; time.sleep(0.5 * ('f0' in mini_batch[0]))\n    return")
    result = step(script, mini_batch_size="2", max_concurrency=2)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.txt").read_text().split() == [f"f{i}.txt" for i in range(5)]
    assert "mini-batch 3 of 3: 1 of 1 item" in result.stdout
    assert "3 of 3 mini-batches and 5 of 5 items" in result.stdout
    assert [path.name for path in tmp_path.glob("*out*")] == ["out.txt"]


@pytest.mark.slow
def test_script_sees_its_folder_its_arguments_and_one_init_a_process(
    step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")  # lines stay whole all the same
    script = """
import logging, os, sys, time, neighbour
from pathlib import Path
started = []
def init():
    started.append(os.getpid())
    Path(f"started-{os.getpid()}").touch()
    logging.info("ready")
def run(mini_batch):
    while len(list(Path.cwd().glob("started-*"))) < 2:
        time.sleep(0.05)
    time.sleep(0.2)
    return [f"{os.getpid()} {len(started)} {sys.argv[1:]} {neighbour.VALUE}" for _ in mini_batch]
def shutdown():
    print("closed", os.getpid())
"""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "neighbour.py").write_text("VALUE = 'here'\n")
    result = step(script, program_arguments="--model 'a b' --top 3", max_concurrency=2, mini_batch_size=1)
    assert result.returncode == 0, result.stderr
    rows = [row.split(" ", 1) for row in (tmp_path / "out.txt").read_text().splitlines()]
    assert {row[1] for row in rows} == {"1 ['--model', 'a b', '--top', '3'] here"}
    pids = {row[0] for row in rows}
    assert len(pids) == 2
    assert {line for line in result.stdout.splitlines() if "closed" in line} == {f"closed {pid}" for pid in pids}
    assert result.stderr.count("INFO root: ready") == 2


@pytest.mark.slow
def test_warning_level_shows_failures_only(step: Step) -> None:
    result = step(NAMES, logging_level="WARNING")
    assert "mini-batch 1 of" not in result.stdout
    result = step(NAMES, logging_level="DEBUG")
    assert "mini-batch 1 of 3: given to process" in result.stdout


@pytest.mark.slow
def test_table_comes_as_frames_that_never_cross_a_file(step: Step, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("name,size\n" + "".join(f"item {i},{i}\n" for i in range(100)))
    script = """
def init(): pass
def run(mini_batch):
    assert list(mini_batch.index) == list(range(len(mini_batch)))
    return mini_batch.assign(double=mini_batch["size"] * 2)
"""
    given = {"input": str(table), "input_type": "uri_file", "mini_batch_size": "300", "max_concurrency": 2}
    result = step(script, **given)
    assert result.returncode == 0, result.stderr
    assert "4 of 4 mini-batches and 100 of 100 items" in result.stdout
    rows = (tmp_path / "out.txt").read_text().splitlines()
    assert rows == [f'"item {i}" {i} {2 * i}' for i in range(100)]
    result = step(script, **given, program_arguments="--append_row_dataframe_header true")
    assert (tmp_path / "out.txt").read_text().splitlines() == ["name size double", *rows]


def test_output_folder_gets_a_file(step: Step, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert step(NAMES, append_row_to=str(tmp_path / "out")).returncode == 0
    assert len((tmp_path / "out" / "parallel_run_step.txt").read_text().split()) == 5


def test_without_output_nothing_is_written(step: Step, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert step(NAMES, append_row_to=None).returncode == 0
    assert set(tmp_path.iterdir()) - set(before) == {tmp_path / "code", tmp_path / "spec.json"}


@pytest.mark.parametrize(("given", "code"), [({"error_threshold": 2}, 0), ({"error_threshold": 1}, 1)])
def test_missing_items_count(step: Step, tmp_path: Path, given: dict[str, int], code: int) -> None:
    (tmp_path / "out.txt").write_text("older\n")
    result = step(NAMES.replace("in mini_batch]", "in mini_batch[:1]]"), **given)
    assert result.returncode == code
    if code:
        assert "error: 2 items failed, and error_threshold is 1" in result.stderr
        assert (tmp_path / "out.txt").read_text() == "older\n"
    else:
        assert "mini-batch 1 of 3: 1 of 2 items" in result.stdout
        assert (tmp_path / "out.txt").read_text().split() == ["f0.txt", "f2.txt", "f4.txt"]


@pytest.mark.slow
def test_thresholds_in_the_program_arguments(step: Step) -> None:
    script = NAMES.replace("in mini_batch]", "in mini_batch[:1]]")
    result = step(script, program_arguments="--error_threshold 1")
    assert (result.returncode, "error_threshold is 1" in result.stderr) == (1, True)
    result = step(script, program_arguments="--allowed_failed_percent 50")
    assert (result.returncode, "67% of the mini-batches failed" in result.stderr) == (1, True)


def test_failing_batch_is_tried_again(step: Step, tmp_path: Path) -> None:
    script = """
from pathlib import Path
def init(): pass
def run(mini_batch):
    mark = Path("tried")
    if not mark.exists():
        mark.touch()
        raise ValueError("not yet")
    return mini_batch
"""
    result = step(script, max_retries=1, mini_batch_error_threshold=0)
    assert result.returncode == 0, result.stderr
    assert "mini-batch 1 of 3: attempt 1 of 2 failed: ValueError: not yet" in result.stdout
    assert 'raise ValueError("not yet")' in result.stderr
    assert len((tmp_path / "out.txt").read_text().split()) == 5


BROKEN = """
def init(): pass
def run(mini_batch):
    if mini_batch[0].endswith("f2.txt"):
        {what}
    return mini_batch
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("raise KeyError('lost')", "KeyError: 'lost'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("return None", "TypeError: run() returned NoneType, not a list, tuple or DataFrame"),
        ("import os; os._exit(7)", "its process ended with code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "its process was ended by signal 9"),
    ],
)
def test_batch_that_always_fails_is_counted(step: Step, tmp_path: Path, what: str, reason: str) -> None:
    script = BROKEN.format(what=what)
    result = step(script, max_retries=1, mini_batch_error_threshold=1, error_threshold=2)
    assert result.returncode == 0, result.stderr
    assert f"mini-batch 2 of 3: attempt 2 of 2 failed: {reason}" in result.stdout
    assert "2 of 3 mini-batches and 3 of 5 items" in result.stdout
    assert [Path(row).name for row in (tmp_path / "out.txt").read_text().split()] == ["f0.txt", "f1.txt", "f4.txt"]


def test_too_many_failed_batches(step: Step, tmp_path: Path) -> None:
    result = step(BROKEN.format(what="raise KeyError"), max_retries=0, mini_batch_error_threshold=0)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: 1 mini-batch failed, and mini_batch_error_threshold is 0")
    assert not (tmp_path / "out.txt").exists()


def test_all_failed_and_allowed_is_said(step: Step, tmp_path: Path) -> None:
    result = step(NAMES.replace("return", "raise ValueError; return"), max_retries=0)
    assert result.returncode == 0
    assert "warning: every mini-batch failed" in result.stdout
    assert (tmp_path / "out.txt").read_text() == ""


@pytest.mark.slow
def test_slow_batch_is_killed_and_tried_again(step: Step, tmp_path: Path) -> None:
    script = """
import os, time
from pathlib import Path
def init(): pass
def run(mini_batch):
    mark = Path("tried")
    if not mark.exists():
        mark.write_text(str(os.getpid()))
        time.sleep(60)
    return mini_batch
"""
    result = step(script, timeout=1.5, max_retries=1, mini_batch_error_threshold=0)
    assert result.returncode == 0, result.stderr
    assert "attempt 1 of 2 failed: it took longer than 1.5 seconds" in result.stdout
    assert len((tmp_path / "out.txt").read_text().split()) == 5
    assert not alive(int((tmp_path / "code" / "tried").read_text()))


@pytest.mark.slow
def test_death_is_seen_behind_a_process_left_behind(
    command: Callable[..., tuple[list[str], Path]], tmp_path: Path
) -> None:
    script = """
import os, time
from pathlib import Path
def init(): pass
def run(mini_batch):
    child = os.fork()
    if child == 0:
        time.sleep(1000)
        os._exit(0)
    Path("left").write_text(str(child))
    os._exit(7)
"""
    line, code = command(script, max_retries=0, mini_batch_error_threshold=0)
    log = tmp_path / "stdout.log"
    with log.open("w") as stream:
        process = subprocess.Popen(line, cwd=code, stdout=stream, stderr=stream, start_new_session=True)
        assert process.wait(timeout=120) == 1
    assert alive(int((code / "left").read_text())), "the process left behind holds the pipe all the time"
    os.killpg(process.pid, signal.SIGKILL)
    assert "its process ended with code 7" in log.read_text()


def test_failing_shutdown_is_said(step: Step, tmp_path: Path) -> None:
    result = step(NAMES + "def shutdown(): raise OSError('no')\n")
    assert result.returncode == 0
    assert "shutdown() failed: OSError: no" in result.stdout
    assert len((tmp_path / "out.txt").read_text().split()) == 5


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("def init(): raise OSError('no model')\ndef run(b): return b\n", "failed in init(): OSError: no model"),
        (
            "import os\ndef init(): os._exit(4)\ndef run(b): return b\n",
            "failed in init(): its process ended with code 4",
        ),
        ("import nowhere\n", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_script_that_does_not_start(step: Step, tmp_path: Path, script: str, message: str) -> None:
    result = step(script)
    assert result.returncode == 1
    assert message in result.stderr.splitlines()[-1]
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize(
    ("script", "given", "message"),
    [
        (NAMES, {"entry_script": "other.py"}, "the entry script other.py does not exist"),
        ("def init(): pass\n", {}, "score.py has no function run()"),
        ("x = 1\n", {}, "score.py has no function init() and no run()"),
        (NAMES, {"program_arguments": "--a 'b"}, "program_arguments cannot be split: No closing quotation"),
        (NAMES, {"program_arguments": "--error_threshold many"}, "invalid int value: 'many'"),
        (NAMES, {"mini_batch_size": "10kb"}, "mini_batch_size 10kb is a size"),
        (NAMES, {"timeout": 0}, "timeout: 0 is not above 0"),
        (NAMES, {"max_retries": "2"}, "max_retries: '2' is text, not a whole number"),
        (NAMES, {"color": "red"}, "color: the key is unknown"),
    ],
)
def test_mistakes_are_explained(step: Step, script: str, given: dict[str, Any], message: str) -> None:
    result = step(script, **given)
    assert (result.returncode, message in result.stderr, "Traceback" in result.stderr) == (2, True, False), (
        result.stderr
    )


def test_empty_folder_is_a_mistake(step: Step, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = step(NAMES, input=str(tmp_path / "empty"))
    assert (result.returncode, "contains no files" in result.stderr) == (2, True)


SLOW = """
import os, time
from pathlib import Path
def init(): pass
def run(mini_batch):
    Path(f"pid-{os.getpid()}").touch()
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "group", "code"),
    [
        (signal.SIGTERM, False, 143),
        (signal.SIGTERM, True, 143),
        (signal.SIGINT, True, 130),
        (signal.SIGKILL, False, -9),
    ],
)
def test_interrupted_step_leaves_nothing(
    command: Callable[..., tuple[list[str], Path]], tmp_path: Path, number: int, group: bool, code: int
) -> None:
    line, folder = command(SLOW, max_concurrency=2)
    process = subprocess.Popen(line, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert await_true(lambda: len(list(folder.glob("pid-*"))) == 2)
    pids = [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]
    if group:
        os.killpg(process.pid, number)  # as a terminal does it
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert await_true(lambda: not any(alive(pid) for pid in pids))
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 30), size=st.integers(1, 12))
def test_every_file_is_in_one_batch(tmp_path: Path, count: int, size: int) -> None:
    folder = tmp_path / f"{count}"
    folder.mkdir(exist_ok=True)
    for i in range(count):
        (folder / f"{i:02d}").touch()
    batches = split(folder, "uri_folder", size)
    assert [path for batch in batches for path in batch.paths] == [str(folder / f"{i:02d}") for i in range(count)]
    assert [batch.number for batch in batches] == list(range(len(batches)))
    assert all(batch.items == size for batch in batches[:-1])


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(1, 40), min_size=1, max_size=3), size=st.integers(1, 400))
def test_every_row_is_in_one_batch(tmp_path: Path, rows: list[int], size: int) -> None:
    name = "-".join(map(str, rows))
    expected = []
    for i, count in enumerate(rows):
        values = [f"{i}:{row}" for row in range(count)]
        (tmp_path / f"{name}.{i}.csv").write_text("value\n" + "".join(f"{value}\n" for value in values))
        expected += values
    (tmp_path / "MLTable").write_text(
        f"paths:\n  - pattern: ./{name}.*.csv\ntransformations:\n  - read_delimited: {{}}\n"
    )
    batches = split(tmp_path, "mltable", size)
    assert [value for batch in batches for value in batch.load()["value"]] == expected


@pytest.mark.parametrize(
    ("table", "loaded"),
    [
        ("paths: [{file: ./a.csv}]", ["a.csv"]),
        ("paths: [{folder: ./deep}, {file: a.csv}]", ["b.csv", "a.csv"]),
        ("paths: [{file: a.csv}]\ntransformations: [read_delimited]", {"x": [1, 3], "y": [2, 4]}),
        ("paths: [{file: a.csv}]\ntransformations: [{read_delimited: {}}, {keep_columns: [y]}]", {"y": [2, 4]}),
        ("paths: [{file: a.csv}]\ntransformations: [{read_delimited: {}}, {drop_columns: y}]", {"x": [1, 3]}),
        (
            "paths: [{file: b.txt}]\ntransformations: [{read_delimited: {delimiter: ';', header: no_header}}]",
            {"Column1": [1, 3], "Column2": [2, 4]},
        ),
        ("paths: [{file: c.jsonl}]\ntransformations: [read_json_lines: {encoding: utf8}]", {"x": [1], "y": [2]}),
        ("paths: [{file: d.parquet}]\ntransformations: [read_parquet]", {"x": [1, 3]}),
    ],
)
def test_mltable_is_read(tmp_path: Path, table: str, loaded: Any) -> None:
    import pandas as pd  # type: ignore[import-untyped]

    (tmp_path / "deep").mkdir()
    for path in (tmp_path / "a.csv", tmp_path / "deep" / "b.csv"):
        path.write_text("x,y\n1,2\n3,4\n")
    (tmp_path / "b.txt").write_text("1;2\n3;4\n")
    (tmp_path / "c.jsonl").write_text('{"x": 1, "y": 2}\n')
    pd.DataFrame({"x": [1, 3]}).to_parquet(tmp_path / "d.parquet")
    (tmp_path / "MLTable").write_text(table)
    (batch,) = split(tmp_path, "mltable", None)
    found = batch.load()
    assert ([Path(path).name for path in found] if isinstance(found, list) else found.to_dict("list")) == loaded


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[", "is not YAML"),
        ("type: mltable", "has no list of paths"),
        ("paths: [a.csv]", "'a.csv' is not a path"),
        ("paths: [{glob: a.csv}]", "is not a path"),
        ("paths: [{file: 'azureml://datastores/x/paths/a.csv'}]", "is not on this machine"),
        ("paths: [{pattern: '*.tsv'}]", "pattern *.tsv matches no file"),
        ("paths: [{file: a.csv}]\ntransformations: [{take: 5}]", "take cannot be done on this machine"),
        ("paths: [{file: a.csv}]\ntransformations: [5]", "5 is not a transformation"),
        ("paths: [{file: a.csv}]\ntransformations: [{keep_columns: [x]}]", "no transformation reads a table"),
        (
            "paths: [{file: a.csv}]\ntransformations: [read_delimited, {keep_columns: 5}]",
            "keep_columns does not name columns",
        ),
        ("paths: [{file: a.csv}]\ntransformations: [read_delimited, {keep_columns: z}]", "has no column 'z'"),
        ("paths: [{file: a.csv}]\ntransformations: [{read_delimited: {color: red}}]", "the unknown option 'color'"),
        ("paths: [{file: a.csv}]\ntransformations: [{read_delimited: {header: some}}]", "header: some cannot be done"),
        (
            "paths: [{file: a.csv}]\ntransformations: [{read_delimited: {encoding: nosuch}}]",
            "cannot be read as delimited",
        ),
        ("paths: [{file: a.csv}]\ntransformations: [read_json_lines]", "cannot be read as json lines"),
        ("paths: [{file: empty.csv}]\ntransformations: [read_delimited]", "contains no rows"),
    ],
)
def test_mltable_that_cannot_be_read_is_refused(tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "MLTable").write_text(table)
    with pytest.raises(DataError) as caught:
        split(tmp_path, "mltable", None)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "size", "error", "message"),
    [
        ("uri_file", 1, DataError, "is a folder, but declared as uri_file"),
        ("mltable", 1, DataError, "contains no file named MLTable"),
        ("uri_folder", "ten", PipelineError, "mini_batch_size 'ten' is not a valid size"),
        ("uri_folder", 0, PipelineError, "mini_batch_size 0 is not a valid size"),
    ],
)
def test_input_that_is_not_as_declared(
    files: Path, kind: Any, size: int | str, error: type[MlopsError], message: str
) -> None:
    with pytest.raises(error) as caught:
        split(files, kind, size)
    assert message in str(caught.value)


def test_file_that_is_no_table_is_one_item(files: Path) -> None:
    (batch,) = split(files / "f0.txt", "uri_file", 10)
    assert batch.load() == [str(files / "f0.txt")]
    with pytest.raises(DataError, match="declared as uri_folder"):
        split(files / "f0.txt", "uri_folder", 10)
    with pytest.raises(DataError, match="does not exist"):
        split(files / "no.txt", "uri_file", 10)
