"""Environments of steps: virtual environments of conda files, built once, whole or not at all, and what is this Python."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import (
    Lines,
    command,
    command_job,
    mlops,
    output,
    pipeline,
    resume,
    run,
    started,
    state,
    statuses,
    text,
    write,
)
from testing.support.wheels import write_project, write_wheel

from vision_mlops.core import paths
from vision_mlops.core.errors import PipelineError
from vision_mlops.jobs.local.engine.pruning import prune
from vision_mlops.jobs.local.environments import pip_client, step_environments
from vision_mlops.jobs.local.environments.environment_contract import EnvironmentMode
from vision_mlops.jobs.local.environments.virtual_environment import VirtualEnvironment, environments_folder

IMAGE = "mcr.microsoft.com/azureml/openmpi5.0-ubuntu24.04"
SAYS = "def main(): print('says', NUMBER)\nNUMBER = {number}\n"
ASKS = "python -c 'import tinypack; print(tinypack.NUMBER)' > ${{outputs.out}}"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, without_mlflow: None) -> None:
    """No registry; whoever asks for one is told so."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "my project's"
    for number in (1, 2):
        write_wheel(folder / "wheels", "tinypack", f"{number}.0", SAYS.format(number=number))
    return folder


def conda(*pip: str, **more: Any) -> dict[str, Any]:
    return {"name": "e", "dependencies": ["python=3.11", "pip", *more.get("of_conda", ()), {"pip": list(pip)}]}


def job(folder: Path, *pip: str, text_: str = ASKS, name: str = "job.yml", **more: Any) -> Path:
    """A job whose environment has some packages."""
    write(folder / "conda.yaml", conda(*pip, **more))
    environment = {"image": IMAGE, "conda_file": "conda.yaml"}
    return write(folder / name, {**command_job(text_, {"out": "uri_file"}), "environment": environment})


def built() -> list[Path]:
    root = environments_folder()
    return [item for item in root.iterdir() if not item.name.startswith(".")] if root.is_dir() else []


ONE = "./wheels/tinypack-1.0-py3-none-any.whl"
TWO = "./wheels/tinypack-2.0-py3-none-any.whl"


