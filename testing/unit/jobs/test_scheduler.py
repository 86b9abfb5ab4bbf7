"""The order in which steps run, how many at once, what a failure does to the others, and what a person sees of it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import (
    SCHEMA,
    WITHOUT_MLFLOW,
    Lines,
    alive,
    command,
    command_job,
    component,
    mlops,
    output,
    pipeline,
    resume,
    run,
    state,
    statuses,
    text,
    until,
    write,
)

from vision_mlops.core import paths
from vision_mlops.jobs.local.state.job_state import JobFolder

pytestmark = pytest.mark.usefixtures("without_mlflow")

NEVER = 1000
COMPUTE = {"default_compute": "azureml:c"}
"""Settings of a pipeline about which the linter has nothing to say."""
"""Seconds that no test waits for: where a sleep of so many has to end by itself, the test is ended by its time limit."""


@pytest.mark.slow
def test_independent_steps_run_side_by_side_as_far_as_asked(tmp_path: Path) -> None:
    # Each waits for the other to have begun, which only happens where they run at the same time.
    meeting = {
        mine: command(f"touch {tmp_path}/{mine}; until [ -e {tmp_path}/{other} ]; do sleep 0.02; done")
        for mine, other in (("a", "b"), ("b", "a"))
    }
    together = run(write(tmp_path / "together.yml", pipeline(meeting)), jobs=2)
    assert statuses(together) == {"a": "Completed", "b": "Completed"}
    # The second one finds that the first has left.
    alone = f"mkdir {tmp_path}/taken && sleep 0.2 && rmdir {tmp_path}/taken"
    apart = run(
        write(tmp_path / "apart.yml", pipeline({"a": command(alone), "b": command(f"{alone}; exit $?")})), jobs=1
    )
    assert statuses(apart) == {"a": "Completed", "b": "Completed"}


@pytest.mark.slow
def test_a_step_waits_for_all_that_it_reads(tmp_path: Path) -> None:
    jobs: dict[str, Any] = {"d": command("cat ${{inputs.b}} ${{inputs.c}} > ${{outputs.out}}", {"out": "uri_file"}, inputs={
        "b": "${{parent.jobs.b.outputs.out}}", "c": "${{parent.jobs.c.outputs.out}}"})}  # fmt: skip
    for name, wait in (("c", 0.3), ("b", 0.1)):
        jobs[name] = command(f"sleep {wait}; cat ${{{{inputs.a}}}} > ${{{{outputs.out}}}}", {"out": "uri_file"},
                             inputs={"a": "${{parent.jobs.a.outputs.out}}"})  # fmt: skip
    jobs["a"] = command("echo a > ${{outputs.out}}", {"out": "uri_file"})
    assert text(run(write(tmp_path / "job.yml", pipeline(jobs)), jobs=4), "d") == "a\na"


def failing(seconds: float = 0.6, **settings: Any) -> dict[str, Any]:
    bad, slow, after = ({"x": f"${{{{parent.jobs.{name}.outputs.out}}}}"} for name in ("bad", "slow", "after"))
    jobs = {
        "bad": command("sleep 0.1; exit 3", {"out": "uri_file"}),
        "slow": command(f"sleep {seconds}; echo slow > ${{{{outputs.out}}}}", {"out": "uri_file"}),
        "late": command("cat ${{inputs.x}}", inputs=slow),
        "after": command("cp ${{inputs.x}} ${{outputs.out}}", {"out": "uri_file"}, inputs=bad),
        "far": command("cat ${{inputs.x}}", inputs=after),
    }
    return pipeline(jobs, **({"settings": settings} if settings else {}))


@pytest.mark.slow
@pytest.mark.parametrize("key", ["continue_on_step_failure", "continue_run_on_step_failure"])
def test_the_others_go_on_after_a_failure(tmp_path: Path, key: str) -> None:
    ended = run(write(tmp_path / "job.yml", failing(**{key: True})), jobs=2)
    expected = {"bad": "Failed", "slow": "Completed", "late": "Completed", "after": "Skipped", "far": "Skipped"}
    assert statuses(ended) == expected
    assert ended.state.status == "Failed"
    assert ended.state.message == "failed: bad"
    assert ended.state.steps["bad"].exit_code == 3
    assert ended.state.steps["after"].message == "bad failed"
    assert ended.state.steps["far"].message == "after skipped"


def test_or_the_job_ends_at_the_first_failure(tmp_path: Path) -> None:
    ended = run(write(tmp_path / "job.yml", failing(NEVER, continue_on_step_failure=False)), jobs=2)
    expected = {"bad": "Failed", "slow": "Canceled", "late": "Skipped", "after": "Skipped", "far": "Skipped"}
    assert statuses(ended) == expected


@pytest.mark.parametrize("going_on", [True, False])
def test_an_optional_input_of_a_failed_step_is_left_out(tmp_path: Path, going_on: bool) -> None:
    declared = {"x": {"type": "uri_file", "optional": True}, "y": {"type": "uri_file"}}
    write(tmp_path / "part.yml", component("echo given $[[${{inputs.x}}]] > ${{outputs.out}}; cat ${{inputs.y}}", declared,
                                           outputs={"out": "uri_file"}))  # fmt: skip
    jobs = {
        "bad": command("false", {"out": "uri_file"}),
        "good": command("echo > ${{outputs.out}}", {"out": "uri_file"}),
        "last": {"component": "./part.yml", "inputs": {
            "x": "${{parent.jobs.bad.outputs.out}}", "y": "${{parent.jobs.good.outputs.out}}"}},
    }  # fmt: skip
    settings = {"continue_on_step_failure": True, "continue_run_on_failed_optional_input": going_on}
    ended = run(write(tmp_path / "job.yml", pipeline(jobs, settings=settings)))
    assert ended.state.status == "Failed"
    assert ended.state.steps["last"].status == ("Completed" if going_on else "Skipped")
    if going_on:
        assert text(ended, "last") == "given"


@pytest.mark.slow
def test_timeout(tmp_path: Path) -> None:
    words = f"sleep {NEVER} & echo $! > {tmp_path}/pid; sleep {NEVER}"
    step = component(words, {"limit": "integer"}, limits={"timeout": "${{inputs.limit}}"})
    write(tmp_path / "part.yml", step)
    job = pipeline(
        {"a": {"component": "./part.yml", "inputs": {"limit": "${{parent.inputs.seconds}}"}}}, inputs={"seconds": 1}
    )
    ended = run(write(tmp_path / "job.yml", job))
    assert ended.state.steps["a"].message == "ended by its timeout of 1 s"
    assert ended.state.steps["a"].exit_code == 124
    left = int((tmp_path / "pid").read_text())
    until(lambda: not alive(left))  # what it has left in the background is killed, which takes a moment


def test_what_steps_write_is_kept_and_streamed(tmp_path: Path) -> None:
    lines = Lines()
    words = r"echo out; echo err >&2; printf '10%%\r20%%\r30%%\n'; printf 'no end'; printf '\377\n' >&2"
    ended = run(write(tmp_path / "job.yml", pipeline({"a": command(words)}, settings=COMPUTE)), lines=lines)
    folder = Path(ended.state.steps["a"].folder)
    assert (folder / "stdout.log").read_bytes() == b"out\n10%\r20%\r30%\nno end"
    assert (folder / "stderr.log").read_bytes() == b"err\n\xff\n"
    assert sorted(lines.of("a")) == sorted(["out", "err", "30%", "no end", "\ufffd"])
    assert lines.all[0] == "▶ a: running"
    assert lines.all[-1].startswith("✓ a: completed")


def test_a_lot_of_output_does_not_stop_a_step(tmp_path: Path) -> None:
    lines = Lines()
    ended = run(write(tmp_path / "job.yml", pipeline({"a": command("seq 200000; seq 100000 >&2")})), lines=lines)
    assert ended.state.status == "Completed"
    assert len(lines.of("a")) == 300_000


@pytest.mark.slow
def test_a_failure_shows_the_last_lines_and_the_command_that_repeats_it(tmp_path: Path) -> None:
    write(tmp_path / "code" / "step.py", "import sys; print('to stdout'); print(open('note').read(), file=sys.stderr)\n"
                                         "sys.exit(len(sys.argv) + 2)\n")  # fmt: skip
    write(tmp_path / "code" / "note", "\n".join(f"line {number}" for number in range(30)))
    write(tmp_path / "it's data" / "x", "1")
    step = command("python step.py ${{inputs.data}} && touch ${{outputs.out}} ${{outputs.folder}}/x && echo $QUOTED",
                   {"out": "uri_file", "folder": "uri_folder"}, code="./code",
                   inputs={"data": {"type": "uri_folder", "path": "./it's data"}},
                   environment_variables={"QUOTED": "a 'b' \"c\" $d"})  # fmt: skip
    job = write(tmp_path / "job.yml", pipeline({"a": step}))
    done = mlops("job", "run", job, "--name", "broken")
    assert done.returncode == 1
    assert "step 'a' failed: exit code 4" in done.stderr
    shown = done.stderr.partition("failed: exit code 4\n")[2].splitlines()
    assert shown[:2] == ["  line 10", "  line 11"]
    assert shown[19] == "  line 29"
    assert "mlops job resume broken" in done.stderr
    words = shown[20].partition("repeat it alone with: ")[2]
    assert words == f"bash {paths.home()}/jobs/broken/steps/a/repeat.sh"
    again = subprocess.run(words, shell=True, capture_output=True, text=True, check=False, cwd="/")
    assert again.returncode == 4
    assert again.stdout == "to stdout\n"
    assert again.stderr.endswith("line 29\n")
    work = paths.home() / "jobs" / "broken" / "steps" / "a" / "work"
    write(
        work / "step.py", "import sys, os; print(os.listdir(sys.argv[1]), os.environ['MLOPS_HOME'])\n"
    )  # mended there
    again = subprocess.run(words, shell=True, capture_output=True, text=True, check=False, cwd="/")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == f"['x'] {paths.home()}\na 'b' \"c\" $d\n"
    write(tmp_path / "code" / "step.py", "print('mended')")
    assert statuses(resume("broken")) == {"a": "Completed"}
    assert {item.name for item in output_folder("broken", "a").iterdir()} == {"x"}


def output_folder(job: str, step: str) -> Path:
    return paths.home() / "jobs" / job / "steps" / step / "outputs" / "folder"


def test_last_lines_are_those_of_the_last_attempt(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    step = command(f"if [ -e {mark} ]; then echo second; else echo first >&2; fi; exit 1")
    write(tmp_path / "job.yml", pipeline({"a": step}))
    assert run(tmp_path / "job.yml", name="job").failures["a"][0] == ["first"]
    mark.touch()
    assert resume("job").failures["a"][0] == ["second"]


def test_state_can_be_read_at_any_time(tmp_path: Path) -> None:
    jobs = {f"s{number}": command(f"echo {number}") for number in range(12)}
    job = write(tmp_path / "job.yml", pipeline(jobs))
    seen: set[str] = set()
    reads = 0
    over = threading.Event()
    problems: list[str] = []

    def look() -> None:
        nonlocal reads
        while not over.is_set():
            try:
                found = state("watched")
            except ValueError as error:
                problems.append(str(error))
                return
            if found:
                reads += 1
                seen.update(step["status"] for step in found["steps"].values())

    watcher = threading.Thread(target=look)
    watcher.start()
    run(job, name="watched", jobs=3)
    over.set()
    watcher.join()
    assert not problems
    assert reads > 20
    assert {"Waiting", "Running", "Completed"} <= seen


def test_state_holds_what_the_contract_says(tmp_path: Path) -> None:
    part = {"$schema": f"{SCHEMA}/pipelineComponent.schema.json", "type": "pipeline", "name": "inner", "version": 1,
            "jobs": {"deep": command("echo x > ${{outputs.out}}", {"out": "uri_file"})}}  # fmt: skip
    write(tmp_path / "inner.yml", part)
    job = pipeline(
        {"outer": {"type": "pipeline", "component": "./inner.yml"}}, display_name="Shown", experiment_name="exp"
    )
    done = mlops("job", "run", write(tmp_path / "job.yml", job), "--name", "job", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == state("job")
    assert found["definition"] == str(tmp_path / "job.yml")
    assert (found["kind"], found["display_name"], found["experiment"]) == ("pipelineJob", "Shown", "exp")
    assert found["created"] <= found["started"] <= found["ended"]
    step = found["steps"]["outer/deep"]
    assert set(step) >= {"status", "started", "ended", "seconds", "exit_code", "message", "run_id", "folder", "outputs"}
    assert (step["status"], step["exit_code"], step["run_id"]) == ("Completed", 0, "")
    assert step["folder"] == str(paths.home() / "jobs" / "job" / "steps" / "outer" / "deep")
    assert Path(step["outputs"]["out"]).read_text() == "x\n"


DISTRIBUTED = {"type": "pytorch", "process_count_per_instance": 2}


def test_distributed_processes(tmp_path: Path) -> None:
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    shown = " ".join(f"${name}" for name in names)
    job = command_job(f"echo {shown}; echo err $RANK >&2", distribution=DISTRIBUTED)
    ended = run(write(tmp_path / "job.yml", job))
    assert ended.state.status == "Completed"
    folder = Path(ended.state.steps["job"].folder)
    first, second = (folder / "stdout.log").read_text().split(), (folder / "stdout.rank1.log").read_text().split()
    assert first[:-1] == ["0", "0", "0", "2", "2", "127.0.0.1"]
    assert second[:-1] == ["1", "1", "0", "2", "2", "127.0.0.1"]
    assert first[-1] == second[-1]
    assert (folder / "stderr.rank1.log").read_text() == "err 1\n"


def test_several_nodes_are_rehearsed_on_this_machine(tmp_path: Path) -> None:
    job = command_job(
        "echo $RANK $LOCAL_RANK $NODE_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE"
        " $AZUREML_NODE_COUNT $AZUREML_CR_NODE_RANK $AZ_BATCHAI_TASK_INDEX",
        distribution=DISTRIBUTED, resources={"instance_count": 2},
    )  # fmt: skip
    ended = run(write(tmp_path / "job.yml", job))
    assert ended.state.status == "Completed"
    folder = Path(ended.state.steps["job"].folder)
    logs = ["stdout.log", *(f"stdout.rank{rank}.log" for rank in (1, 2, 3))]
    assert [(folder / name).read_text().strip() for name in logs] == [
        "0 0 0 4 2 2 0 0",
        "1 1 0 4 2 2 0 0",
        "2 0 1 4 2 2 1 1",
        "3 1 1 4 2 2 1 1",
    ]
    again = subprocess.run(["bash", str(folder / "repeat.sh")], capture_output=True, text=True, check=True, timeout=60)
    assert sorted(again.stdout.split("\n")[:-1]) == [
        "0 0 0 4 2 2 0 0", "1 1 0 4 2 2 0 0", "2 0 1 4 2 2 1 1", "3 1 1 4 2 2 1 1",
    ]  # fmt: skip


def test_without_a_distribution_one_process_stands_for_all_nodes(tmp_path: Path) -> None:
    job = command_job("echo ${WORLD_SIZE:-alone}", resources={"instance_count": 2})
    ended = run(write(tmp_path / "job.yml", job))
    folder = Path(ended.state.steps["job"].folder)
    assert [path.name for path in folder.glob("stdout*")] == ["stdout.log"]
    assert (folder / "stdout.log").read_text() == "alone\n"


def test_an_output_that_is_kept_is_there_for_the_next_attempt(tmp_path: Path) -> None:
    """The first attempt fails after it has written both outputs; the second finds the kept one and ends well."""
    body: dict[str, Any] = {
        "outputs": {"made": {"type": "uri_folder"}, "kept": {"type": "uri_folder"}},
        "tags": {"mlops.keeps": "kept"},
    }
    text = (
        "ls ${{outputs.made}} ${{outputs.kept}}; touch ${{outputs.made}}/half"
        " && [ -e ${{outputs.kept}}/mark ] || { touch ${{outputs.kept}}/mark; exit 3; }; rm ${{outputs.kept}}/mark"
    )
    write(tmp_path / "part.yml", component(text, **body))
    job = write(tmp_path / "job.yml", pipeline({"part": {"component": "./part.yml"}}))
    assert run(job, name="job").state.steps["part"].exit_code == 3
    assert not list(paths.home().rglob("half"))
    assert len(list(paths.home().rglob("mark"))) == 1
    ended = resume("job")
    assert ended.state.status == "Completed", ended.failures
    assert not list(Path(ended.state.steps["part"].outputs["kept"]).iterdir())


def test_when_one_of_several_processes_fails_the_others_are_ended(tmp_path: Path) -> None:
    job = command_job(
        f"if [ $RANK = 1 ]; then until [ -s {tmp_path}/pid ]; do sleep 0.02; done; echo broken >&2; exit 7; fi\n"
        f"echo $$ > {tmp_path}/pid; exec sleep {NEVER}",
        distribution=DISTRIBUTED,
    )
    ended = run(write(tmp_path / "job.yml", job))
    assert not alive(int((tmp_path / "pid").read_text()))
    assert ended.state.steps["job"].exit_code == 7
    lines, again = ended.failures["job"]
    assert lines == ["broken"]
    done = subprocess.run(again, shell=True, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 7
    assert done.stderr.startswith("broken\n")


@pytest.mark.slow
def test_live_tree_on_a_terminal(tmp_path: Path) -> None:
    job = pipeline({"good": command("echo hello; sleep 0.4"), "bad": command("false; exit 5"),
                    "after": command("cat ${{inputs.x}}", inputs={"x": "${{parent.jobs.bad.outputs.out}}"})})  # fmt: skip
    job["jobs"]["bad"]["outputs"] = {"out": {"type": "uri_file"}}
    write(tmp_path / "job.yml", job)
    main, side = pty.openpty()
    command_line = [sys.executable, "-c", WITHOUT_MLFLOW, "job", "run", str(tmp_path / "job.yml")]
    process = subprocess.Popen(
        command_line, stdout=side, stderr=side, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    )
    os.close(side)
    seen = b""
    while True:
        try:
            block = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        seen += block
    os.close(main)
    assert process.wait() == 1
    shown = seen.decode()
    assert "good │ " in shown.replace("\x1b[2m", "").replace("\x1b[0m", "")
    for sign in ("✓", "✗", "–"):
        assert sign in shown
    assert "exit code 5" in shown


@pytest.mark.slow
def test_a_closed_terminal_does_not_end_the_job(tmp_path: Path) -> None:
    job = write(
        tmp_path / "job.yml",
        pipeline({"a": command("for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done")}, settings=COMPUTE),
    )
    line = f"{sys.executable} -c \"{WITHOUT_MLFLOW}\" job run '{job}' --name piped 2>&1 | head -n 1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False, executable="/bin/bash")
    assert done.stdout == "▶ a: running\n"
    assert state("piped")["status"] == "Completed"


@pytest.mark.slow
def test_parallel_step(tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path / "it's data #1" / f"{number}.txt", str(number))
    write(tmp_path / "code" / "score.py", "import pathlib, sys\n\ndef init(): pass\n\n"
          "def run(batch): \n"
          "    return [pathlib.Path(item).read_text() + sys.argv[1] + str(len(sys.argv)) for item in batch]\n")  # fmt: skip
    step = {
        "type": "parallel", "inputs": {"data": "${{parent.inputs.data}}", "sign": "${{parent.inputs.sign}}"},
        "outputs": {"rows": {"type": "uri_file"}}, "input_data": "${{inputs.data}}", "mini_batch_size": "2",
        "max_concurrency_per_instance": 2,
        "task": {"type": "run_function", "code": "./code", "entry_script": "score.py",
                 "program_arguments": "${{inputs.sign}} # ${{inputs.data}}", "append_row_to": "${{outputs.rows}}",
                 "environment": "azureml:env:1"},
    }  # fmt: skip
    job = pipeline({"score": step}, inputs={"data": {"type": "uri_folder", "path": "./it's data #1"}, "sign": "!"})
    write(tmp_path / "job.yml", job)
    ended = run(tmp_path / "job.yml")
    assert output(ended, "score", "rows").read_text() == "0!4\n1!4\n2!4\n3!4\n4!4\n"
    script = JobFolder(ended.state.name).step("score") / "repeat.sh"
    subprocess.run(["bash", str(script)], check=True, capture_output=True)
    assert (script.parent / "repeat" / "outputs" / "rows").read_text() == output(ended, "score", "rows").read_text()
    assert statuses(run(tmp_path / "job.yml")) == {"score": "Reused"}
    write(tmp_path / "it's data #1" / "5.txt", "5")
    assert output(run(tmp_path / "job.yml"), "score", "rows").read_text().endswith("5!4\n")
