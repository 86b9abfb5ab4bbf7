"""Jobs that end before their time: Ctrl-C, cancel, a killed runner, a full disk; and how they go on afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import (
    WITHOUT_MLFLOW,
    alive,
    command,
    command_job,
    component,
    end,
    mlops,
    pipeline,
    resume,
    run,
    started,
    state,
    statuses,
    text,
    until,
    write,
)
from typer.testing import CliRunner, Result

from vision_mlops.cli.main import app
from vision_mlops.core import paths
from vision_mlops.core.errors import JobError
from vision_mlops.jobs.local.engine.local_jobs import JobResult, cancel_job
from vision_mlops.jobs.local.state.job_state import JobFolder

pytestmark = pytest.mark.usefixtures("without_mlflow")


def long_job(folder: Path, *, ignoring: str = "") -> Path:
    """A quick step that is not deterministic, then one that writes its processes to `pids` and waits."""
    write(
        folder / "part.yml",
        component("date +%N > ${{outputs.out}}", outputs={"out": "uri_file"}, is_deterministic=False),
    )
    trap = f"trap '' {ignoring}; " if ignoring else ""
    wait = (
        f"{trap}[ -e {folder}/go ] && touch ${{{{outputs.out}}}} && exit 0; echo half > ${{{{outputs.out}}}}; sleep 100 & "
        f"echo $$ $! > {folder}/new && mv {folder}/new {folder}/pids; bash -c '{trap}sleep 101; true'; sleep 102"
    )
    jobs = {
        "quick": {"component": "./part.yml"},
        "long": command(wait, {"out": "uri_file"},
                        inputs={"x": "${{parent.jobs.quick.outputs.out}}"}),
        "after": command("cat ${{inputs.x}}", inputs={"x": "${{parent.jobs.long.outputs.out}}"}),
    }  # fmt: skip
    return write(folder / "job.yml", pipeline(jobs))


def pids(folder: Path) -> list[int]:
    """The step's processes, once it waits."""
    until((folder / "pids").is_file)
    found = [int(word) for word in (folder / "pids").read_text().split()]
    until(lambda: len(members(found[0])) >= 4)  # the shell, the two that sleep, and the inner shell
    return members(found[0])


def members(group: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(folder.name))
    return found


def nothing_kept() -> bool:
    """Whether no output of the step that waits is left."""
    return not [path for path in (paths.home() / "cache" / "steps").rglob("*") if path.is_file()]


def check_resume(folder: Path, first: str) -> None:
    (folder / "go").touch()
    done = mlops("job", "resume", "job", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: step["status"] for name, step in found["steps"].items()} == dict.fromkeys(
        ("quick", "long", "after"), "Completed"
    )
    assert Path(found["steps"]["quick"]["outputs"]["out"]).read_text() == first  # though it is not deterministic


def ending(folder: Path, polite: float, grace: float) -> str:
    """Code for the runner: how many seconds its steps have to end; `asked` is there once they were asked to."""
    return f"""
from pathlib import Path
from vision_mlops.jobs.local.engine import scheduler
from vision_mlops.jobs.local.steps import step_process as process
process._POLITE_SECONDS, process._GRACE_SECONDS, scheduler._LONGEST_END_SECONDS = {polite}, {grace}, 2 * {grace}
end = process.StepProcess.end
def told(self, *how):
    end(self, *how)
    Path({str(folder / "asked")!r}).touch()
process.StepProcess.end = told
"""


def quick_output() -> str:
    return (JobFolder("job").step("quick") / "outputs" / "out").read_text()


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGTERM, signal.SIGHUP))],
)
def test_signals_end_the_steps_and_resume_continues(tmp_path: Path, number: signal.Signals) -> None:
    with started("job", "run", long_job(tmp_path), "--name", "job") as process:
        children = pids(tmp_path)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "to continue, run the same command again, or: mlops job resume job" in errors
    assert not any(alive(pid) for pid in children)
    found = state("job")
    assert found["status"] == "Interrupted"
    assert [found["steps"][name]["status"] for name in ("quick", "long")] == ["Completed", "Canceled"]
    assert nothing_kept()
    check_resume(tmp_path, quick_output())