@pytest.mark.slow
class TestPackages:
    def test_they_are_there_and_kept_by_content(self, project: Path) -> None:
        file, lines = job(project, ONE), Lines()
        ended = run(file, lines=lines)
        assert statuses(ended) == {"job": "Completed"}, lines.all
        assert text(ended, "job") == "1"
        (folder,) = built()
        assert ended.state.steps["job"].environment == str(folder)
        assert f"environment: {folder}" in lines.of("job")
        assert statuses(run(file)) == {"job": "Reused"}
        again = run(file, force=True, lines=(second := Lines()))
        assert (text(again, "job"), built()) == ("1", [folder])
        assert not any("building" in line for line in second.all)
        changed = run(job(project, TWO))
        assert (statuses(changed), text(changed, "job"), len(built())) == ({"job": "Completed"}, "2", 2)

    @pytest.mark.parametrize("place", [None, "state"])
    def test_the_home_folder_may_be_relative(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, place: str | None
    ) -> None:
        """As it is where nobody has set MLOPS_HOME: what builds the environment runs in another folder than we do."""
        monkeypatch.delenv("MLOPS_HOME")
        if place:
            monkeypatch.setenv("MLOPS_HOME", place)
        monkeypatch.chdir(project)
        ended = run(job(project, ONE), lines=(lines := Lines()))
        assert statuses(ended) == {"job": "Completed"}, lines.all
        assert text(ended, "job") == "1"
        (folder,) = built()
        assert folder.is_relative_to(project / (place or "outputs") / "cache")
        assert ended.state.steps["job"].environment == str(folder)

    def test_the_package_may_change_under_its_name(self, project: Path) -> None:
        file = job(project, ONE)
        assert text(run(file), "job") == "1"
        write_wheel(project / "wheels", "tinypack", "1.0", SAYS.format(number=3))
        assert text(run(file), "job") == "3"

    def test_commands_run_in_it(self, project: Path) -> None:
        """Those of the package, those of this Python, and pip itself, which must not install into this Python."""
        text_ = (
            "tinypack-command > ${{outputs.out}} && mlops --version >> ${{outputs.out}} && "
            "python -c 'import sys, yaml; print(sys.prefix)' >> ${{outputs.out}} && pip --version >> ${{outputs.out}} && "
            f"pip install {shlex.quote(str(project / 'wheels' / 'other-1.0-py3-none-any.whl'))} && "
            "python -c 'import other' && "
            "bash -c 'head -2 $(which mlops) | tail -1' >> ${{outputs.out}}"
        )
        write_wheel(project / "wheels", "other", "1.0", "")
        ended = run(job(project, ONE, text_=text_), lines=(lines := Lines()))
        assert statuses(ended) == {"job": "Completed"}, lines.all
        said = output(ended, "job").read_text().splitlines()
        assert said[:1] + said[2:3] == ["says 1", str(built()[0])]
        assert str(built()[0]) in said[-1], "mlops of a step sees the packages of the step"
        assert subprocess.run([sys.executable, "-c", "import other"], capture_output=True).returncode == 1

    def test_its_versions_win_and_what_suits_is_not_installed_again(self, project: Path) -> None:
        import yaml

        write_wheel(project / "wheels", "needy", "1.0", "def main(): pass\n", requires=f"PyYAML=={yaml.__version__}")
        write_wheel(project / "wheels", "idna", "0.1", "def main(): pass\nOWN = True\n")
        text_ = "python -c 'import idna, yaml; print(idna.OWN, yaml.__file__)' > ${{outputs.out}}"
        ended = run(
            job(project, "./wheels/needy-1.0-py3-none-any.whl", "idna==0.1", "--find-links ./wheels", text_=text_)
        )
        own, place = text(ended, "job").split(" ", 1)
        assert own == "True", "this Python has another idna"
        assert Path(place) == Path(yaml.__file__), "which would have been a download"

    def test_one_build_serves_two_jobs_at_once(self, project: Path) -> None:
        job(project, ONE)
        with (
            started("job", "run", project / "job.yml", "--name", "a") as first,
            started("job", "run", project / "job.yml", "--name", "b", "--force") as second,
        ):
            errors = [process.communicate(timeout=120)[1] for process in (first, second)]
        assert (first.returncode, second.returncode) == (0, 0), errors
        assert sum(f"| building the environment {built()[0]}" in error for error in errors) == 1
        assert len(built()) == 1

    def test_a_build_that_fails_names_the_package_and_leaves_nothing(self, project: Path) -> None:
        done = mlops("job", "run", job(project, ONE, "no-such-package-of-ours==7"), "--name", "bad")
        assert done.returncode == 1
        reason = "the environment cannot be built: the package 'no-such-package-of-ours==7' cannot be installed"
        assert f"step 'job' failed: {reason}" in done.stderr
        assert "--environment host" in done.stderr
        assert built() == []
        job(project, ONE)
        assert mlops("job", "resume", "bad").returncode == 0

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
    def test_a_build_that_is_interrupted_leaves_nothing(self, project: Path, how: signal.Signals) -> None:
        """After a kill the next job removes what is there."""
        write_project(project / "slow", "import time\ndef build_wheel(*_): open('begun', 'w'); time.sleep(60)\n")
        file = job(project, ONE, "./slow")
        with started("job", "run", file, "--name", "ended") as process:
            deadline = time.monotonic() + 60
            while not (project / "slow" / "begun").exists() and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(how)
            process.wait(60)
        assert process.returncode == (130 if how is signal.SIGINT else -how)
        if how is signal.SIGINT:
            assert built() == []
        assert state("ended")["steps"]["job"]["status"] in ("Canceled", "Running")
        job(project, ONE)
        ended = resume("ended")
        assert (statuses(ended), text(ended, "job")) == ({"job": "Completed"}, "1")

    def test_the_limit_of_a_step_does_not_count_the_build(self, project: Path) -> None:
        backend = (
            "import shutil, time\ndef build_wheel(folder, *_):\n    time.sleep(3)\n"
            f"    return shutil.copy({str(project / 'wheels' / ONE[9:])!r}, folder).rpartition('/')[2]\n"
        )
        write_project(project / "slow", backend)
        assert text(run(job(project, "./slow"), "limits.timeout=2"), "job") == "1"

    def test_prune_removes_those_that_no_step_was_started_in(self, project: Path) -> None:
        ended = run(job(project, ONE))
        os.utime(built()[0] / "environment.json", (time.time() - 86400 * 9,) * 2)
        assert prune(8, dry_run=True).environments == 1
        run(job(project, ONE), force=True)
        assert prune(8).environments == 0, "it was used since"
        os.utime(built()[0] / "environment.json", (time.time() - 86400 * 9,) * 2)
        done = mlops("job", "prune", "--days", "8")
        assert "1 virtual environment removed" in done.stderr
        assert built() == []
        assert statuses(run(job(project, ONE))) == {"job": "Reused"}, "what was made in it stays"
        assert ended.state.steps["job"].environment

    def test_sweeps_and_parallel_steps_run_in_it(self, project: Path) -> None:
        write(
            project / "code" / "score.py",
            "import tinypack\ndef init(): pass\ndef run(batch): return [tinypack.NUMBER]\n",
        )
        write(project / "data" / "a.txt", "a")
        write(project / "conda.yaml", conda(ONE))
        environment = {"image": IMAGE, "conda_file": "./conda.yaml"}
        task = {"type": "run_function", "code": "./code", "entry_script": "score.py", "environment": environment,
                "append_row_to": "${{outputs.out}}"}  # fmt: skip
        step = {
            "type": "parallel", "task": task, "input_data": "${{inputs.data}}", "mini_batch_size": "1",
            "inputs": {"data": {"type": "uri_folder", "path": "./data"}}, "outputs": {"out": {"type": "uri_file"}},
        }  # fmt: skip
        ended = run(write(project / "job.yml", pipeline({"a": step})), lines=(lines := Lines()))
        assert statuses(ended) == {"a": "Completed"}, lines.all
        assert text(ended, "a") == "1"


