"""Steps in containers, with an engine that notes its calls and runs the commands; no real one was at hand."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import (
    Lines,
    command,
    command_job,
    mlops,
    pipeline,
    run,
    started,
    state,
    statuses,
    text,
    write,
)

import vision_mlops
from vision_mlops.core import paths
from vision_mlops.core.errors import DeploymentError, PipelineError
from vision_mlops.jobs.local.engine.local_jobs import JobResult
from vision_mlops.jobs.local.environments.environment_contract import EnvironmentMode

ENGINE = Path(__file__).parents[2] / "support" / "step_containers.py"
ROOT = Path(vision_mlops.__file__).parents[2]


@pytest.fixture(autouse=True)
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_mlflow: None) -> Path:
    """State of the engine."""
    folder = tmp_path / "engine"
    words = [sys.executable, str(ENGINE), str(folder)]
    monkeypatch.setenv("MLOPS_CONTAINER_ENGINE", shlex.join(words))
    monkeypatch.setattr("shutil.which", lambda name, *_, **__: None if name == "nvidia-smi" else f"/usr/bin/{name}")
    return folder


def calls(engine: Path, name: str) -> list[list[str]]:
    found = [json.loads(line) for line in (engine / "calls.jsonl").read_text().splitlines()]
    return [call for call in found if call[0] == name]


def values(call: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(call) if name == option]


def in_docker(path: Path, *changes: str, lines: Lines | None = None) -> JobResult:
    return run(path, *changes, lines=lines, environment=EnvironmentMode.DOCKER)


def job(folder: Path, text_: str, environment: Any, **more: Any) -> Path:
    return write(folder / "job.yml", {**command_job(text_, {"out": "uri_file"}, **more), "environment": environment})


@pytest.mark.slow
def test_an_image_is_pulled_and_the_step_runs_in_it(
    tmp_path: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THIS_MACHINE", "1")
    monkeypatch.setenv("MLOPS_CONTAINER_RUN_OPTIONS", "--ulimit nofile=9:9")
    data = write(tmp_path / "data of mine" / "a.csv", "1,2\n")
    more = {
        "inputs": {"table": {"type": "uri_file", "path": str(data)}}, "environment_variables": {"SECRET": "s3"},
        "resources": {"shm_size": "4g", "docker_args": "--ulimit core=1"},
    }  # fmt: skip
    text_ = "cat ${{inputs.table}} > ${{outputs.out}}; "
    text_ += "echo $SECRET $OF_THIS_MACHINE $AZUREML_PROCESS_NAME >> ${{outputs.out}}"
    file = job(tmp_path, text_, {"image": "some/image:7"}, **more)
    ended = in_docker(file, lines=(lines := Lines()))
    assert statuses(ended) == {"job": "Completed"}, lines.all
    assert text(ended, "job") == "1,2\ns3 main"
    assert calls(engine, "pull") == [["pull", "some/image:7"]]
    (call,) = calls(engine, "run")
    home, work = paths.home(), paths.home() / "jobs" / ended.state.name / "steps" / "job" / "work"
    assert values(call, "--mount") == [
        f"type=bind,source={home},target={home}", f"type=bind,source={data},target={data},readonly"
    ]  # fmt: skip
    assert (values(call, "--workdir"), values(call, "--shm-size")) == ([str(work)], ["4g"])
    assert values(call, "--ulimit") == ["core=1", "nofile=9:9"]
    assert {"SECRET", "AZUREML_RUN_ID", "MLOPS_HOME"} <= set(values(call, "--env"))
    assert {"PATH", "OF_THIS_MACHINE", "SECRET=s3"}.isdisjoint(values(call, "--env"))
    assert call[call.index("--entrypoint") + 1 : call.index("--entrypoint") + 4] == ["bash", "some/image:7", "-c"]
    assert ended.state.steps["job"].environment.startswith("some/image:7 (")
    assert statuses(in_docker(file)) == {"job": "Reused"}
    job(tmp_path, text_, {"image": "some/image:8"}, **more)
    assert statuses(in_docker(file)) == {"job": "Completed"}, "another image is another environment"
    assert statuses(run(file)) == {"job": "Completed"}, "and so is none"


@pytest.mark.slow
def test_images_of_definitions(tmp_path: Path, engine: Path) -> None:
    """A Docker context, conda packages on an image, a curated environment, our own."""
    write(tmp_path / "context" / "docker" / "Dockerfile", "FROM scratch\n")
    write(tmp_path / "conda.yaml", {"dependencies": ["numpy"]})
    reference = "azureml://registries/azureml/environments/sklearn-1.5/labels/latest"
    environments: list[Any] = [
        {"build": {"path": "./context", "dockerfile_path": "docker/Dockerfile"}},
        {"image": "base:1", "conda_file": "conda.yaml"}, reference, "azureml:AzureML-Sklearn-1.5@latest",
    ]  # fmt: skip
    steps = {f"s{number}": {**command("true"), "environment": item} for number, item in enumerate(environments)}
    ended = in_docker(write(tmp_path / "job.yml", pipeline(steps)), lines=(lines := Lines()))
    assert set(statuses(ended).values()) == {"Completed"}, lines.all
    first, second = calls(engine, "build")
    assert first[first.index("-f") + 1 :][:1] == [str(tmp_path / "context" / "docker" / "Dockerfile")]
    assert first[-1] == str(tmp_path / "context")
    context = Path(second[-1])
    assert (context / "conda.yaml").read_text() == "dependencies:\n- numpy\n"
    assert (context / "Dockerfile").read_text().startswith("FROM base:1\n")
    assert {call[-1] for call in calls(engine, "pull")} == {"mcr.microsoft.com/azureml/curated/sklearn-1.5:latest"}
    write(tmp_path / "context" / "docker" / "Dockerfile", "FROM scratch\nENV A=1\n")
    assert statuses(in_docker(tmp_path / "job.yml"))["s0"] == "Completed", "its content is part of the environment"
    assert len(calls(engine, "build")) == 3


def test_our_own_environment_is_that_of_the_project(tmp_path: Path, engine: Path) -> None:
    write(tmp_path / ".amlignore", "")
    write(tmp_path / "Dockerfile", "FROM scratch\n")
    write(tmp_path / "environments" / "train.yml", {"name": "vision-mlops-train", "build": {"path": ".."}})
    in_docker(job(tmp_path, "echo 1 > ${{outputs.out}}", "azureml:vision-mlops-train@latest"))
    assert calls(engine, "build")[0][-1] == str(tmp_path)


def test_a_build_that_fails_is_told(tmp_path: Path, engine: Path) -> None:
    write(tmp_path / "context" / "Dockerfile", "FROM scratch\nRUN false\n")
    ended = in_docker(job(tmp_path, "echo", {"build": {"path": "./context"}}), lines=(lines := Lines()))
    assert statuses(ended) == {"job": "Failed"}
    assert "its environment cannot be created" in ended.state.steps["job"].message
    assert any("did not complete successfully" in line for line in lines.of("job"))
    assert calls(engine, "build")
    assert not any(call[0] == "run" for call in map(json.loads, (engine / "calls.jsonl").read_text().splitlines()))


@pytest.mark.slow
def test_several_processes_and_parallel_steps(tmp_path: Path, engine: Path) -> None:
    distributed = {"distribution": {"type": "pytorch", "process_count_per_instance": 2}}
    text_ = "echo $RANK $AZUREML_PROCESS_NAME >> ${{outputs.out}}"
    ended = in_docker(job(tmp_path, text_, {"image": "i:1"}, **distributed))
    assert sorted(text(ended, "job").splitlines()) == ["0 rank_0", "1 rank_1"]
    write(tmp_path / "code" / "score.py", "def init(): pass\ndef run(batch): return list(batch)\n")
    write(tmp_path / "data" / "a.txt", "a")
    task = {"type": "run_function", "code": "./code", "entry_script": "score.py", "environment": {"image": "i:1"},
            "append_row_to": "${{outputs.out}}"}  # fmt: skip
    step = {
        "type": "parallel", "task": task, "input_data": "${{inputs.data}}", "mini_batch_size": "1",
        "inputs": {"data": {"type": "uri_folder", "path": "./data"}}, "outputs": {"out": {"type": "uri_file"}},
    }  # fmt: skip
    ended = in_docker(write(tmp_path / "job.yml", pipeline({"a": step})), lines=(lines := Lines()))
    assert statuses(ended) == {"a": "Completed"}, lines.all
    source = str(ROOT / "src")
    assert f"type=bind,source={source},target={source},readonly" in values(calls(engine, "run")[-1], "--mount")


def test_an_environment_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        PipelineError, match="the environment 'nobody-knows' is not registered on this machine"
    ) as caught:
        in_docker(job(tmp_path, "echo", "azureml:nobody-knows@latest"))
    assert "mlops assets create" in caught.value.hint


def test_without_an_engine_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_CONTAINER_ENGINE", str(tmp_path / "no-engine"))
    file = job(tmp_path, "echo", {"image": "i:1"})
    with pytest.raises(DeploymentError, match="no-engine' cannot be run"):
        in_docker(file)
    stopped = tmp_path / "stopped"
    stopped.write_text(
        "#!/bin/sh\necho 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock.' >&2; exit 1\n"
    )
    stopped.chmod(0o755)
    monkeypatch.setenv("MLOPS_CONTAINER_ENGINE", str(stopped))
    done = mlops("job", "run", file, "--environment", "docker")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the container engine is not running: Cannot connect to the Docker daemon at")
    assert "\n  -> start it, " in done.stderr
    assert not list((paths.home() / "jobs").glob("*"))
    monkeypatch.delenv("MLOPS_CONTAINER_ENGINE")
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(DeploymentError, match="neither docker nor podman is installed"):
        in_docker(tmp_path / "job.yml")


def wait_for(done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_container_is_left(tmp_path: Path, engine: Path, how: signal.Signals) -> None:
    """Ctrl-C reaches the container; after a kill the next look after the job removes it."""
    file = job(tmp_path, "trap '' INT TERM; echo begun > outputs/begun; while true; do sleep 1; done", {"image": "i:1"})
    begun = paths.home() / "jobs" / "ended" / "steps" / "job" / "work" / "outputs" / "begun"
    with started("job", "run", file, "--name", "ended", "--environment", "docker") as process:
        wait_for(begun.exists)
        process.send_signal(how)
        process.wait(90)
    assert state("ended")["environment"] == "docker"
    if how is signal.SIGKILL:
        assert list((engine / "containers").iterdir()), "as with Docker, the container runs on"
        assert mlops("job", "cancel", "ended").returncode == 0
    wait_for(lambda: not list((engine / "containers").iterdir()))
