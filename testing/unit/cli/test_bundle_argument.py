"""Commands that take a bundle take a registered version, too, and warn of one that no gate has let through."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from testing.support.bundles import make_bundle
from testing.support.prepared_data import COLOURS, make_prepared
from testing.support.registry_contract import write_verdict
from testing.support.scoring_servers import serving
from typer.testing import CliRunner

from vision_mlops.cli import bundle_argument
from vision_mlops.cli.bundle_argument import ChosenBundle, choose_bundle
from vision_mlops.cli.main import app
from vision_mlops.core.errors import RegistryError
from vision_mlops.registry import open_registry
from vision_mlops.registry.version_index import warning_about_folder


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> Path:
    """A folder with the bundles of three versions and the home folder of their registry."""
    folder = tmp_path_factory.mktemp("registered")
    (folder / "home").mkdir()
    shutil.copyfile(store_template, folder / "home" / "mlflow.db")
    made = [("promote", ["champion"], {}), ("reject", [], {"swap": True}), ("inconclusive", [], {"image_size": 48})]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_HOME", str(folder / "home"))
        for number, (decision, aliases, how) in enumerate(made, 1):
            bundle = make_bundle(folder / f"trained-{number}", **how)  # type: ignore[arg-type]
            open_registry().register(bundle, "colours", verdict=write_verdict(folder, decision), aliases=aliases)
    return folder


@pytest.fixture
def bundles(registered: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, Path]:
    """``colours`` has a champion, version 1, a rejected version 2, and an inconclusive version 3; folders by version."""
    shutil.copytree(registered, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return {number: Path(f"trained-{number}") for number in (1, 2, 3)}


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """References are looked up by the same command, but without another process: MLflow takes two seconds to import."""

    def look_up(reference: str) -> ChosenBundle:
        result = CliRunner().invoke(app, ["models", "path", reference, "--json"], catch_exceptions=False)
        found = json.loads(result.stdout)
        return ChosenBundle(Path(found["path"]), found["name"], found["version"], found["warning"])

    monkeypatch.setattr(bundle_argument, "registered_bundle", look_up)
    monkeypatch.setattr("vision_mlops.cli.batch.registered_bundle", look_up)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A blue picture in a folder of its own. Version 2 takes blue for green."""
    path = tmp_path / "photos" / "a.png"
    path.parent.mkdir()
    Image.new("RGB", (40, 40), COLOURS["blue"]).save(path)
    return path