class TestThisPython:
    """What needs no packages of its own."""

    def ran_in(self, file: Path, lines: Lines | None = None, **options: Any) -> str:
        ended = run(file, lines=lines, **options)
        assert built() == []
        return text(ended, "job")

    PREFIX = "python -c 'import sys; print(sys.prefix)' > ${{outputs.out}}"

    @pytest.mark.parametrize(
        "environment",
        [
            "azureml:anything@latest", "azureml://registries/azureml/environments/sklearn-1.5/labels/latest",
            {"image": IMAGE},
            {"image": IMAGE, "conda_file": {"dependencies": ["python", "pip"]}},
            {"image": IMAGE, "conda_file": {"name": "vision-mlops-train", "dependencies": [{"pip": ["nowhere"]}]}},
            {"name": "vision-mlops-train", "image": IMAGE, "conda_file": {"dependencies": [{"pip": ["nowhere"]}]}},
        ],
    )  # fmt: skip
    def test_references_images_and_our_own(self, project: Path, environment: Any) -> None:
        content = {**command_job(self.PREFIX, {"out": "uri_file"}), "environment": environment}
        lines = Lines()
        assert self.ran_in(write(project / "job.yml", content), lines) == sys.prefix
        assert not any("warning" in line for line in lines.all)

    @pytest.mark.slow
    def test_host_takes_it_whatever_the_definition_says(self, project: Path) -> None:
        file = job(project, "nowhere", text_=self.PREFIX)
        assert self.ran_in(file, environment=EnvironmentMode.HOST) == sys.prefix
        assert mlops("job", "run", file, "--environment", "host", "--name", "h").returncode == 0
        assert state("h")["environment"] == "host"

    def test_a_dockerfile_is_named(self, project: Path) -> None:
        write(project / "context" / "Dockerfile", "FROM scratch\n")
        content = {**command_job(self.PREFIX, {"out": "uri_file"}), "environment": {"build": {"path": "./context"}}}
        lines = Lines()
        self.ran_in(write(project / "job.yml", content), lines)
        assert lines.all[0].startswith("warning: environment of job: its Dockerfile is not built")


