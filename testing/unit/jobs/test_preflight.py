"""What is refused before anything runs, with the thing and the mend named, and nothing left behind; and `--set`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import (
    SCHEMA,
    command,
    command_job,
    component,
    mlops,
    pipeline,
    resume,
    run,
    statuses,
    text,
    write,
)
from testing.support.user_rights import as_nobody, open_folder

from vision_mlops.core import paths
from vision_mlops.core.errors import JobError, MlopsError, PipelineError

pytestmark = pytest.mark.usefixtures("without_mlflow")


def refused(file: Path, message: str, *changes: str, **options: Any) -> MlopsError:
    with pytest.raises(MlopsError, match=message) as caught:
        run(file, *changes, **options)
    assert caught.value.hint
    jobs = paths.home() / "jobs"
    assert not jobs.exists() or not list(jobs.iterdir())
    return caught.value


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD_FILES: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "the file is empty"),
    "a list": ("- a\n- b\n", "the file is a list"),
    "binary": (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00>\x00\x01\x00\x00\x00\xb0\x8f", "not"),
    "noise": (bytes(range(256)) * 20, "not UTF-8 text"),
    "a bomb": (BOMB, "expands to more than 20000 values"),
    "no YAML": ("jobs: {a: [", "not valid YAML"),
    "two documents": (f"$schema: {SCHEMA}/pipelineJob.schema.json\n---\na: 1\n", "not valid YAML"),
    "huge": ("a: " + "x" * 300_000, "more than 256000 bytes"),
    "a component": (f"$schema: {SCHEMA}/commandComponent.schema.json\nname: x\ncommand: ls\nenvironment: azureml:e:1\n",
                    "the file defines a commandComponent"),
    "an unknown key": (f"$schema: {SCHEMA}/commandJob.schema.json\ncomand: ls\ncommand: ls\nenvironment: azureml:e:1\n",
                       "unknown key 'comand'"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(BAD_FILES))
def test_files_that_are_no_jobs(tmp_path: Path, what: str) -> None:
    content, message = BAD_FILES[what]
    file = tmp_path / "job.yml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    error = refused(file, message)
    assert str(file) in error.message


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder")
    refused(tmp_path / "nowhere.yml", "does not exist")
    os.mkfifo(tmp_path / "pipe.yml")
    refused(tmp_path / "pipe.yml", "is not a file")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "code that is missing": (command("ls", code="./nowhere"), "code './nowhere' does not exist"),
    "code in a repository": (command("ls", code="git+https://example.com/x.git"), "is not on this machine"),
    "a program that is missing": (command("nosuchprogram --x"), "'nosuchprogram' does not exist on this machine"),
    "one behind a comment": (command("# don't\n\nA='x y' nosuchprogram; ls"), "the command 'nosuchprogram' does not exist"),
    "one behind a variable": (command("A=1 B='2 3' nosuchprogram"), "the command 'nosuchprogram' does not exist"),
    "a script that is missing": (command("./run.sh", code="./code"), "the command './run.sh' does not exist"),
    "mpi": (command("ls", distribution={"type": "mpi", "process_count_per_instance": 2}), "distribution mpi"),
    "tensorflow": (command("ls", distribution={"type": "tensorflow", "worker_count": 2}), "distribution tensorflow"),
    "ray": (command("ls", distribution={"type": "ray"}), "distribution ray"),
    "a mode": (
        command("ls ${{inputs.x}}", inputs={"x": {"type": "mltable", "path": "./code", "mode": "eval_mount"}}),
        "has mode eval_mount",
    ),
    "a missing step": (
        command("ls ${{inputs.x}}", inputs={"x": "${{parent.jobs.other.outputs.out}}"}), "the pipeline has no step 'other'",
    ),
    "a number of processes that is none": (
        component("ls", {"n": "string"}, distribution={"type": "pytorch", "process_count_per_instance": "${{inputs.n}}"}),
        "'many', not a whole number",
    ),
    "a number of nodes that is none": (
        component("ls", {"n": "string"}, distribution={"type": "pytorch"}, resources={"instance_count": "${{inputs.n}}"}),
        "'many', not a whole number",
    ),
    "an output that is kept and not there": (
        component("ls", {"n": "string"}, outputs={"made": {"type": "uri_folder"}}, tags={"mlops.keeps": "mode"}),
        "the tag mlops.keeps does not name one of its outputs: 'mode'",
    ),
    "a zero byte in a variable": (command("ls", environment_variables={"A": "x\0"}), "environment variable 'A'"),
    "a name that no variable has": (command("ls", environment_variables={"A=B": "x"}), "environment variable 'A=B'"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(REFUSED))
def test_steps_that_cannot_run(tmp_path: Path, what: str) -> None:
    step, message = REFUSED[what]
    for name in ("x.sh", "MLTable"):
        write(tmp_path / "project" / "code" / name, "")
    (tmp_path / "project" / ".amlignore").touch()
    if "$schema" in step:
        write(tmp_path / "project" / "part.yml", step)
        step = {"component": "./part.yml", "inputs": {"n": "many"}}
    refused(write(tmp_path / "project" / "job.yml", pipeline({"good": command("true"), "bad": step})), message)


@pytest.mark.parametrize(
    "text_of",
    ["A='x y z' true", "A=$(echo 1 2) true", "if true; then echo x; fi", "[ -e . ] && echo", "for i in 1 2; do true; done",
     "(echo x)", "{ echo x; }", "# only a comment", "function f { true; }; f", "! false", "typeset x=1", "exec true",
     '"true" x', "cat <<'END'\nit's\nEND", "true; nosuchprogram || true"],
)  # fmt: skip
def test_commands_that_only_look_odd(tmp_path: Path, text_of: str) -> None:
    assert statuses(run(write(tmp_path / "job.yml", command_job(text_of)))) == {"job": "Completed"}


def test_a_program_of_the_steps_own_path(tmp_path: Path) -> None:
    tool = write(tmp_path / "bin" / "owntool", "#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    job = command_job("owntool", environment_variables={"PATH": f"{tool.parent}:/usr/bin:/bin"})
    assert statuses(run(write(tmp_path / "job.yml", job))) == {"job": "Completed"}


def test_a_program_that_turns_out_to_be_missing(tmp_path: Path) -> None:
    ended = run(write(tmp_path / "job.yml", command_job("true && nosuchprogram")))
    assert ended.state.steps["job"].message == "exit code 127: one of its commands does not exist"


def test_parallel_steps_that_cannot_run(tmp_path: Path) -> None:
    write(tmp_path / "code" / "score.py", "")
    write(tmp_path / "data" / "x", "")

    def job(**more: Any) -> Path:
        task = {"type": "run_function", "code": "./code", "entry_script": "score.py", "environment": "azureml:e:1"}
        step = {"type": "parallel", "inputs": {"data": {"type": "uri_folder", "path": "./data"}},
                "input_data": "${{inputs.data}}", "mini_batch_size": "1",
                "task": task | more.pop("task", {}), **more}  # fmt: skip
        return write(tmp_path / "job.yml", pipeline({"a": step}))

    refused(job(task={"type": "model"}), "a task of type model")
    refused(job(partition_keys=["a"]), "partition_keys")
    refused(job(task={"entry_script": "other.py"}), "other.py")


@pytest.fixture
def shared() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def test_data_and_places_without_rights(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(shared / "home"))
    write(shared / "data" / "deep" / "x", "x").chmod(0)
    write(shared / "closed" / "x", "x")
    (shared / "closed").chmod(0)
    write(shared / "shut" / "x", "x")
    (shared / "shut").chmod(0o500)
    try:
        for given, message in (("data", "data/deep/x cannot be read"), ("closed", "closed cannot be read")):
            job = command_job("ls ${{inputs.x}}", inputs={"x": {"type": "uri_folder", "path": f"./{given}"}})
            file = write(shared / "job.yml", job)
            with as_nobody():
                refused(file, message)
        file = write(shared / "job.yml", command_job("ls", code="./data"))
        with as_nobody():
            refused(file, "data/deep/x cannot be read")
        job = command_job("echo x > ${{outputs.out}}", {"out": {"type": "uri_file", "path": "./shut/deep/x"}})
        file = write(shared / "job.yml", job)
        with as_nobody():
            refused(file, "shut cannot be written to")
        file = write(shared / "job.yml", command_job("true"))
        monkeypatch.setenv("MLOPS_HOME", str(shared / "shut" / "home"))
        with as_nobody(), pytest.raises(PermissionError):
            run(file)
    finally:
        for name in ("closed", "shut"):
            (shared / name).chmod(0o700)


def test_on_the_command_line(tmp_path: Path) -> None:
    file = write(tmp_path / "job.yml", command_job("nosuchprogram"))
    done = mlops("job", "run", file)
    assert done.returncode == 2
    assert done.stderr == (
        "error: step 'job': the command 'nosuchprogram' does not exist on this machine\n"
        "  -> install it, or correct the name\n"
    )
    assert not paths.home().exists() or not (paths.home() / "jobs").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "-x", "x" * 200, "ä", "a b", "x\n"])
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / "job.yml", command_job("true"))
    if not name:  # an empty one is none: a new name is made
        run(file, name=name)
        return
    refused(file, "cannot be the name of a job", name=name)


def test_names_that_are_taken(tmp_path: Path) -> None:
    file = write(tmp_path / "job.yml", command_job("true"))
    run(file, name="taken")
    with pytest.raises(JobError, match="a job 'taken' already exists"):
        run(file, name="taken")


# --set


@pytest.fixture
def job(tmp_path: Path) -> Path:
    write(tmp_path / "project" / "data" / "x", "project")
    write(tmp_path / "here" / "data" / "x", "here")
    write(tmp_path / "here" / "more" / "x", "more")
    part = component("cat ${{inputs.data}}/x > ${{outputs.out}}; echo ' ${{inputs.n}} ${{inputs.word}}' >> ${{outputs.out}}",
                     {"data": "uri_folder", "n": {"type": "integer", "default": 1, "max": 9}, "word": "string"},
                     outputs={"out": "uri_file"})  # fmt: skip
    write(tmp_path / "project" / "part.yml", part)
    step = {"component": "./part.yml", "inputs": {"data": "${{parent.inputs.data}}", "word": "${{parent.inputs.word}}"}}
    inline = command("echo ${{inputs.a}} > ${{outputs.out}}", {"out": "uri_file"}, inputs={"a": 1})
    inputs = {"data": {"type": "uri_folder", "path": "./data"}, "word": "w"}
    content = pipeline({"a": step, "inline": inline}, inputs=inputs, outputs={})
    return write(tmp_path / "project" / "job.yml", content)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], "project 1 w"),
        (["inputs.word=v"], "project 1 v"),
        (["inputs.word=v", "inputs.word=u"], "project 1 u"),
        (["inputs.word=2026-01-31"], "project 1 2026-01-31"),
        (["inputs.word=a=b"], "project 1 a=b"),
        (["inputs.word=007"], "project 1 007"),
        (["inputs.data=data"], "here 1 w"),
        (["inputs.data=./more"], "more 1 w"),
        (["inputs.data.path=more"], "more 1 w"),
        (["inputs.data={type: uri_folder, path: more}"], "more 1 w"),
        (["inputs.data=../project/data"], "project 1 w"),
        (["jobs.a.inputs.n=7"], "project 7 w"),
        (["jobs.a.inputs.data={type: uri_folder, path: more}"], "more 1 w"),
    ],
)
def test_changes(job: Path, changes: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path / "here")
    assert text(run(job, *changes), "a") == expected


def test_changes_of_other_keys(job: Path) -> None:
    ended = run(job, "experiment_name=exp", "display_name=Shown", "tags.team=x", "settings.force_rerun=true",
                "jobs.inline.command=echo changed ${{inputs.a}} > ${{outputs.out}}",
                "jobs.inline.environment_variables.A=1", "jobs.inline.limits.timeout=5")  # fmt: skip
    assert (ended.state.experiment, ended.state.display_name, ended.state.tags) == ("exp", "Shown", {"team": "x"})
    assert text(ended, "inline") == "changed 1"


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ("inputs.wrd=v", "has no input 'wrd'", "did you mean 'word'"),
        ("inputs.wrd.path=v", "has no input 'wrd'", "did you mean 'word'"),
        ("input.word=v", "unknown key 'input'", "did you mean 'inputs'"),
        ("experiment=v", "unknown key 'experiment'", "did you mean 'experiment_name'"),
        ("settings.force_rerunn=true", "unknown key 'force_rerunn'", "did you mean 'force_rerun'"),
        ("jobs.inlin.command=ls", "jobs of .*job.yml has no step 'inlin'|has no step 'inlin'", "did you mean 'inline'"),
        ("jobs.a.inputs.nn=3", "step 'a' has no input 'nn'", "did you mean 'n'|Valid here"),
        ("jobs.inline.inputs.b=3", "has no input 'b'", "^It has: a"),
        ("jobs.inline.outputs.ou.path=x", "has no output 'ou'", "did you mean 'out'"),
        ("jobs.a.outputs.ou.path=x", "has no output 'ou'", "did you mean 'out'"),
        ("outputs.x.path=y", "has no output 'x'", "it has no outputs"),
        ("jobs.inline.compute_=x", "unknown key 'compute_'", "did you mean 'compute'"),
        ("inputs.word.deep=x", "'word' of .* is a value, not a mapping", "mlops job show"),
        ("inputs.word", "is not of the form key=value", "for example"),
        ("=x", "is not of the form key=value", "for example"),
        ("inputs..word=x", "is not of the form key=value", "for example"),
        ("settings={", "the value is not valid YAML", "quote"),
        ("tags=!!python/object:os.system x", "the value is not valid YAML", "quote"),
        ("tags={a: 2026-11-29}", "2026-11-29 is read as a date", "write '2026-11-29'"),
        ("jobs.a.inputs.n=1_000", "'1_000' is not of type integer", "write a whole number"),
        ("jobs.inline.inputs.a=0x10", "'0x10' is not of type number", "write a number"),
        ("jobs.a.inputs.n=010 #", "'010 #' is not of type integer", "write a whole number"),
        ("jobs.a.inputs.n=70", "above max", "use a value in"),
        ("jobs.a.inputs.n=many", "not of type integer", "write a whole number"),
        ("inputs.data=nowhere", "'.*/here/nowhere' does not exist", "looked for"),
        ("settings.force_rerun=maybe", "force_rerun", ""),
    ],
)
def test_changes_with_mistakes(
    job: Path, change: str, message: str, hint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path / "here")
    error = refused(job, message, change)
    assert re.search(hint, error.hint), error.hint


def test_resuming_finds_the_paths_of_the_command_line_again(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "here")
    ended = run(job, "inputs.data=more", "jobs.inline.command=test -e mark", name="job")
    assert statuses(ended)["inline"] == "Failed"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match="does not exist"):
        run(job, "inputs.data=more")
    assert text(resume("job"), "a") == "more 1 w"
