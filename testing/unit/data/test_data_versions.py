"""Data assets of this machine: the same content is one version, a version never changes, and jobs can use it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from testing.support.definitions import SCHEMA
from testing.support.prepared_data import make_prepared
from typer.testing import CliRunner

from vision_mlops.cli.main import app
from vision_mlops.core.errors import DataError, MlopsError, PipelineError
from vision_mlops.data import data_versions
from vision_mlops.data.asset_store import Asset, AssetStore
from vision_mlops.data.data_versions import find, register, verify
from vision_mlops.data.fetch_record import FetchedFile, FetchRecord
from vision_mlops.data.folder_contents import describe, public_source
from vision_mlops.data.manifest import read_manifest, write_manifest

RUNNER = CliRunner()


def invoke(*words: object, code: int = 0) -> str:
    done = RUNNER.invoke(app, [*map(str, words)])
    if isinstance(done.exception, MlopsError):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def answer(*words: object, code: int = 0) -> Any:
    return json.loads(invoke(*words, "--json", code=code))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class folders, with a file that is no image."""
    root = tmp_path / "my birds"
    for name in ("robin/1.jpg", "robin/2.jpg", "wren/deep/1.JPG"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / "notes.txt").write_text("from the garden")
    return root


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    make_prepared(tmp_path / "prepared", train=2, val=1, test=1, size=16)
    return tmp_path / "prepared"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_known_of_class_folders(folder: Path) -> None:
    assert invoke("data", "register", folder, "--tag", "season=spring", "--description", "Garden") == (
        "registered: azureml:my-birds:1\n"
    )
    shown = answer("data", "show", "my-birds")
    assert (shown["reference"], shown["type"], shown["source"]) == ("azureml:my-birds:1", "uri_folder", "my birds")
    assert (shown["tags"], shown["description"]) == ({"season": "spring"}, "Garden")
    assert (shown["images"], shown["files"], shown["bytes"]) == (3, 4, 11 + 11 + 15 + 15)
    assert shown["counts"] == {"all": {"robin": 2, "wren": 1}}
    assert shown["created_by"].startswith("vision-mlops ")
    assert len(shown["git_commit"].removesuffix("-dirty")) in (0, 40)
    assert files_of(Path(shown["path"])) == files_of(folder)
    table = invoke("data", "show", "azureml:my-birds@latest")
    assert "fingerprint: " + shown["fingerprint"] in table.splitlines()
    assert "robin  2" in table


def test_what_is_known_of_prepared_data(prepared: Path) -> None:
    manifest = read_manifest(prepared)
    (prepared / "prepare.json").write_text("{}")
    assert invoke("data", "register", prepared) == "registered: azureml:colours:1\n"
    shown = answer("data", "show", "colours:1")
    assert (shown["fingerprint"], shown["source"], shown["images"]) == (manifest.fingerprint, "generated", 12)
    assert shown["counts"] == manifest.counts()
    # It is prepared data, but not a folder that `mlops data prepare` would write over.
    assert read_manifest(Path(shown["path"])) == manifest
    assert not (Path(shown["path"]) / "prepare.json").exists()
    assert [row["train"] for row in _rows(invoke("data", "show", shown["path"]))] == ["2", "2", "2"]


def _rows(table: str) -> list[dict[str, str]]:
    head, *lines = [line.split() for line in table.splitlines()]
    return [dict(zip(head, line, strict=True)) for line in lines]


@pytest.mark.slow
def test_the_same_content_is_one_version_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    first = answer("data", "register", folder, "--name", "birds")
    assert first["new"] is True
    shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copy)
    (tmp_path / "elsewhere" / ".DS_Store").write_bytes(b"noise")
    os.utime(tmp_path / "elsewhere" / "notes.txt", (1, 1))
    assert invoke("data", "register", tmp_path / "elsewhere", "--name", "birds") == "unchanged: azureml:birds:1\n"
    for number in range(2, 12):
        (folder / "notes.txt").write_text(str(number))
        assert answer("data", "register", folder, "--name", "birds")["version"] == str(number)
    (folder / "notes.txt").rename(folder / "renamed.txt")
    assert answer("data", "register", folder, "--name", "birds")["version"] == "12"
    assert find("birds@latest").version == "12"
    assert [version.version for version in data_versions.versions("birds")] == [str(n) for n in range(1, 13)]
    # Back to what it was: the old version, and not the newest.
    assert answer("data", "register", tmp_path / "elsewhere", "--name", "birds")["version"] == "1"


