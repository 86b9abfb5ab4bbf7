"""`mlops run` and `mlops pipeline watch`: whose settings count for images, and how a run ends that was not promoted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import command, component, pipeline, write
from testing.support.registry_contract import write_json, write_verdict

from vision_mlops.cli.data.image_location import workload_of
from vision_mlops.cli.main import main
from vision_mlops.core.errors import ConfigError, DataError, MlopsError
from vision_mlops.model.bundle import bundle_id, read_bundle
from vision_mlops.registry import open_registry

MakeBundle = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mlops", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the workload ``birds``, whose data is ``photos/birds``, and images that are those of no workload."""
    folder = tmp_path / "project"
    for name in ("birds", "my cats"):
        write(folder / "photos" / name / "a" / "0.png", "")
    workload(folder, "birds", path="photos/birds")
    monkeypatch.chdir(folder)
    return folder


def workload(folder: Path, name: str, **data: Any) -> None:
    write(folder / "workloads" / f"{name}.yml", {"name": name, "data": {"source": "folder", **data}})


@pytest.mark.parametrize("text", ["photos/birds", "photos/birds/", "./photos/../photos/birds", "{here}/photos/birds"])
def test_images_that_are_the_data_of_a_workload(
    project: Path, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = text.format(here=project)
    monkeypatch.setenv("MLOPS_DATA__PATH", "photos/my cats")  # of every workload, so that it says nothing of one
    assert workload_of(None, images) == "birds"
    assert f"{images} is the data of the workload 'birds': its settings apply" in capsys.readouterr().err
    assert workload_of("textile", images) == "textile", "who names one gets it"
    assert workload_of(None, None) == "textile"


def test_registered_data_belongs_to_the_workload_of_its_name(project: Path) -> None:
    workload(project, "finches", path="azureml:birds-of-spring@latest")
    workload(project, "stored", path="azureml://datastores/photos/paths/stored")
    assert workload_of(None, "azureml:birds:3") == "birds"
    assert workload_of(None, "azureml:birds-of-spring:2") == "finches"
    assert workload_of(None, "azureml:textile@latest") == "textile"
    assert workload_of(None, "azureml://datastores/photos/paths/stored/") == "stored"
    for other in ("azureml:finches:1", "azureml://datastores/photos/paths/birds"):
        with pytest.raises(MlopsError, match=r"no workload here has azureml:.*\n  -> name the workload whose"):
            workload_of(None, other)


def test_downloaded_images_are_those_of_their_workload(project: Path, home: Path) -> None:
    assert workload_of(None, home / "downloads" / "stanford_dogs") == "stanford_dogs"


def test_images_of_none_or_two(project: Path) -> None:
    hint = r"`mlops new my-cats --images 'photos/my cats'` writes one; or name .* --workload textile"
    with pytest.raises(MlopsError, match=f"no workload here has photos/my cats as its data\n  -> {hint}"):
        workload_of(None, "photos/my cats")
    with pytest.raises(DataError, match="nowhere is not a folder"):
        workload_of(None, "nowhere")
    workload(project, "finches", path="photos/birds")
    with pytest.raises(MlopsError, match="photos/birds is the data of 2 workloads: birds, finches\n  -> choose one, "):
        workload_of(None, "photos/birds")


def test_a_workload_that_cannot_be_read(project: Path) -> None:
    (project / "workloads" / "cats.yml").write_text("name: cats\ndatas: {}\n")
    assert workload_of(None, "photos/birds") == "birds"
    with pytest.raises(ConfigError, match=r"workloads/cats.yml: unknown key 'datas'"):
        workload_of(None, "photos/my cats")


COMMANDS = {
    "run": ("run", "--images"),
    "demo": ("demo", "--images"),
    "watch": ("pipeline", "watch", "--once", "--settle", "0", "--data"),
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=list(COMMANDS))
def test_other_images_need_a_workload(run: Run, project: Path, home: Path, words: tuple[str, ...]) -> None:
    code, out, err = run(*words, "photos/my cats")
    assert (code, out) == (2, "")
    assert err.startswith("error: no workload here has photos/my cats as its data\n")
    assert not home.exists()


@pytest.mark.parametrize("set_", [(), ("--out", "prepared")])
def test_prepare_says_whose_settings_count(run: Run, project: Path, set_: tuple[str, ...]) -> None:
    assert (
        "warning: no workload here has photos/my cats" in run("data", "prepare", *set_, "--images", "photos/my cats")[2]
    )
    assert "'birds': its settings apply" in run("data", "prepare", *set_, "--images", "photos/birds")[2]


def test_a_failed_run_says_how_to_go_on_after_a_change_of_the_workload(run: Run, project: Path, store: Path) -> None:
    step = component("exit 3", {"images": {"type": "uri_folder"}})
    write(project / "prepare.yml", step)
    images = {"type": "uri_folder", "path": str(project / "photos")}
    steps = {"prepare": {"component": "./prepare.yml", "inputs": {"images": images}}}
    write(project / "train.yml", pipeline(steps, inputs={"workload": "textile"}))
    code, _, err = run("run", "--images", "photos/birds", "--pipeline", "train.yml")
    assert code == 1
    resume, changed = err.splitlines()[-2:]
    assert resume.startswith("  fix the cause, then run: mlops job resume ")
    assert changed == "  or, after a change of the workload, run the command that started the job again"


def judged(project: Path, decision: str, bundle: Path) -> None:
    """Let the project's pipeline end with a verdict on a bundle, which it registers as the shipped one does."""
    verdict = json.loads(write_verdict(project, decision).read_text()) | {"candidate": bundle_id(read_bundle(bundle))}
    write_json(project / "verdict.json", verdict)
    aliases = ["champion"] if decision == "promote" else []
    open_registry().register(bundle, "birds", verdict=project / "verdict.json", aliases=aliases)
    write(
        project / "gate.yml",
        component(f"cp {project / 'verdict.json'} ${{{{outputs.verdict}}}}", {}, outputs={"verdict": "uri_file"}),
    )
    step = {"component": "./gate.yml", "outputs": {"verdict": "${{parent.outputs.verdict}}"}}
    content = pipeline(
        {"prepare": command("ls ${{inputs.images}}", inputs={"images": {"type": "uri_folder", "path": "photos"}}),
         "gate": step},
        inputs={"workload": "textile"}, outputs={"verdict": {"type": "uri_file"}},
    )  # fmt: skip
    write(project / "train.yml", content)


ENDS = {
    "promote": (0, "registered: birds:2; birds@champion is birds:2"),
    "inconclusive": (1, "registered: birds:2; birds@champion stays birds:1"),
    "reject": (1, "registered: birds:2; birds@champion stays birds:1"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("decision", "code", "told"), [(key, *rest) for key, rest in ENDS.items()], ids=list(ENDS))
def test_a_run_says_who_is_champion(
    run: Run, project: Path, store: Path, plain_bundle: MakeBundle, decision: str, code: int, told: str
) -> None:
    open_registry().register(plain_bundle(0), "birds", aliases=["champion"])
    judged(project, decision, plain_bundle(1))
    ended, out, err = run("run", "--images", "photos/birds", "--pipeline", "train.yml")
    assert (ended, out) == (code, f"verdict: {decision}\n{told}\n"), err
    assert "accuracy 0.5 is below 0.9" in err
    ended, out, _ = run("run", "--images", "photos/birds", "--pipeline", "train.yml", "--json")
    verdict = json.loads(out)["verdict"]
    champion = "birds:2" if decision == "promote" else "birds:1"
    assert (ended, verdict["decision"], verdict["registered"], verdict["champion"]) == (
        code, decision, "birds:2", champion
    )  # fmt: skip


def test_watching_goes_on_after_a_rejection(run: Run, project: Path, store: Path, plain_bundle: MakeBundle) -> None:
    judged(project, "reject", plain_bundle(0))
    words = ("pipeline", "watch", "--data", "photos/birds", "--pipeline", "train.yml", "--once", "--settle", "0")
    code, out, err = run(*words)
    assert (code, out) == (1, "verdict: reject\nregistered: birds:1; birds has no champion\n"), err
    code, out, err = run(*words)
    assert (code, out) == (0, ""), "the run has not failed: it is not begun again"
    assert "the images are those of the last run" in err