@pytest.mark.slow
@pytest.mark.parametrize("ignored", ["INT", "INT TERM"])
def test_steps_that_ignore_signals_are_ended_all_the_same(tmp_path: Path, ignored: str) -> None:
    patience = ending(tmp_path, polite=1.5, grace=3)
    with started("job", "run", long_job(tmp_path, ignoring=ignored), "--name", "job", first=patience) as process:
        children = pids(tmp_path)
        process.send_signal(signal.SIGINT)
        until((tmp_path / "asked").exists)
        assert process.poll() is None
        assert len(members(children[0])) == len(children)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert not any(alive(pid) for pid in children)
    assert state("job")["status"] == "Interrupted"
    check_resume(tmp_path, quick_output())


@pytest.mark.slow
def test_the_second_signal_ends_them_at_once(tmp_path: Path) -> None:
    patience = ending(tmp_path, polite=1000, grace=1000)
    with started("job", "run", long_job(tmp_path, ignoring="INT TERM"), "--name", "job", first=patience) as process:
        children = pids(tmp_path)
        process.send_signal(signal.SIGINT)
        until((tmp_path / "asked").exists)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert not any(alive(pid) for pid in children)
    assert state("job")["status"] == "Interrupted"
    assert nothing_kept()


@pytest.mark.slow
def test_a_job_that_nobody_may_interrupt(tmp_path: Path) -> None:
    """Signals that a script ignores for what it starts in the background stay ignored."""
    job = write(tmp_path / "job.yml", command_job(f"touch {tmp_path}/begun; sleep 0.5"))
    launcher = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); {WITHOUT_MLFLOW}"
    process = subprocess.Popen([sys.executable, "-c", launcher, "job", "run", str(job), "--name", "job"])
    until((tmp_path / "begun").exists)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    assert state("job")["status"] == "Completed"


@pytest.mark.parametrize(
    "leader",
    [pytest.param(False, id="alone"), pytest.param(True, id="and the step's shell with it", marks=pytest.mark.slow)],
)
def test_a_killed_runner_leaves_a_step_that_resume_ends(tmp_path: Path, leader: bool) -> None:
    with started("job", "run", long_job(tmp_path), "--name", "job") as process:
        children = pids(tmp_path)
        process.kill()
        process.wait()
        shell = int((tmp_path / "pids").read_text().split()[0])
        if leader:
            end(shell)
        left = [pid for pid in children if pid != shell or not leader]
        assert all(alive(pid) for pid in left)
        assert state("job")["status"] == "Running"  # nobody was left to say otherwise
        listed = mlops("job", "list", "--json")
        assert json.loads(listed.stdout)[0]["status"] == "Interrupted"
        check_resume(tmp_path, quick_output())
        assert not any(alive(pid) for pid in left)


@pytest.mark.slow
def test_another_job_that_needs_the_same_step_ends_what_a_killed_runner_left(tmp_path: Path) -> None:
    job = command_job(
        f"echo $$ > {tmp_path}/pid; [ -e {tmp_path}/go ] || sleep 100; touch ${{{{outputs.out}}}}", {"out": "uri_file"}
    )
    file = write(tmp_path / "job.yml", job)
    with started("job", "run", file, "--name", "job") as process:
        until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text().strip())
        until(lambda: (JobFolder("job").step("job") / "owner.json").is_file())
        pid = int((tmp_path / "pid").read_text())
        process.kill()
        process.wait()
    assert alive(pid)
    (tmp_path / "go").touch()
    assert statuses(run(file)) == {"job": "Completed"}
    assert not alive(pid)


@pytest.mark.slow
def test_resume_ends_what_was_left_also_after_a_change(tmp_path: Path) -> None:
    file = long_job(tmp_path)
    with started("job", "run", file, "--name", "job") as process:
        children = pids(tmp_path)
        process.kill()
        process.wait()
    write(file, pipeline({"other": command("echo other > ${{outputs.out}}", {"out": "uri_file"})}))
    ended = resume("job")
    assert statuses(ended) == {"other": "Completed"}
    assert not any(alive(pid) for pid in children)