def test_where_prepared_data_came_from_does_not_make_it_new(prepared: Path, tmp_path: Path) -> None:
    register(describe(prepared), "a")
    write_manifest(prepared, read_manifest(prepared).model_copy(update={"source": "/somewhere/else"}))
    assert register(describe(prepared), "a")[1] is False


def test_a_version_does_not_change_with_the_original(folder: Path) -> None:
    version, _ = register(describe(folder), "birds")
    before = files_of(Path(version.path))
    (folder / "notes.txt").write_text("written over")
    with (folder / "robin" / "1.jpg").open("r+b") as stream:
        stream.write(b"XX")
    assert files_of(Path(version.path)) == before
    assert verify(version) == {}
    assert all(path.stat().st_mode & 0o222 == 0 for path in Path(version.path).rglob("*") if path.is_file())


def test_damage_is_named(folder: Path) -> None:
    version, _ = register(describe(folder), "birds")
    content = Path(version.path)
    assert "damage" not in answer("data", "show", "birds")
    assert answer("data", "show", "birds", "--verify")["damage"] == {}
    (content / "notes.txt").chmod(0o644)
    (content / "notes.txt").write_text("FROM THE GARDEN")  # of the same length
    (content / "robin" / "1.jpg").unlink()
    (content / "robin" / "3.jpg").write_bytes(b"more")
    damage = answer("data", "show", "birds", "--verify", code=1)["damage"]
    assert damage == {"changed": ["notes.txt"], "missing": ["robin/1.jpg"], "added": ["robin/3.jpg"]}
    done = RUNNER.invoke(app, ["data", "show", "birds:1", "--verify"])
    assert "damaged: azureml:birds:1 is not as it was registered: 1 changed: notes.txt; 1 missing: " in done.stderr
    shutil.rmtree(content)
    assert len(verify(version)["missing"]) == 4


def test_many_at_once_make_one_version(folder: Path) -> None:
    content = describe(folder)
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: register(content, "birds"), range(6)))
    assert [version.version for version, _ in made] == ["1"] * 6
    assert sum(new for _, new in made) == 1


