"""The command line as a whole: what it loads, how long it takes, its help texts, and how it ends."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from vision_mlops import __version__
from vision_mlops.cli.main import _problem_of, app, command_line, main

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "pytorch_lightning",
    "mlflow",
    "openvino",
    "azure",
    "matplotlib",
    "sklearn",
    "numpy",
)


def mlops(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vision_mlops", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: exit code, standard output, standard error."""

    def call(*words: str, **environment: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["mlops", *words])
            with pytest.raises(SystemExit) as ended:
                main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


def commands(command: Any = None, path: str = "mlops") -> Iterator[tuple[str, Any]]:
    command = command or typer.main.get_command(app)
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from commands(child, f"{path} {name}")


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["models", "--help"], ["config", "show"]])
def test_nothing_heavy_is_loaded(words: list[str]) -> None:
    code = "import sys, atexit\n"
    code += f"atexit.register(lambda: print('loaded:', [m for m in {HEAVY!r} if m in sys.modules]))\n"
    code += "from vision_mlops.cli.main import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize(("path", "command"), [pytest.param(*item, id=item[0]) for item in commands()])
def test_every_command_has_help_with_an_example_and_described_options(path: str, command: Any) -> None:
    assert f"`{path}" in command.help, f"{path}: the help text has no runnable example"
    for parameter in command.params:
        if parameter.name != "help" and not getattr(parameter, "hidden", False):
            assert getattr(parameter, "help", None), f"{path}: {parameter.name} has no help text"


def test_examples_in_help_texts_parse() -> None:
    """Each example names options that its command has."""
    known = dict(commands())
    for path, command in known.items():
        for example in " -- ".join(re.findall(r"`(mlops [^`]*)`", command.help)).split(" -- "):
            if not example.startswith("mlops "):
                continue
            owner = max((name for name in known if example.startswith(name)), key=len)
            options = {
                option for parameter in known[owner].params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            used = set(re.findall(r"(?<= )--?[a-z][\w-]*", example))
            assert used <= options, f"{path}: {example}"


def test_version_and_exit_codes(here: Callable[..., tuple[int, str, str]]) -> None:
    assert mlops("--version").stdout == f"mlops {__version__}\n"
    assert here("config", "check")[0] == 0
    for words in (["nothing"], ["train"], ["config", "check", "--workload", "nothing"], ["data", "show", "nowhere"]):
        code, output, errors = here(*words)
        assert code == 2, words
        assert "Traceback" not in errors
        assert output == ""


@pytest.mark.slow
def test_verbose_shows_the_traceback() -> None:
    quiet, loud = (mlops(*words, "data", "show", "nowhere") for words in ([], ["--verbose"]))
    assert "Traceback" not in quiet.stderr
    assert quiet.stderr.startswith(
        "error: nowhere is neither a prepared folder nor a data asset of this machine\n  -> "
    )
    assert "Traceback" in loud.stderr


def test_a_folder_that_cannot_be_written_is_one_line(here: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    _, _, errors = here(
        "data", "prepare", "--out", str(tmp_path / "x"), MLOPS_HOME=str(tmp_path), MLOPS_DATA__SOURCE="folder"
    )
    assert "does not name any images" in errors
    below = str(tmp_path / "file" / "below")
    code, _, errors = here("data", "register", str(tmp_path), "--name", "own", MLOPS_HOME=below)
    assert code == 2
    assert "Traceback" not in errors
    assert "->" in errors


def test_shell_completion() -> None:
    script = Path(sys.executable).with_name("mlops")
    asked = {"_MLOPS_COMPLETE": "complete_bash", "COMP_WORDS": "mlops mod", "COMP_CWORD": "1"}
    done = subprocess.run([str(script)], capture_output=True, text=True, check=False, env={**os.environ, **asked})
    assert done.stdout.split() == ["models"]


def test_a_missing_extra_names_what_to_install(tmp_path: Path) -> None:
    """Without torch, `mlops train` says which extra brings it."""
    from testing.support.prepared_data import make_prepared

    make_prepared(tmp_path / "data")
    code = "import sys\nsys.modules['torch'] = None\nfrom vision_mlops.cli.main import main\nmain()"
    words = ["train", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "bundle")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "pip install 'vision-mlops[train]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_the_page_of_help_says_of_each_command_what_the_command_says() -> None:
    """It is made from names and texts alone, so that it loads no command."""
    whole, light = typer.main.get_command(app), typer.main.get_command(command_line([]))
    assert isinstance(whole, typer.core.TyperGroup)
    assert isinstance(light, typer.core.TyperGroup)
    told = {name: (command.help or "").strip().split("\n\n")[0] for name, command in whole.commands.items()}
    assert {name: command.help for name, command in light.commands.items()} == told
    assert list(light.commands) == list(whole.commands)


@pytest.mark.parametrize("words", [["--help"], ["nothing"], ["models", "--help"]])
def test_a_command_line_loads_the_command_that_it_names(words: list[str]) -> None:
    code = "import sys, atexit\nname = 'vision_mlops.cli.{}'.format\n"
    code += "atexit.register(lambda: print([name(each) in sys.modules for each in ('models.models', 'jobs.job')]))\n"
    code += "from vision_mlops.cli.main import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == str([words[0] == "models", False]), done.stderr


def test_a_temporary_file_that_cannot_be_created_is_called_by_its_folder(tmp_path: Path) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "tmptubk3_5x"))
    assert _problem_of(denied) == f"the folder {tmp_path} cannot be written: Permission denied"
    (tmp_path / "out.csv").touch()
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "out.csv"))
    assert _problem_of(denied) == f"{tmp_path / 'out.csv'}: Permission denied"
    assert _problem_of(OSError("a library's own words")) == "a library's own words"
