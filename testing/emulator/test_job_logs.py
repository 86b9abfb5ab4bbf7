"""The one log of a step that the service shows: joined from both streams, each line once, whatever happens in between."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from azureml_emulator.jobs.reported_states import read_state
from azureml_emulator.rest.rest_calls import Json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stdout.log").write_text("".join(f"line {number}\n" for number in range(100)))
    return tmp_path


def job(folder: Path) -> Json:
    return {
        "kind": "pipelineJob",
        "status": "Running",
        "steps": {"train": {"status": "Running", "folder": str(folder)}},
    }


def shown(folder: Path) -> list[str]:
    (log,) = read_state(job(folder), {}).steps["train"].logs.values()
    return log.read_text().splitlines()


def test_both_streams_are_joined_as_far_as_their_lines_are_whole(folder: Path) -> None:
    (folder / "stderr.log").write_text("a warning\nhalf a l")
    assert shown(folder) == [*(f"line {number}" for number in range(100)), "a warning"]
    with (folder / "stderr.log").open("a") as log:
        log.write("ine\n")
    assert shown(folder)[-2:] == ["a warning", "half a line"]


def test_clients_that_ask_at_the_same_time_see_each_line_once(folder: Path) -> None:
    with ThreadPoolExecutor(8) as clients:
        for _ in clients.map(lambda _: read_state(job(folder), {}), range(200)):
            pass
    assert len(shown(folder)) == 100


def test_what_was_joined_when_the_emulator_was_killed_is_not_shown_twice(folder: Path) -> None:
    shown(folder)
    noted = json.loads((folder / "std_log.json").read_text())
    with (folder / "stdout.log").open("a") as log:
        log.write("line 100\n")
    shown(folder)
    (folder / "std_log.json").write_text(json.dumps(noted))  # killed before this was written
    assert shown(folder)[-2:] == ["line 99", "line 100"]


def test_the_reason_of_a_failure_stays_where_a_step_has_printed_nothing(tmp_path: Path) -> None:
    assert shown(tmp_path) == []
    (tmp_path / "std_log.txt").write_text("no such program\n")
    assert shown(tmp_path) == ["no such program"]