@pytest.mark.slow
def test_processes_at_once_make_one_version_each_content(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.txt").write_text("x")
    command = [sys.executable, "-m", "vision_mlops", "data", "register"]
    running = [
        subprocess.Popen([*command, str(path), "--name", "birds"], stdout=subprocess.PIPE, text=True)
        for path in (folder, other, folder, other)
    ]
    said = [process.communicate()[0].split(": ") for process in running]
    assert sorted(words[0] for words in said) == ["registered", "registered", "unchanged", "unchanged"]
    assert said[0][1] == said[2][1] != said[1][1] == said[3][1]
    assert len(data_versions.versions("birds")) == 2


@pytest.mark.slow
def test_killed_half_way_nothing_is_registered_and_a_rerun_completes(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(3000):
        (folder / f"{number}.txt").write_text(str(number))
    command = [sys.executable, "-m", "vision_mlops", "data", "register", str(folder)]
    place = home / "assets" / "data" / "many"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (place.exists() and any(place.rglob("1*.txt"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = list(place.iterdir())
    assert [path.name[:3] for path in left] == [".1."]
    (left[0] / "asset.json").write_text("{}")  # killed at the last moment
    assert data_versions.list_newest() == []
    assert AssetStore().all("data") == []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "registered: azureml:many:1\n"
    assert [path.name for path in place.iterdir()] == ["1"]
    assert verify(find("many")) == {}


def test_a_change_while_it_is_registered_is_refused(folder: Path) -> None:
    content = describe(folder)
    (folder / "robin" / "1.jpg").write_bytes(b"other")
    with pytest.raises(DataError, match=r"robin/1\.jpg was changed while it was being registered"):
        register(content, "birds")
    (folder / "robin" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"robin/1\.jpg was changed while it was being registered"):
        register(content, "birds")
    assert data_versions.versions("birds") == []


def test_jobs_read_a_version(folder: Path, tmp_path: Path, without_mlflow: None) -> None:
    """A command job and a pipeline job; the latest version is found when the job starts."""
    register(describe(folder), "birds")
    (folder / "robin" / "1.jpg").unlink()
    register(describe(folder), "birds")
    shutil.rmtree(folder)
    command = tmp_path / "command.yml"
    command.write_text(
        f"$schema: {SCHEMA}/commandJob.schema.json\ntype: command\n"
        "command: ls ${{inputs.images}}/robin > ${{outputs.names}}\nenvironment: azureml:x:1\n"
        "inputs: {images: {type: uri_folder, path: 'azureml:birds:1'}}\noutputs: {names: {type: uri_file}}\n"
    )
    pipeline = tmp_path / "pipeline.yml"
    pipeline.write_text(
        f"$schema: {SCHEMA}/pipelineJob.schema.json\ntype: pipeline\n"
        "inputs: {images: {type: uri_folder, path: 'azureml:birds@latest'}}\noutputs: {names: {type: uri_folder}}\n"
        "jobs:\n  list:\n    type: command\n    environment: azureml:x:1\n"
        "    command: ls ${{inputs.images}}/robin > ${{outputs.names}}/names\n"
        "    inputs: {images: '${{parent.inputs.images}}'}\n    outputs: {names: '${{parent.outputs.names}}'}\n"
    )
    state = answer("job", "run", command)
    assert Path(state["outputs"]["names"]).read_text() == "1.jpg\n2.jpg\n"
    state = answer("job", "run", pipeline)
    assert Path(state["outputs"]["names"], "names").read_text() == "2.jpg\n"


@pytest.mark.slow
def test_lists(folder: Path, prepared: Path) -> None:
    assert invoke("data", "list") == ""
    for path, name in ((folder, "birds"), (prepared, "colours")):
        invoke("data", "register", path, "--name", name)
    (folder / "notes.txt").write_text("more")
    invoke("data", "register", folder, "--name", "birds")
    assert [row["reference"] for row in answer("data", "list")] == ["azureml:birds:2", "azureml:colours:1"]
    rows = answer("data", "list", "--name", "birds")
    assert [(row["version"], row["images"]) for row in rows] == [("1", 3), ("2", 3)]
    assert rows[0]["fingerprint"] != rows[1]["fingerprint"]
    assert "azureml:birds:2" in invoke("data", "list", "--name", "birds")
    assert [row["reference"] for row in json.loads(invoke("assets", "list", "--json"))][-1] == "azureml:colours:1"


def test_a_folder_wins_over_an_asset_of_its_name(
    folder: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke("data", "register", folder, "--name", "prepared")
    monkeypatch.chdir(tmp_path)
    assert answer("data", "show", "prepared")["folder"] == "prepared"
    assert answer("data", "show", "azureml:prepared")["reference"] == "azureml:prepared:1"


@pytest.mark.slow
def test_versions_of_an_older_store_and_of_definitions(folder: Path, tmp_path: Path, home: Path) -> None:
    """A store that knows of no properties and tags is read, and added to."""
    place = home / "assets" / "data" / "birds" / "7"
    shutil.copytree(folder, place / "content" / "birds")
    facts = {
        "type": "uri_folder",
        "path": "content/birds",
        "description": "",
        "created": "2026-01-01T00:00:00.000+00:00",
    }
    (place / "asset.json").write_text(json.dumps(facts))
    assert (find("birds").version, find("birds").fingerprint, find("birds").counts) == ("7", "", {})
    assert "azureml:birds:7" in invoke("data", "show", "birds")
    with pytest.raises(DataError, match="azureml:birds:7 has no list of its files"):
        invoke("data", "show", "birds:7", "--verify")
    assert invoke("data", "register", folder, "--name", "birds") == "registered: azureml:birds:8\n"
    file = tmp_path / "asset.yml"
    file.write_text(
        f"$schema: {SCHEMA}/data.schema.json\nname: birds\nversion: spring\npath: {folder.name}\ntags: {{year: 2026}}\n"
    )
    invoke("assets", "create", file)
    assert find("birds:spring").tags == {"year": "2026"}
    (folder / "notes.txt").write_text("more")
    assert invoke("data", "register", folder, "--name", "birds") == "registered: azureml:birds:9\n"


def test_ignored_files_are_told(folder: Path) -> None:
    (folder / ".amlignore").write_text("*.txt\n")
    done = RUNNER.invoke(app, ["data", "register", str(folder), "--name", "birds"])
    assert f"note: {folder / '.amlignore'} excludes 1 of its files" in done.stderr
    assert not (Path(find("birds").path) / "notes.txt").exists()
    (folder / ".amlignore").write_text("*\n")
    with pytest.raises(DataError, match=r"contains no files: .*\.amlignore excludes 5 of its files"):
        describe(folder)


def test_a_prepared_folder_that_was_changed_is_refused(prepared: Path) -> None:
    image = prepared / "train" / "red" / "000.png"
    shutil.copy(image, image.with_name("new.png"))
    image.with_name("001.png").unlink()
    image.write_bytes(b"edited")
    message = r"1 changed: train/red/000\.png; 1 missing: train/red/001\.png; 1 added: train/red/new\.png"
    with pytest.raises(DataError, match=message):
        invoke("data", "register", prepared)
    # What goes into a job as it is, is data like any other.
    content = describe(prepared, lenient=True)
    assert content.manifest is None
    assert content.fingerprint != read_manifest(prepared).fingerprint
    assert "train/red/new.png" in content.files
    (prepared / "manifest.json").write_text("{")
    (prepared / "prepare.json").write_text("{}")
    with pytest.raises(DataError, match="not a valid manifest"):
        describe(prepared)


def test_a_manifest_of_another_tool_is_a_file(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": []}')
    assert describe(folder).manifest is None
    (folder / "manifest.json").write_text("no JSON")
    assert "manifest.json" in describe(folder).files


def test_downloaded_data_knows_its_address_and_the_date_does_not_count(folder: Path) -> None:
    plain = describe(folder)
    files = [FetchedFile(url=f"https://example.org/{name}.zip", size=1, sha256="0" * 64) for name in "ab"]
    for moment in ("2026-01-01", "2026-02-02"):
        record = FetchRecord(name="birds", key="k", fetched=moment, version="1", files=files, counts={})
        (folder / "fetch.json").write_text(record.model_dump_json())
        content = describe(folder)
        assert content.source == "download:https://example.org/a.zip https://example.org/b.zip"
        assert content.fingerprint == plain.fingerprint
        assert "fetch.json" in content.files
    for other in ("{}", "[]", "no JSON", '{"files": [1]}'):
        (folder / "fetch.json").write_text(other)
        assert describe(folder).source == "my birds"
        assert describe(folder).fingerprint != plain.fingerprint


def test_splits_are_counted(prepared: Path) -> None:
    (prepared / "manifest.json").unlink()
    assert describe(prepared).counts["val"] == {"blue": 1, "green": 1, "red": 1}
    assert describe(prepared / "train").counts == {"all": {"blue": 2, "green": 2, "red": 2}}
    flat = describe(prepared / "train" / "red")
    assert (flat.counts, flat.images) == ({}, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["register", "nowhere"], "nowhere does not exist"),
        (["register", "file.txt"], r"file\.txt is a file, not a folder"),
        (["register", "empty"], "empty contains no files"),
        (["register", "birds", "--name", "a b"], "'a b' is not a valid name for an asset"),
        (["register", "birds", "--name", "été"], "'été' is not a valid name for an asset"),
        (["register", "birds", "--name", ""], "'' is not a valid name for an asset"),
        (["register", "鳥"], "no asset name can be derived from '鳥'"),
        (["register", "birds", "--tag", "spring"], "--tag 'spring' is not of the form NAME=VALUE"),
        (["register", "birds", "--tag", "a=1", "--tag", "a=2"], "--tag 'a' is given twice"),
        (["register", "latin"], "the name .* is not UTF-8"),
        (["list", "--name", "bird"], "no data named 'bird' is registered on this machine\n.*did you mean 'birds'"),
        (["show", "bird"], "bird is neither a prepared folder nor a data asset.*\n.*did you mean 'birds'"),
        (["show", "azureml:bird"], "no data named 'bird'"),
        (["show", "birds:2"], "'birds' has no version '2' on this machine\n  -> Valid here: 1"),
        (["show", "birds@newest"], "'birds' has no version 'newest'"),
        (["show", "no/where"], "no/where does not exist"),
        (["show", "birds/", "--verify"], "birds/ is a folder"),
    ],
)
def test_mistakes_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    register(describe(folder), "birds")
    monkeypatch.chdir(tmp_path)
    folder.rename("birds" if words[0] == "register" or words[1] == "birds/" else "other")
    Path("file.txt").touch()
    Path("empty").mkdir()
    for name in ("鳥", b"latin".decode()):
        Path(name).mkdir()
        (Path(name) / "x").touch()
    Path(os.fsdecode(b"latin/\xe9.jpg")).touch()
    with pytest.raises(MlopsError, match=message):
        invoke("data", *words)
    assert [version.version for version in data_versions.versions("birds")] == ["1"]
    assert AssetStore().names("data") == ["birds"]


def test_paths_of_this_machine_stay_here() -> None:
    for source in ("/home/someone/birds", "/home/someone/birds/", "~/birds", "C:\\photos\\birds", "file:///a/birds"):
        assert public_source(source) == "birds"
    for source in ("photos/birds", "package:x/birds", "azureml:birds:3", "https://example.org/birds", "birds"):
        assert public_source(source) == source


def test_properties_of_other_tools_do_no_harm() -> None:
    version = Asset("data", "x", "1", "uri_folder", "", "", properties={"counts": "many", "images": "-", "files": "3"})
    assert (version.counts, version.number("images"), version.number("files")) == ({}, None, 3)
    assert Asset("data", "x", "1", "uri_folder", "", "", properties={"counts": "[1]"}).to_dict()["counts"] == {}
    with pytest.raises(PipelineError, match="no data named 'x'"):
        find("x")


def steps_of(images: object, *changes: str) -> Any:
    """The step that prepares, of the shipped pipeline as `mlops run` would run it."""
    from vision_mlops.cli.jobs.run import workload_for
    from vision_mlops.cli.jobs.training_pipeline import PIPELINE, read_pipeline
    from vision_mlops.cli.options import RunLocation
    from vision_mlops.jobs.definitions.overrides import parse_changes
    from vision_mlops.jobs.definitions.plan.planner import resolve

    given = None if images is None else str(images)
    workload = workload_for("textile", given, changes)
    plan = resolve(PIPELINE, changes=parse_changes(read_pipeline(PIPELINE).changes(workload, given, RunLocation.LOCAL)))
    return workload, next(node for node in plan.nodes if node.step == "prepare")


def test_the_pipeline_of_a_workload_reads_a_version(folder: Path) -> None:
    for number in (1, 2):
        (folder / "notes.txt").write_text(str(number))
        register(describe(folder), "birds")
    for reference in ("azureml:birds", "azureml:birds@latest", "azureml:birds:2"):
        workload, prepare = steps_of(reference)
        assert (workload.name, workload.title) == ("birds", "birds")
        assert prepare.inputs["images"].path == "azureml:birds:2"
        assert prepare.inputs["source"].text == "azureml:birds:2"
    # A workload may name registered data itself.
    workload, prepare = steps_of(None, "data.source=folder", "data.path=azureml:birds:1")
    assert (workload.name, prepare.inputs["images"].path) == ("textile", "azureml:birds:1")
    # A folder stays one, and an address is passed on.
    workload, prepare = steps_of(folder, "data.source=folder", "data.path=azureml:birds:1")
    assert (workload.name, prepare.inputs["images"].path, "source" in prepare.inputs) == (
        "my-birds",
        str(folder),
        False,
    )
    workload, prepare = steps_of("azureml://datastores/lake/paths/photos/owls/")
    assert (workload.name, "source" in prepare.inputs) == ("owls", False)


def test_prepared_data_says_which_version_it_was_made_of(tmp_path: Path, prepared: Path) -> None:
    register(describe(prepared), "colours")
    words = ("data", "prepare", "--set", "data.min_images_per_class=1", "--out", tmp_path / "out", "--images")
    invoke(*words, "azureml:colours@latest")
    assert read_manifest(tmp_path / "out").source == "azureml:colours:1"
    # In a step of a pipeline the folder is all that it sees.
    path = find("colours").path
    invoke(*words, path, "--source", "azureml:colours:7")
    assert read_manifest(tmp_path / "out").source == "azureml:colours:7"
    invoke(*words, path)
    assert read_manifest(tmp_path / "out").source == path
    assert describe(tmp_path / "out").fingerprint == find("colours").fingerprint


def test_versions_of_another_kind_are_no_images(folder: Path, tmp_path: Path) -> None:
    AssetStore().add("data", "table", None, "uri_file", folder / "notes.txt")
    with pytest.raises(DataError, match="azureml:table:1 is of type uri_file, not a folder of images"):
        steps_of("azureml:table")
    with pytest.raises(
        PipelineError, match=r"no data named 'tables' is registered on this machine\n.*did you mean 'table'"
    ):
        steps_of("azureml:tables:1")
    with pytest.raises(DataError, match=r"nowhere is not a folder\n.*or azureml:NAME:VERSION of registered data"):
        invoke("run", "--images", tmp_path / "nowhere")


@pytest.mark.slow
def test_the_data_of_a_model_is_named(store: Path, prepared: Path, plain_bundle: Any) -> None:
    from vision_mlops.registry import lineage, open_registry

    manifest = read_manifest(prepared)
    bundle = plain_bundle(data_fingerprint=manifest.fingerprint)
    open_registry().register(bundle, "colours", data=prepared)
    assert "azureml:" not in invoke("models", "explain", "colours")
    for content in (prepared, bundle):
        register(describe(content), "kept")
    link = answer("models", "explain", "colours")["chain"][0]
    assert link["facts"]["asset"] == "azureml:kept:1"
    assert link["summary"].endswith(f"fingerprint {manifest.fingerprint[:12]} (azureml:kept:1)")
    version = open_registry().get("colours:1")
    assert lineage.explain(version)[0].summary.endswith(manifest.fingerprint[:12])
