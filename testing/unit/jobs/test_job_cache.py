"""What makes a step run again, what does not, and that nothing half done is ever reused."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from testing.support.jobs import (
    command,
    command_job,
    component,
    output,
    pipeline,
    ran,
    resume,
    run,
    statuses,
    text,
    write,
)

from vision_mlops.core import paths
from vision_mlops.jobs.local.state.job_state import JobFolder

pytestmark = pytest.mark.usefixtures("without_mlflow")

EVERY = {"left", "right", "join"}


def make(folder: Path) -> Path:
    """Two steps with code, data, a value and a variable, and a third one that joins their outputs."""
    write(folder / "data" / "x.txt", "data\n")
    write(folder / "code" / "part.sh", "cat $1/x.txt; echo $2 $LEVEL; date +%N > /dev/null\n")
    part = component(
        "bash part.sh ${{inputs.data}} ${{inputs.n}} > ${{outputs.out}}",
        {"data": "uri_folder", "n": {"type": "integer", "default": 1}},
        outputs={"out": "uri_file"},
        code="./code",
        environment_variables={"LEVEL": "1"},
    )
    write(folder / "part.yml", part)
    left = {"component": "./part.yml", "inputs": {"data": "${{parent.inputs.data}}", "n": "${{parent.inputs.n}}"}}
    right = command("echo right > ${{outputs.out}}", {"out": "uri_file"})
    join = command(
        "cat ${{inputs.a}} ${{inputs.b}} > ${{outputs.out}}", {"out": "uri_file"},
        inputs={"a": "${{parent.jobs.left.outputs.out}}", "b": "${{parent.jobs.right.outputs.out}}"},
    )  # fmt: skip
    inputs = {"data": {"type": "uri_folder", "path": "./data"}, "n": 1}
    return write(folder / "job.yml", pipeline({"left": left, "right": right, "join": join}, inputs=inputs))


@pytest.fixture
def job(tmp_path: Path) -> Path:
    file = make(tmp_path / "project")
    assert ran(run(file)) == EVERY
    return file


def change(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = yaml.safe_load(file.read_text())
    edit(content)
    write(file, content)


def touch_all(folder: Path) -> None:
    for file in folder.rglob("*"):
        os.utime(file, (1, 1))


def link(folder: Path) -> None:
    (folder / "data").rename(folder / "moved")
    (folder / "data").symlink_to(folder / "moved", target_is_directory=True)


CHANGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "a value": (lambda p: change(p / "job.yml", lambda c: c["inputs"].update(n=2)), {"left", "join"}),
    "data": (lambda p: write(p / "data" / "x.txt", "other\n"), {"left", "join"}),
    "a new file in the data": (lambda p: write(p / "data" / "y.txt", "new\n"), {"left"}),
    "the name of a file in the data": (lambda p: (p / "data" / "x.txt").rename(p / "data" / "z.txt"), {"left", "join"}),
    "code": (lambda p: write(p / "code" / "part.sh", "echo other\n"), {"left", "join"}),
    "a new file in the code": (lambda p: write(p / "code" / "y.txt", "new\n"), {"left"}),
    "a variable": (
        lambda p: change(p / "part.yml", lambda c: c["environment_variables"].update(LEVEL="2")), {"left", "join"},
    ),
    "a variable of the step": (
        lambda p: change(p / "job.yml", lambda c: c["jobs"]["left"].update(environment_variables={"X": "1"})), {"left"},
    ),
    "the command": (
        lambda p: change(p / "job.yml", lambda c: c["jobs"]["right"].update(command="echo r > ${{outputs.out}}")),
        {"right", "join"},
    ),
    "the environment": (lambda p: change(p / "part.yml", lambda c: c.update(environment="azureml:env:2")), {"left"}),
    "the last command": (
        lambda p: change(p / "job.yml", lambda c: c["jobs"]["join"].update(
            command="cat ${{inputs.b}} ${{inputs.a}} > ${{outputs.out}}")),
        {"join"},
    ),
    "an output's type": (
        lambda p: change(p / "job.yml", lambda c: c["jobs"]["join"].update(
            command="cat ${{inputs.a}} ${{inputs.b}} > ${{outputs.out}}/x", outputs={"out": {"type": "uri_folder"}})),
        {"join"},
    ),
    "the distribution": (
        lambda p: change(p / "part.yml", lambda c: c.update(distribution={"type": "pytorch"})), {"left"},
    ),
    # What has no effect on what a step writes:
    "times": (lambda p: touch_all(p), set()),
    "rights": (lambda p: (p / "data" / "x.txt").chmod(0o600), set()),
    "names and words": (
        lambda p: change(p / "job.yml", lambda c: c.update(display_name="x", description="y", tags={"a": "b"}, name="z")),
        set(),
    ),
    "the component's name and version": (
        lambda p: change(p / "part.yml", lambda c: c.update(name="other", version=9)), set(),
    ),
    "compute, resources and limits": (
        lambda p: change(p / "job.yml", lambda c: c["jobs"]["left"].update(
            compute="azureml:other", resources={"instance_count": 1}, limits={"timeout": 100})),
        set(),
    ),
    "the experiment": (lambda p: change(p / "job.yml", lambda c: c.update(experiment_name="other")), set()),
    "a link to the same data": (
        link, set(),
    ),
    "an ignored file in the code": (
        # The ignore file itself is a change of the code.
        lambda p: (write(p / "code" / "__pycache__" / "x.pyc", "1"), write(p / "code" / ".git" / "x", "1")), set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", list(CHANGES))
def test_exactly_what_a_change_concerns_runs_again(job: Path, what: str) -> None:
    edit, expected = CHANGES[what]
    edit(job.parent)
    ended = run(job)
    assert ran(ended) == expected
    assert ended.state.status == "Completed"
    assert ran(run(job)) == set()


def test_moving_the_project_and_naming_the_job_run_nothing_again(job: Path, tmp_path: Path) -> None:
    job.parent.rename(tmp_path / "elsewhere")
    assert ran(run(tmp_path / "elsewhere" / "job.yml", name="named")) == set()


def test_the_same_content_elsewhere_runs_nothing_again(job: Path, tmp_path: Path) -> None:
    shutil.copytree(job.parent / "data", tmp_path / "copy")
    assert ran(run(job, f"inputs.data={tmp_path / 'copy'}")) == set()


def test_an_output_that_is_the_same_as_before_spares_the_steps_behind_it(job: Path) -> None:
    change(job, lambda c: c["jobs"]["right"].update(command="echo  right > ${{outputs.out}}"))
    assert ran(run(job)) == {"right"}


def test_a_file_keeps_its_name_for_the_command(tmp_path: Path) -> None:
    file = write(tmp_path / "job.yml", command_job("basename ${{inputs.x}} > ${{outputs.out}}", {"out": "uri_file"},
                                                   inputs={"x": {"type": "uri_file", "path": "./a.csv"}}))  # fmt: skip
    write(tmp_path / "a.csv", "1")
    assert text(run(file), "job") == "a.csv"
    (tmp_path / "a.csv").rename(tmp_path / "b.tsv")
    assert text(run(file, f"inputs.x={tmp_path / 'b.tsv'}"), "job") == "b.tsv"


def test_an_input_that_only_the_environment_shows_counts(tmp_path: Path) -> None:
    file = write(tmp_path / "job.yml", command_job('cat "$AZURE_ML_INPUT_x" > ${{outputs.out}}', {"out": "uri_file"},
                                                   inputs={"x": {"type": "uri_file", "path": "./a"}}))  # fmt: skip
    write(tmp_path / "a", "1")
    assert text(run(file), "job") == "1"
    write(tmp_path / "a", "2")
    assert text(run(file), "job") == "2"


def test_a_file_written_twice_within_a_moment_is_read_again(tmp_path: Path) -> None:
    file = write(tmp_path / "job.yml", command_job("cat ${{inputs.x}} > ${{outputs.out}}", {"out": "uri_file"},
                                                   inputs={"x": {"type": "uri_file", "path": "./a"}}))  # fmt: skip
    for content in "12345":
        data = write(tmp_path / "a", content)
        os.utime(data, (1_000_000_000, 1_000_000_000))  # of the same size and time
        assert text(run(file), "job") == content


def edit_in_place(path: Path) -> None:
    with path.open("r+") as stream:
        stream.write("X")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("changed\n"),
        lambda path: path.unlink(),
        edit_in_place,
        lambda path: shutil.rmtree(path.parent),
        lambda path: (path.parents[1] / "result.json").write_text("{"),
        lambda path: (path.parents[1] / "result.json").write_text("[]"),
        lambda path: (path.parents[1] / "result.json").write_text(
            (path.parents[1] / "result.json").read_text().replace('"key": "', '"key": "0')
        ),
    ],
    ids=["edited", "removed", "edited in place", "all removed", "broken", "of another form", "of another key"],
)
def test_a_spoilt_result_is_made_again(job: Path, spoil: Callable[[Path], object]) -> None:
    made = output(run(job), "left").resolve()
    before = made.read_text()
    old = time.time() - 100
    os.utime(made, (old, old))
    run(job)  # remembers its hash
    spoil(made)
    os.utime(made, (old, old)) if made.exists() else None
    ended = run(job)
    assert ran(ended) == {"left"}  # what it writes is as before, so the step behind it is reused
    assert text(ended, "left") == before.strip()


@pytest.mark.parametrize("end", ["exit 3", "kill -9 $$", "sleep 60"])
def test_a_step_that_fails_leaves_nothing(tmp_path: Path, end: str) -> None:
    step = command(
        "echo half > ${{outputs.file}}; echo half > ${{outputs.folder}}/x; [ -e " + str(tmp_path / "well") + f" ] || {end}",
        {"file": "uri_file", "folder": "uri_folder"}, limits={"timeout": 1},
    )  # fmt: skip
    file = write(tmp_path / "job.yml", pipeline({"a": step}))
    ended = run(file)
    assert statuses(ended) == {"a": "Failed"}
    assert ended.state.steps["a"].outputs == {}
    assert not list((paths.home() / "cache" / "steps").rglob("*"))
    assert not (JobFolder(ended.state.name).step("a") / "outputs").exists()
    (tmp_path / "well").touch()
    again = run(file)
    assert statuses(again) == {"a": "Completed"}
    assert text(again, "a", "file") == "half"


def test_an_output_that_is_not_written_fails_the_step(tmp_path: Path) -> None:
    file = write(tmp_path / "job.yml", pipeline({"a": command("echo ${{outputs.out}}", {"out": "uri_file"})}))
    ended = run(file)
    assert ended.state.steps["a"].message == "succeeded, but did not write its output 'out'"
    assert ended.state.status == "Failed"
    assert statuses(run(file)) == {"a": "Failed"}


def test_steps_that_are_not_deterministic_run_each_time(tmp_path: Path) -> None:
    write(
        tmp_path / "part.yml",
        component("date +%N > ${{outputs.out}}", outputs={"out": "uri_file"}, is_deterministic=False),
    )
    after = command("cat ${{inputs.x}}", inputs={"x": "${{parent.jobs.a.outputs.out}}"})
    file = write(tmp_path / "job.yml", pipeline({"a": {"component": "./part.yml"}, "b": after}))
    first, second = run(file), run(file)
    assert ran(second) == {"a", "b"}
    assert text(first, "a") != text(second, "a")


def test_forced_jobs_run_everything_and_leave_the_results_of_others_alone(tmp_path: Path) -> None:
    step = command("date +%N > ${{outputs.out}}", {"out": "uri_file"})
    file = write(tmp_path / "job.yml", pipeline({"a": step}))
    first = run(file)
    before = text(first, "a")
    for changes, force in (((), True), (("settings.force_rerun=true",), False)):
        forced = run(file, *changes, force=force)
        assert statuses(forced) == {"a": "Completed"}
        assert text(forced, "a") != before
        assert text(first, "a") == before
        assert text(run(file), "a") == text(forced, "a")  # the newest result counts


def test_forced_steps_are_kept_when_their_job_is_resumed(tmp_path: Path) -> None:
    mark = tmp_path / "mend"
    jobs = {"a": command("date +%N > ${{outputs.out}}", {"out": "uri_file"}), "b": command(f"test -e {mark}")}
    file = write(tmp_path / "job.yml", pipeline(jobs, settings={"force_rerun": True}))
    run(file, "jobs.b.command='true'")
    ended = run(file, name="job")
    assert statuses(ended) == {"a": "Completed", "b": "Failed"}
    mark.touch()
    resumed = resume("job")
    assert statuses(resumed) == {"a": "Completed", "b": "Completed"}
    assert text(resumed, "a") == text(ended, "a")


@pytest.mark.slow
def test_two_jobs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    slow = command("sleep 0.4; echo made > ${{outputs.out}}/x; sleep 0.4", {"out": "uri_folder"})
    reader = command("for i in 1 2 3 4 5 6; do cat ${{inputs.x}}/x; sleep 0.1; done > ${{outputs.out}}", {"out": "uri_file"},
                     inputs={"x": "${{parent.jobs.a.outputs.out}}"})  # fmt: skip
    file = write(tmp_path / "job.yml", pipeline({"a": slow, "b": reader}))
    found: list[dict[str, str]] = []

    def one(delay: float, force: bool) -> None:
        time.sleep(delay)
        ended = run(file, force=force)
        assert text(ended, "b").split() == ["made"] * 6
        found.append(statuses(ended))

    threads = [threading.Thread(target=one, args=(delay, force)) for delay, force in
               ((0, False), (0.2, False), (0.5, True), (0.75, False), (1.0, True), (1.2, False))]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(status in ("Completed", "Reused") for item in found for status in item.values())
    assert ran(run(file)) == set()


def test_equal_steps_of_one_job_at_once(tmp_path: Path) -> None:
    step = command("sleep 0.2; echo x > ${{outputs.out}}", {"out": "uri_file"})
    ended = run(write(tmp_path / "job.yml", pipeline({"a": step, "b": step, "c": step})), jobs=3)
    assert set(statuses(ended).values()) == {"Completed"}
    assert len({output(ended, name).resolve() for name in "abc"}) == 3


def test_results_do_not_depend_on_where_the_home_folder_is(
    job: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paths.home().rename(tmp_path / "moved")
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "moved"))
    assert ran(run(job)) == set()


def test_a_broken_memory_of_hashes_is_made_again(job: Path) -> None:
    (paths.home() / "cache" / "fingerprints.db").write_bytes(b"no database" * 100)
    for extra in ("-wal", "-shm"):
        (paths.home() / "cache" / f"fingerprints.db{extra}").unlink(missing_ok=True)
    assert ran(run(job)) == set()


def test_repeating_a_step_leaves_its_result_for_other_jobs(tmp_path: Path) -> None:
    """`repeat.sh` makes outputs of its own, and copies of inputs that the step may write into."""
    write(tmp_path / "data set" / "x.txt", "data")
    first = command(
        "date +%N > ${{outputs.out}}; cat ${{inputs.data}}/x.txt >> ${{outputs.out}}; echo more >> ${{inputs.data}}/x.txt;"
        " date +%N > ${{outputs.folder}}/stamp",
        {"out": "uri_file", "folder": "uri_folder"},
        inputs={"data": {"type": "uri_folder", "path": "./data set", "mode": "download"}},
    )
    second = command(
        "cat ${{inputs.a}} > ${{outputs.out}}", {"out": "uri_file"}, inputs={"a": "${{parent.jobs.first.outputs.out}}"}
    )
    file = write(tmp_path / "job.yml", pipeline({"first": first, "second": second}))
    ended = run(file)
    before = output(ended, "first").read_text()
    for _ in range(2):
        script = JobFolder(ended.state.name).step("first") / "repeat.sh"
        done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        repeated = script.parent / "repeat" / "outputs" / "out"
        assert repeated.read_text().endswith("data")
        assert repeated.read_text() != before
        assert (script.parent / "repeat" / "outputs" / "folder" / "stamp").is_file()
    assert output(ended, "first").read_text() == before
    assert (tmp_path / "data set" / "x.txt").read_text() == "data"
    assert set(statuses(run(file)).values()) == {"Reused"}
