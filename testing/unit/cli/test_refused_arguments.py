"""Arguments that mean something else than a file, a folder or a name here: the message says what to write instead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import pytest
from PIL import Image
from typer.models import ArgumentInfo
from typer.testing import CliRunner

from vision_mlops.cli import bundle_argument
from vision_mlops.cli.bundle_argument import ChosenBundle, choose_bundle
from vision_mlops.cli.commands import callbacks
from vision_mlops.cli.deploy import variables
from vision_mlops.cli.main import app
from vision_mlops.cli.predict import _files
from vision_mlops.core.errors import ConfigError, DataError, DeploymentError, MlopsError, RegistryError
from vision_mlops.data.manifest import read_manifest
from vision_mlops.data.sources import list_images
from vision_mlops.evaluation.evaluate import read_evaluation
from vision_mlops.model.bundle import read_bundle
from vision_mlops.model.bundle_lookup import find_bundle
from vision_mlops.notebooks.notebook_execution import find_notebooks
from vision_mlops.registry.model_versions import parse_reference
from vision_mlops.rollout.probe_images import folder_images


@pytest.mark.parametrize("text", ["http://x/y.jpg", "HTTPS://x/y.jpg", "abfss://c@a.dfs.core.windows.net/y.jpg"])
def test_an_address_is_no_file(text: str) -> None:
    with pytest.raises(MlopsError) as caught:
        _files([text])
    assert caught.value.message == f"{text} is an address; only files are read"
    with pytest.raises(DataError, match="is an address: only folders on this machine can be read"):
        list_images(Path(text))


@pytest.mark.parametrize(
    "read", [find_bundle, read_bundle, read_manifest, read_evaluation, folder_images, find_notebooks]
)
def test_what_is_missing_is_said_to_be_missing(read: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(MlopsError) as caught:
        read(tmp_path / "nowhere")
    assert caught.value.message.endswith("does not exist")
    assert str(tmp_path / "nowhere") in caught.value.message
    assert caught.value.hint


def test_standard_input_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MlopsError, match="standard input is not read"):
        _files(["-"])
    (tmp_path / "-").write_bytes(b"x")
    assert _files(["-"]) == ([Path("-")], [])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("models:/textile@champion", "write textile@champion"),
        ("models:/textile/3", "write textile:3"),
        ("azureml:textile@champion", "write textile@champion"),
        ("azureml:textile:3", "write textile:3"),
        ("azureml://registries/r/models/textile/versions/3", "write NAME:3 or NAME@champion"),
    ],
)
def test_references_of_other_tools_are_refused_with_ours(text: str, hint: str) -> None:
    with pytest.raises(RegistryError, match="models are named without") as caught:
        parse_reference(text)
    assert caught.value.hint == hint


@pytest.mark.parametrize("command", [["job", "run", "job.yml"], ["run", "--workload", "textile"]])
@pytest.mark.parametrize("option", [["--environment", "docker"], ["--environment", "host"], ["--jobs", "7"]])
def test_options_of_this_machine_mean_nothing_on_azure(command: list[str], option: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--on", "azure", *option])
    assert isinstance(done.exception, ConfigError)
    assert done.exception.message.startswith(f"{' '.join(option)} has no effect with --on azure")


def test_a_reference_of_mlflow_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []

    def registered(text: str) -> ChosenBundle:
        asked.append(text)
        return ChosenBundle(Path(), text)

    monkeypatch.setattr(bundle_argument, "registered_bundle", registered)
    choose_bundle("models:/textile@champion")
    assert choose_bundle("outputs/models").name == ""
    assert asked == ["models:/textile@champion"]


@pytest.mark.parametrize("name", ["A B", " A", "A\t", "1A", "Ä", "A$"])
def test_a_name_that_no_variable_can_have(name: str) -> None:
    with pytest.raises(DeploymentError, match="cannot be the name of a variable"):
        variables([f"{name}=1"])
    assert variables(["A_1=b c=d", "a.b-c="]) == {"A_1": "b c=d", "a.b-c": ""}


def test_registered_data_is_checked(tmp_path: Path, home: Path) -> None:
    images = tmp_path / "odd"
    for label in ("cat", "dog"):
        (images / label).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (40, 30), (number, 0, 0)).save(images / label / f"{number}.png")
    runner = CliRunner()
    assert runner.invoke(app, ["data", "register", str(images), "--name", "odd2"]).exit_code == 0
    for reference in ("azureml:odd2@latest", "azureml:odd2:1"):
        done = runner.invoke(app, ["data", "check", reference, "--no-labels", "--fail-on", "never"])
        assert done.exit_code == 0, done.output
        assert "12 images" in done.stderr
        assert str(home / "checks" / "odd2") in done.stderr
    assert runner.invoke(app, ["data", "check", "azureml:other:1", "--no-labels"]).exit_code != 0


def _names(words: str) -> int:
    """How many arguments of a command are one word each, and no path of a file."""
    hints = get_type_hints(callbacks()[words], include_extras=True).values()
    described = [(each.__origin__, each.__metadata__[0]) for each in hints if hasattr(each, "__metadata__")]
    return sum(kind in (str, str | None) and isinstance(told, ArgumentInfo) for kind, told in described)


@pytest.mark.parametrize("words", [words for words in sorted(callbacks()) if _names(words)])
def test_a_name_is_not_empty(words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As an unset variable of a shell makes it; --if-running must not take it for something that does not run."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*words.split(), *[""] * _names(words)])
    assert isinstance(done.exception, MlopsError), done.output
    assert done.exception.message.endswith(" is empty")


@pytest.mark.parametrize(
    "command", ["gate --candidate nowhere", "evaluate --bundle x@champion --data y --out z", "benchmark report"]
)
def test_a_refused_command_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setenv("MLOPS_HOME", "outputs")
    words = [sys.executable, "-m", "vision_mlops", *command.split()]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "next_one"),
    [("models", "`mlops run`"), ("endpoint", "`mlops deploy --to local --model NAME@champion`")],
)
def test_an_empty_list_says_how_to_get_one(home: Path, command: str, next_one: str) -> None:
    done = CliRunner().invoke(app, [command, "list"], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (0, "")
    assert next_one in done.stderr
    assert not home.exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["run", "--on", "azur"], "'--on': 'azur' is not one of 'local', 'azure'."),
        (["endpoint", "logs", "e", "--lines", "x"], "'x' is not a whole number"),
        (["endpoint", "logs", "e", "--lines", "0"], "'-n': 0 is below 1"),
    ],
)
def test_the_words_of_pydantic_are_not_shown(words: list[str], problem: str) -> None:
    done = CliRunner().invoke(app, words)
    said = " ".join(done.stderr.replace("│", " ").split())
    assert (done.exit_code, problem in said) == (2, True), said
    assert "Value error" not in said
    assert "Input should" not in said
