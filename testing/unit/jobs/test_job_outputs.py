"""Where outputs go: folders of the job, places of the user's, datastores, named assets; whole, or as it was before."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import SCHEMA, command, command_job, component, pipeline, run, state, statuses, write

from vision_mlops.core import paths
from vision_mlops.core.errors import PipelineError
from vision_mlops.data.asset_store import AssetStore

pytestmark = pytest.mark.usefixtures("without_mlflow")

MAKE = "echo ${{inputs.word}} > ${{outputs.file}}; echo ${{inputs.word}} > ${{outputs.folder}}/x"


def job(folder: Path, file: dict[str, Any] | None = None, whole: dict[str, Any] | None = None) -> Path:
    outputs: dict[str, Any] = {
        "file": {"type": "uri_file", **(file or {})},
        "folder": {"type": "uri_folder", **(whole or {})},
    }
    return write(folder / "job.yml", command_job(MAKE, outputs, inputs={"word": "one"}))


def test_default_places(tmp_path: Path) -> None:
    run(job(tmp_path), name="job")
    found = state("job")["outputs"]
    assert found == {name: str(paths.home() / "jobs" / "job" / "outputs" / name) for name in ("file", "folder")}
    assert Path(found["file"]).read_text() == "one\n"
    assert (Path(found["folder"]) / "x").read_text() == "one\n"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("./made/${{name}}/${{output_name}}", "{project}/made/job/{output}"),
        ("../beside/${{output_name}}", "{project}/../beside/{output}"),
        ("azureml://datastores/lake/paths/a/${{output_name}}", "{home}/datastores/lake/a/{output}"),
        ("azureml://datastores/${{default_datastore}}/paths/${{name}}/${{output_name}}",
         "{home}/datastores/workspaceblobstore/job/{output}"),
    ],
)  # fmt: skip
def test_places_that_the_definition_gives(tmp_path: Path, path: str, place: str) -> None:
    project = tmp_path / "project"
    run(job(project, {"path": path}, {"path": path}), name="job")
    for name in ("file", "folder"):
        expected = Path(place.format(project=project, home=paths.home(), output=name)).resolve()
        assert state("job")["outputs"][name] == str(expected)
        assert ((expected / "x") if name == "folder" else expected).read_text() == "one\n"


def test_absolute_places_and_places_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = job(tmp_path / "project", {"path": str(tmp_path / "absolute.txt")}, {"path": "./other"})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run(file, "outputs.folder.path=made/new", name="job")
    assert (tmp_path / "absolute.txt").read_text() == "one\n"
    assert (tmp_path / "here" / "made" / "new" / "x").read_text() == "one\n"
    assert not (tmp_path / "project" / "other").exists()


def test_default_datastore_of_the_pipeline(tmp_path: Path) -> None:
    outputs = {"out": {"type": "uri_file", "path": "azureml://datastores/${{default_datastore}}/paths/x.txt"}}
    content = pipeline(
        {"a": command("echo x > ${{outputs.out}}", outputs)}, settings={"default_datastore": "azureml:lake"}
    )
    run(write(tmp_path / "job.yml", content))
    assert (paths.home() / "datastores" / "lake" / "x.txt").read_text() == "x\n"


def test_outputs_of_nested_pipelines_go_where_the_outer_one_wants(tmp_path: Path) -> None:
    write(tmp_path / "part.yml", component("echo x > ${{outputs.out}}", outputs={"out": "uri_file"}))
    inner = {
        "$schema": f"{SCHEMA}/pipelineComponent.schema.json", "type": "pipeline", "name": "inner", "version": 1,
        "outputs": {"result": {"type": "uri_file"}},
        "jobs": {"deep": {"component": "./part.yml", "outputs": {"out": "${{parent.outputs.result}}"}}},
    }  # fmt: skip
    write(tmp_path / "inner.yml", inner)
    step = {"type": "pipeline", "component": "./inner.yml",
            "outputs": {"result": {"type": "uri_file", "path": "./result.txt", "name": "kept"}}}  # fmt: skip
    assert statuses(run(write(tmp_path / "job.yml", pipeline({"outer": step})))) == {"outer/deep": "Completed"}
    assert (tmp_path / "result.txt").read_text() == "x\n"
    assert AssetStore().find("data", "kept:1").content.read_text() == "x\n"


def test_a_place_is_renewed_and_left_alone_where_nothing_changed(tmp_path: Path) -> None:
    file = job(tmp_path, {"path": "./made/file"}, {"path": "./made/folder"})
    run(file)
    before = (tmp_path / "made" / "folder").stat().st_ino
    write(tmp_path / "made" / "folder" / "stale", "by hand")
    assert statuses(run(file)) == {"job": "Reused"}
    assert [path.name for path in (tmp_path / "made" / "folder").iterdir()] == ["x"]
    renewed = (tmp_path / "made" / "folder").stat().st_ino
    run(file)
    assert (tmp_path / "made" / "folder").stat().st_ino == renewed != before
    run(file, "inputs.word=two")
    assert (tmp_path / "made" / "folder" / "x").read_text() == "two\n"
    assert (tmp_path / "made" / "file").read_text() == "two\n"
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("path", [".", "./theirs", ".."])
def test_files_of_others_are_not_replaced(tmp_path: Path, path: str) -> None:
    write(tmp_path / "project" / "theirs" / "precious", "x")
    file = job(tmp_path / "project", whole={"path": path})
    with pytest.raises(PipelineError, match="the folder holds files that were not written by a job"):
        run(file)
    assert (tmp_path / "project" / "theirs" / "precious").read_text() == "x"
    assert not (paths.home() / "jobs").exists() or not list((paths.home() / "jobs").iterdir())


def test_other_kinds_of_things_in_the_way(tmp_path: Path) -> None:
    write(tmp_path / "a" / "x", "x")
    with pytest.raises(PipelineError, match=r"output 'file' cannot be written to .*: a folder is there"):
        run(job(tmp_path, {"path": "./a"}))
    with pytest.raises(PipelineError, match=r"output 'folder' cannot be written to .*: a file is there"):
        run(job(tmp_path, None, {"path": "./a/x"}))
    with pytest.raises(PipelineError, match=r"cannot be written to .*a/x is a file"):
        run(job(tmp_path, {"path": "./a/x/y"}))


def test_a_place_that_is_taken_while_the_step_runs(tmp_path: Path) -> None:
    ended = run(job(tmp_path, {"path": "./a/b"}), f"inputs.word=one; touch {tmp_path}/a; true")
    assert statuses(ended) == {"job": "Failed"}
    assert "the output cannot be written to" in ended.state.steps["job"].message
    assert ended.state.outputs == ended.state.steps["job"].outputs == {}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("wasbs://c@a.blob.core.windows.net/x", "which cannot be written from this machine"),
        ("https://example.com/x", "which cannot be written from this machine"),
        ("azureml://datastores/lake/x", "is not a datastore path"),
        ("azureml://datastores/lake/paths/../../../x", "leads out of the datastore"),
        ("${{inputs.word}}/x", "is not valid"),
    ],
)
def test_places_that_are_refused(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        run(job(tmp_path, {"path": path}))
    assert not (paths.home() / "jobs").exists() or not list((paths.home() / "jobs").iterdir())


def test_named_outputs_become_assets_once(tmp_path: Path) -> None:
    file = job(tmp_path, {"name": "table"}, {"name": "images", "version": "2026"})
    run(file)
    run(file)
    run(file, force=True)
    store = AssetStore()
    assert [asset.version for asset in store.versions("data", "table")] == ["1"]
    assert store.find("data", "table:1").content.read_text() == "one\n"
    assert (store.find("data", "images:2026").content / "x").read_text() == "one\n"
    run(file, "inputs.word=two", "outputs.folder.version='2027'")
    assert [asset.version for asset in store.versions("data", "table")] == ["1", "2"]
    assert store.find("data", "table:1").content.read_text() == "one\n"
    ended = run(file, "inputs.word=three")
    assert statuses(ended) == {"job": "Failed"}
    assert "'images' already has a version '2026'" in ended.state.steps["job"].message


def test_named_models_are_models(tmp_path: Path) -> None:
    step = command("touch ${{outputs.out}}/weights", {"out": {"type": "custom_model", "name": "net"}})
    run(write(tmp_path / "job.yml", pipeline({"a": step})))
    assert (AssetStore().find("models", "azureml:net:1").content / "weights").is_file()


def test_jobs_at_once_number_their_assets_one_after_the_other(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(6)]
    file = job(tmp_path, {"name": "table"})
    threads = [threading.Thread(target=run, args=(file, f"inputs.word={word}")) for word in [*words, *words]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assets = AssetStore().versions("data", "table")
    assert [asset.version for asset in assets] == ["1", "2", "3", "4", "5", "6"]
    assert sorted(asset.content.read_text().strip() for asset in assets) == words


@pytest.mark.parametrize(
    "text_", ["echo x > ${{outputs.made}}", "mkdir ${{outputs.made}} && echo x > ${{outputs.made}}/x.txt"]
)
def test_an_output_without_a_type_has_that_of_the_pipelines_output(tmp_path: Path, text_: str) -> None:
    """A file for a step that writes one; a step that makes a folder of it is let alone, as on Azure ML."""
    step = {**command(text_), "outputs": {"made": "${{parent.outputs.result}}"}}
    job = pipeline({"one": step}, outputs={"result": {"type": "uri_file"}})
    ended = run(write(tmp_path / "job.yml", job))
    assert statuses(ended) == {"one": "Completed"}
    result = Path(ended.state.outputs["result"])
    assert (result if result.is_file() else result / "x.txt").read_text() == "x\n"