def test_a_step_whose_environment_is_not_there_fails(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not run in another Python, whatever has become of its environment."""
    monkeypatch.setattr(VirtualEnvironment, "order", lambda *_: ["true"])
    ended = run(job(project, ONE, text_="echo ran > ${{outputs.out}}"))
    assert statuses(ended) == {"job": "Failed"}
    assert "was prepared, but does not exist" in ended.state.steps["job"].message


@pytest.mark.slow
def test_definitions_of_files_and_of_the_store(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file and a registered environment mean what is in them, and paths start from where they lie."""
    write(project / "deep" / "conda.yaml", conda("nowhere"))
    definition = write(project / "deep" / "env.yml", {"name": "of-mine", "image": IMAGE, "conda_file": "conda.yaml"})
    done = mlops("assets", "create", definition)
    assert done.returncode == 0, done.stderr
    for reference in ("file:./deep/env.yml", "azureml:of-mine@latest", "azureml:of-mine:1"):
        content = {**command_job("echo", {"out": "uri_folder"}), "environment": reference}
        ended = run(write(project / "job.yml", content))
        assert "the package 'nowhere' cannot be installed" in ended.state.steps["job"].message, reference
    content["environment"] = "azureml:of-mine:7"
    with pytest.raises(PipelineError, match="'of-mine' has no version '7'"):
        run(write(project / "job.yml", content))


def test_warnings_come_before_anything_runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that the registry lacks are left out, each warning names its steps once, also without other output."""
    asked: list[str] = []

    def unknown(requirements: Any) -> list[str]:
        asked.extend(requirements)
        return [item for item in asked if "ours" in item]

    monkeypatch.setattr(step_environments, "unknown_packages", unknown)
    write(project / "conda.yaml", {"dependencies": ["python=3.7", "cudatoolkit", "only-ours=1"]})
    environment = {"image": IMAGE, "conda_file": "conda.yaml"}
    steps = {name: {**command("echo hello"), "environment": environment} for name in ("a", "b")}
    job = pipeline(steps, settings={"default_compute": "azureml:c"})
    ended = run(write(project / "job.yml", job), lines=(lines := Lines()))
    assert statuses(ended) == {"a": "Completed", "b": "Completed"}
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert lines.all[:3] == [
        f"warning: environment of a, b: it asks for python==3.7.*, but steps run in Python {ours} here",
        "warning: environment of a, b: conda package 'cudatoolkit' is not a Python package and is left out",
        "warning: environment of a, b: conda package 'only-ours' is not in the Python registry and is left out",
    ]
    assert asked == ["only-ours==1.*"]


@pytest.mark.slow
def test_a_registry_that_cannot_be_reached_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert pip_client.unknown_packages(["no-such-package-of-ours==1", "PyYAML"]) == []


@pytest.mark.slow
def test_a_registry_that_lacks_a_package_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(tmp_path / "simple" / "tinypack", "tinypack", "1.0", "")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "simple" / "tinypack"))
    asked = ["no-such-package-of-ours==1", "tinypack==1.0", "PyYAML>5"]
    assert pip_client.unknown_packages(asked) == ["no-such-package-of-ours==1"]


@pytest.mark.slow
def test_a_conda_file_that_is_broken_is_refused_before_anything_runs(project: Path) -> None:
    file = job(project, ONE)
    write(project / "conda.yaml", "dependencies: [a")
    done = mlops("job", "run", file)
    assert done.returncode == 2
    assert "conda.yaml cannot be read" in done.stderr
    assert json.loads(mlops("job", "list", "--json").stdout) == []
    assert not (paths.home() / "jobs").exists()