@pytest.mark.slow
def test_cancel_ends_what_a_killed_runner_left(tmp_path: Path) -> None:
    with started("job", "run", long_job(tmp_path), "--name", "job") as process:
        children = pids(tmp_path)
        process.kill()
        process.wait()
    assert cancel_job("job").status == "Canceled"
    assert not any(alive(pid) for pid in children)
    assert state("job")["status"] == "Canceled"


@pytest.mark.slow
def test_cancel_from_another_process(tmp_path: Path) -> None:
    with started("job", "run", long_job(tmp_path), "--name", "job") as process:
        children = pids(tmp_path)
        done = mlops("job", "cancel", "job")
        assert (done.returncode, done.stdout) == (0, "job: canceled\n")
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "job job: canceled" in errors
    assert not any(alive(pid) for pid in children)
    found = state("job")
    assert {name: step["status"] for name, step in found["steps"].items()} == {
        "quick": "Completed", "long": "Canceled", "after": "Skipped"}  # fmt: skip
    assert found["steps"]["after"]["message"] == "the job was canceled"
    again = mlops("job", "cancel", "job")
    assert (again.returncode, "is not running: canceled" in again.stderr) == (2, True)
    check_resume(tmp_path, quick_output())


@pytest.mark.slow
def test_a_running_job_is_run_by_one_process(tmp_path: Path) -> None:
    file = long_job(tmp_path)
    with started("job", "run", file, "--name", "job") as process:
        pids(tmp_path)
        attempts: list[Callable[[], JobResult]] = [lambda: run(file, name="job"), lambda: resume("job")]
        for attempt in attempts:
            with pytest.raises(JobError, match="the job 'job' is already running") as caught:
                attempt()
            assert "mlops job logs job --follow" in caught.value.hint
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.mark.slow
def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    file = write(tmp_path / "job.yml", command_job("true"))
    run(file, name="job")
    with pytest.raises(JobError, match="the job 'job' has completed") as caught:
        resume("job")
    assert "mlops job run" in caught.value.hint
    with pytest.raises(JobError, match="no job 'jo' exists") as caught:
        resume("jo")
    assert "did you mean 'job'" in caught.value.hint
    run(write(tmp_path / "bad.yml", command_job("false")), name="bad")
    (tmp_path / "bad.yml").write_text("a: [")
    done = mlops("job", "resume", "bad")
    assert (done.returncode, "not valid YAML" in done.stderr) == (2, True)
    assert state("bad")["status"] == "Failed"
    (paths.home() / "jobs" / "bad" / "state.json").write_text("{}")
    done = mlops("job", "resume", "bad")
    assert (done.returncode, "cannot be read" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_resuming_after_the_definition_was_mended(tmp_path: Path) -> None:
    jobs = {"a": command("date +%N > ${{outputs.out}}", {"out": "uri_file"}),
            "b": command("false; exit 1", inputs={"x": "${{parent.jobs.a.outputs.out}}"})}  # fmt: skip
    file = write(tmp_path / "job.yml", pipeline(jobs))
    before = run(file, name="job")
    jobs["b"] = command("cat ${{inputs.x}} > ${{outputs.out}}", {"out": "uri_file"}, inputs=jobs["b"]["inputs"])
    jobs["c"] = command("echo new")
    write(file, pipeline(jobs, display_name="mended"))
    ended = resume("job")
    assert statuses(ended) == dict.fromkeys("abc", "Completed")
    assert text(ended, "b") == text(before, "a")
    assert state("job")["display_name"] == "mended"


# Full disk


def full(path: Path) -> None:
    """Let nothing be written to a file: the device that is always full takes its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/full")


def test_a_step_that_fills_the_disk_fails_alone(tmp_path: Path) -> None:
    full(tmp_path / "disk")
    jobs = {
        "big": command(f"echo x > {tmp_path}/disk && touch ${{{{outputs.out}}}}", {"out": "uri_file"}),
        "small": command("true"),
    }
    ended = run(write(tmp_path / "job.yml", pipeline(jobs)))
    assert statuses(ended) == {"big": "Failed", "small": "Completed"}
    assert "No space left on device" in ended.failures["big"][0][-1]


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes}, {bytes})); " + WITHOUT_MLFLOW


@pytest.mark.parametrize(
    ("size", "begun"), [*(pytest.param(size, False, marks=pytest.mark.slow) for size in (0, 700)), (4000, True)]
)
def test_a_runner_that_cannot_write_ends_with_a_clear_message(tmp_path: Path, size: int, begun: bool) -> None:
    """The system refuses to let any file grow beyond a size, which the runner meets at its state, its notes or a copy."""
    write(tmp_path / "code" / "big", "x" * 10_000)
    jobs = {f"s{number}": command("sleep 0.05", code="./code" if number == 9 else None) for number in range(10)}
    jobs = {name: {key: value for key, value in step.items() if value} for name, step in jobs.items()}
    file = write(tmp_path / "job.yml", pipeline(jobs))
    process = subprocess.run(
        [sys.executable, "-c", LIMITED.format(bytes=size), "job", "run", str(file), "--name", "job", "--jobs", "1"],
        env={key: value for key, value in os.environ.items() if not key.startswith("COV")},  # it writes files, too
        capture_output=True, text=True, check=False, timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )  # fmt: skip
    assert process.returncode == 2, process.stderr
    assert "error: " in process.stderr
    assert "File too large" in process.stderr
    assert "free space" in process.stderr
    assert "Traceback" not in process.stderr
    left = paths.home() / "jobs" / "job"
    assert left.exists() == begun
    if begun:
        json.loads((left / "state.json").read_text())
    assert statuses(run(file, name="job2"))["s9"] in ("Completed", "Reused")


def test_results_are_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    """The result that marks a step as done is written last: without it nothing is reused."""
    file = write(tmp_path / "job.yml", command_job("echo x > ${{outputs.out}}", {"out": "uri_file"}))
    run(file)
    (mark,) = (paths.home() / "cache" / "steps").glob("*/result.json")
    mark.unlink()
    assert statuses(run(file)) == {"job": "Completed"}


# Looking at jobs


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["job", *map(str, words)])


@pytest.mark.slow
def test_list_logs_and_show(tmp_path: Path) -> None:
    empty = invoke("list")
    assert (empty.exit_code, empty.stderr) == (0, "no jobs yet: mlops job run FILE\n")
    jobs = {"a": command("echo from a; echo err a >&2"), "b": command("echo from b; exit 1")}
    file = write(tmp_path / "job.yml", pipeline(jobs))
    run(file, name="first")
    run(write(tmp_path / "other.yml", command_job("true")), name="second")
    write(paths.home() / "jobs" / "broken" / "state.json", "{")
    listed = json.loads(invoke("list", "--json").stdout)
    assert [(item["name"], item["status"], item["steps"]) for item in listed] == [
        ("second", "Completed", "1/1"), ("first", "Failed", "1/2")]  # fmt: skip
    assert "first" in invoke("list").stdout
    assert sorted(invoke("logs", "first").stdout.splitlines()) == ["a | err a", "a | from a", "b | from b"]
    assert invoke("logs", "first", "b").stdout == "from b\n"
    shown = json.loads(invoke("show", file, "--json").stdout)
    assert [step["step"] for step in shown] == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["logs", "job", "c"], "the job 'job' has no step 'c'"),
        (["logs", "jo"], "no job 'jo' exists"),
        (["logs", "../x"], "'../x' cannot be the name of a job"),
        (["cancel", "../x"], "'../x' cannot be the name of a job"),
        (["cancel", "job"], "the job 'job' is not running: completed"),
        (["resume", "../x"], "'../x' cannot be the name of a job"),
        (["resume", "nothing"], "no job 'nothing' exists"),
    ],
)
def test_jobs_that_there_are_not(tmp_path: Path, words: list[str], message: str) -> None:
    run(write(tmp_path / "job.yml", command_job("true")), name="job")
    found = invoke(*words).exception
    assert isinstance(found, JobError)
    assert message in found.message
    assert found.hint


@pytest.mark.slow
def test_following_logs_while_the_job_runs(tmp_path: Path) -> None:
    job = pipeline(
        {
            "a": command(
                f"echo 1; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo 2; echo 3; sleep 0.2; printf end"
            )
        }
    )
    with started("job", "run", write(tmp_path / "job.yml", job), "--name", "job") as process:
        until(lambda: (JobFolder("job").step("a") / "stdout.log").is_file())
        with started("job", "logs", "job", "--follow") as follower:
            assert follower.stdout is not None
            assert follower.stdout.readline() == "a | 1\n"
            (tmp_path / "go").touch()  # the job waits for it
            rest = follower.stdout.read()
            assert rest == "a | 2\na | 3\na | end\n"
            assert follower.wait(60) == 0
        process.communicate(timeout=60)
    assert mlops("job", "logs", "job", "--follow").stdout == "a | 1\na | 2\na | 3\na | end\n"


@pytest.mark.slow
def test_no_lock_is_left_to_the_steps(tmp_path: Path) -> None:
    """A step that goes on in the background must not keep the job from being resumed."""
    file = write(
        tmp_path / "job.yml",
        command_job(f"setsid sleep 30 > /dev/null 2>&1 & echo $! > {tmp_path}/pid; sleep 0.2; exit 1"),
    )
    run(file, name="job")
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)  # it has left the step's group on purpose
    assert statuses(resume("job")) == {"job": "Failed"}
    for each in (pid, int((tmp_path / "pid").read_text())):
        os.kill(each, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_at_any_moment_does_no_harm(tmp_path: Path, number: signal.Signals) -> None:
    """Whenever the runner is ended, the state can be read, no process is left after resuming, and the result is right."""
    work = f"echo $$ >> {tmp_path}/pids; sleep 0.05; cat ${{{{inputs.x}}}} > ${{{{outputs.out}}}}; "
    work += "echo more >> ${{outputs.out}}"
    jobs: dict[str, Any] = {"s0": command("echo first > ${{outputs.out}}", {"out": "uri_file"})}
    for step in range(1, 6):
        before = f"${{{{parent.jobs.s{step - 1}.outputs.out}}}}"
        jobs[f"s{step}"] = command(work, {"out": "uri_file"}, inputs={"x": before}, environment_variables={"N": step})
    outputs = {"out": {"type": "uri_file", "path": "./made.txt"}}
    jobs["s5"]["outputs"]["out"]["path"] = "${{parent.outputs.out}}"
    file = write(tmp_path / "job.yml", pipeline(jobs, outputs=outputs))
    choice = random.Random(number)
    for attempt in range(6):
        name = f"job{attempt}"
        words = ["job", "run", str(file), "--name", name, "--force"]
        for tried in range(20):
            with started(*words) as process:
                try:
                    process.wait(choice.uniform(0.2, 1.1 + tried / 2))  # a busy machine is given longer
                except subprocess.TimeoutExpired:
                    process.send_signal(number)
                process.communicate(timeout=30)
            found = state(name)
            if found:
                words = ["job", "resume", name]
            if found.get("status") == "Completed":
                break
            if number == signal.SIGINT and found:
                assert found["status"] == "Interrupted"
        assert state(name)["status"] == "Completed"
        assert (tmp_path / "made.txt").read_text() == "first\n" + "more\n" * 5
        assert not any(members(int(word)) for word in (tmp_path / "pids").read_text().split())


def test_a_job_is_resumed_whose_shipped_definition_has_moved_since(tmp_path: Path) -> None:
    from vision_mlops.jobs.pipelines import PIPELINES, present

    former = tmp_path / "src" / "vision_mlops" / "pipeline"
    assert present(former / "train.yml") == PIPELINES / "train.yml"
    assert present(former / "other.yml") == former / "other.yml"
    assert present(tmp_path / "train.yml") == tmp_path / "train.yml"  # a user's own is missed, and not replaced
    former.mkdir(parents=True)
    (former / "train.yml").touch()
    assert present(former / "train.yml") == former / "train.yml"