def mlops(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


REJECTED = "warning: {} is not the champion and was judged 'reject' by the gate; colours@champion is colours:1\n"
KNOWN = {
    "colours@champion": ("blue", ""),
    "trained-1": ("blue", ""),
    "colours:2": ("green", REJECTED.format("colours:2")),
    "trained-2": ("green", REJECTED.format("trained-2 is colours:2, which")),
    "trained-3": ("blue", REJECTED.format("trained-3 is colours:3, which").replace("reject", "inconclusive")),
}


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(("text", "label", "warning"), [(text, *rest) for text, rest in KNOWN.items()], ids=list(KNOWN))
def test_predict(bundles: dict[int, Path], image: Path, text: str, label: str, warning: str) -> None:
    result = mlops("predict", text, image, "--json")
    assert json.loads(result.stdout)[0]["predictions"][0]["label"] == label
    assert result.stderr == warning


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("option", ["--bundle", "--model"])
@pytest.mark.parametrize("text", ["colours@champion", "colours:2"])
def test_batch(bundles: dict[int, Path], image: Path, option: str, text: str) -> None:
    result = mlops("batch", "score", image.parent, option, text, "--out", "out.csv", "--workers", 1)
    head, row = (line.split(",") for line in Path("out.csv").read_text().splitlines())
    found = dict(zip(head, row, strict=True))
    label, warning = KNOWN[text]
    version = "1" if text == "colours@champion" else "2"
    assert (found["label"], found["model"], found["version"]) == (label, "colours", version)
    assert result.stderr.startswith(warning)
    assert ("warning" in result.stderr) == bool(warning)


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(("text", "accuracy"), [("colours@champion", 1.0), ("colours:2", 1 / 3)])
def test_evaluate(bundles: dict[int, Path], tmp_path: Path, text: str, accuracy: float) -> None:
    make_prepared(tmp_path / "data")
    result = mlops("evaluate", "--bundle", text, "--data", "data", "--out", "report", "--json")
    assert json.loads(result.stdout)["accuracy"] == pytest.approx(accuracy)
    assert "warning" not in result.stderr, "to measure a bundle is no reason to warn of it"


def test_a_bundle_that_nobody_registered(bundles: dict[int, Path]) -> None:
    assert warning_about_folder(make_bundle(Path("new"), image_size=64)) == (
        "new is not registered, so no gate has judged it; colours@champion is colours:1"
    )
    assert warning_about_folder(Path("nowhere")) == ""


def test_without_a_registry_there_is_nothing_to_warn_of(tmp_path: Path) -> None:
    assert warning_about_folder(make_bundle(tmp_path / "new")) == ""


def test_the_index_follows_each_change(bundles: dict[int, Path], home: Path) -> None:
    registry = open_registry()
    registry.promote("colours", 3)
    assert warning_about_folder(bundles[1]).endswith("which is not the champion; colours@champion is colours:3")
    assert warning_about_folder(bundles[3]).endswith("is the champion, was judged 'inconclusive' by the gate")
    registry.promote("colours", 2, force=True)
    assert warning_about_folder(bundles[2]).endswith("is the champion, was judged 'reject' by the gate")
    (home / "models" / "colours" / "versions.json").write_text("{")
    assert warning_about_folder(bundles[2]) == "", "a damaged index is no reason not to serve"


@pytest.mark.usefixtures("in_this_process")
def test_a_folder_with_the_name_of_a_version(bundles: dict[int, Path]) -> None:
    shutil.copytree(bundles[2], "colours:1")
    with pytest.raises(
        RegistryError, match=r"is both a folder and a registered model\n  -> write \./colours:1 for the"
    ):
        choose_bundle("colours:1")
    assert choose_bundle("./colours:1") == ChosenBundle(Path("colours:1"))


def test_the_bare_name_of_a_registered_model(bundles: dict[int, Path]) -> None:
    with pytest.raises(RegistryError, match=r"model needs a version\n  -> write colours@champion, or colours:1"):
        choose_bundle("colours")
    shutil.copytree(bundles[2], "colours")
    assert choose_bundle("colours") == ChosenBundle(Path("colours"))
    assert choose_bundle("nothing") == ChosenBundle(Path("nothing"))


def test_an_alias_that_differs_in_capitals_only(bundles: dict[int, Path]) -> None:
    for given in ("Champion", "CHAMPION"):
        with pytest.raises(RegistryError, match="would differ from 'champion' only in case\n  -> write champion"):
            open_registry().promote("colours", 1, given)


@pytest.mark.slow
def test_a_folder_that_only_looks_like_a_version(bundles: dict[int, Path]) -> None:
    shutil.copytree(bundles[2], "other:1")
    assert choose_bundle("other:1") == ChosenBundle(Path("other:1"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colours:9", "model 'colours' has no version 9; known: 1, 2, 3\n  -> mlops models list colours"),
        ("colours:champion", "'champion' is not a version number\n  -> for an alias write colours@champion"),
    ],
)
def test_no_such_version(bundles: dict[int, Path], image: Path, text: str, message: str) -> None:
    command = [sys.executable, "-m", "vision_mlops", "predict", text, str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


@pytest.mark.slow
def test_a_registered_version_is_served_without_mlflow(bundles: dict[int, Path], image: Path) -> None:
    with serving(Path("colours:2")) as server:
        answer = server.score(image.read_bytes()).json
        mapped, log = Path(f"/proc/{server.process.pid}/maps").read_text(), server.log.read_text()
    assert "httptools" in mapped
    assert "sqlalchemy" not in mapped, "the registry is read in another process"
    assert answer["predictions"][0]["label"] == "green"
    assert (answer["model"]["name"], answer["model"]["version"]) == ("colours", "2")
    assert REJECTED.format("colours:2") in log
