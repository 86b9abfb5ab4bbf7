"""The entry script of batch scoring, called as the service calls it: ``init()`` with arguments, then mini-batches."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from testing.support.bundles import make_bundle
from testing.support.prepared_data import COLOURS, make_prepared

from vision_mlops.core.errors import BundleError, DataError, MlopsError
from vision_mlops.core.hashing import file_hash
from vision_mlops.jobs.definitions.definition import load
from vision_mlops.jobs.definitions.findings import Findings
from vision_mlops.jobs.definitions.models.steps import ParallelComponent
from vision_mlops.jobs.pipelines import PIPELINES
from vision_mlops.model.predictor import Predictor

FOLDER = PIPELINES


def entry_script() -> ModuleType:
    """The script that the component names, loaded from its file as the service does."""
    definition = load(FOLDER / "components" / "score-batch.yml", Findings())
    assert definition is not None
    assert isinstance(definition.model, ParallelComponent)
    task = definition.model.task
    path = FOLDER / "components" / str(task.code) / task.entry_script
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("batch") / "bundle")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Twelve readable images, four of each class."""
    make_prepared(tmp_path / "data", train=1, val=1, test=4)
    return sorted((tmp_path / "data" / "test").rglob("*.png"))


def scored(script: ModuleType, paths: Sequence[Path]) -> list[dict[str, Any]]:
    rows = script.run([str(path) for path in paths])
    assert all("\n" not in row for row in rows)
    return [json.loads(row) for row in rows]


def test_a_row_for_each_image_in_order(bundle: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    script = entry_script()
    # The service puts arguments of its own beside ours.
    monkeypatch.setattr(sys, "argv", ["driver.py", "--bundle", str(bundle), "--node_count", "2", "--top-k", "0"])
    script.init()
    rows = scored(script, images)
    assert [row["image"] for row in rows] == [str(path) for path in images]
    assert [row["predictions"][0]["label"] for row in rows] == [path.parent.name for path in images]
    predictor = Predictor(bundle, precision="auto")
    expected = dict(zip(predictor.classes, predictor.score_files(images[:1])[0].tolist(), strict=True))
    told = {item["label"]: item["probability"] for item in rows[0]["predictions"]}
    assert told == pytest.approx(expected, abs=1e-5)
    assert [item["probability"] for item in rows[0]["predictions"]] == sorted(told.values(), reverse=True)
    assert rows[0]["model"] == {"name": "colours", "version": "", "id": predictor.id}
    assert (rows[0]["sha256"], rows[0]["width"], rows[0]["height"]) == (file_hash(images[0]), 40, 40)


def test_the_model_that_azure_ml_mounts(
    bundle: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a batch endpoint no argument names the bundle: it is in AZUREML_MODEL_DIR, below the name and version."""
    root = tmp_path / "azureml-models" / "paint" / "7"
    shutil.copytree(bundle, root / "bundle")
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(root))
    script = entry_script()
    script.init([])
    (row,) = scored(script, images[:1])
    assert (row["model"]["name"], row["model"]["version"]) == ("paint", "7")
    script.init(["--model-name", "other", "--model-version", "8", "--precision", "f32"])
    (row,) = scored(script, images[:1])
    assert (row["model"]["name"], row["model"]["version"]) == ("other", "8")
    expected = Predictor(bundle).score_files(images[:1])[0]
    told = {item["label"]: item["probability"] for item in row["predictions"]}
    assert list(told.values()) == sorted((round(float(value), 6) for value in expected), reverse=True)


def test_a_broken_image_gets_a_row_that_says_so(bundle: Path, images: list[Path]) -> None:
    script = entry_script()
    script.init(["--bundle", str(bundle), "--top-k", "1"])
    empty, text = images[0].with_name("empty.png"), images[0].with_name("text.png")
    empty.write_bytes(b"")
    text.write_text("no image")
    missing = images[0].with_name("missing.png")
    rows = scored(script, [empty, images[0], text, images[-1], missing])
    assert [row.get("error", {}).get("code") for row in rows] == ["empty", None, "not_an_image", None, "unreadable"]
    assert [len(row["predictions"]) for row in rows if "error" not in row] == [1, 1]
    assert rows[3]["predictions"][0]["label"] == images[-1].parent.name, "scores stay with their images"
    assert str(text) in rows[2]["error"]["message"]
    (only,) = scored(script, [text])
    assert only["error"]["code"] == "not_an_image", "one broken image alone is no reason to fail"


def test_more_images_than_are_scored_at_once(bundle: Path, images: list[Path]) -> None:
    script = entry_script()
    script.init(["--bundle", str(bundle)])
    paths = images * 6
    rows = scored(script, paths)
    assert [row["predictions"][0]["label"] for row in rows] == [path.parent.name for path in paths]
    assert script.run([]) == []


def test_a_folder_without_any_image_fails(bundle: Path, tmp_path: Path) -> None:
    script = entry_script()
    script.init(["--bundle", str(bundle)])
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text("no image")
    with pytest.raises(DataError, match=r"none of 10 files is a readable image; the first error is .*not_an_image"):
        scored(script, sorted(tmp_path.glob("*.txt")))


def test_a_broken_bundle_and_wrong_arguments_are_refused_at_once(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = entry_script()
    with pytest.raises(BundleError, match="is not a model bundle"):
        script.init(["--bundle", str(tmp_path)])
    with pytest.raises(MlopsError, match=r"run\(\) was called before init"):
        script.run(["a.png"])
    for value in (len(COLOURS) + 1, -1):
        with pytest.raises(MlopsError, match=f"--top-k {value}: the model has 3 classes"):
            script.init(["--bundle", str(bundle), "--top-k", str(value)])
    with pytest.raises(BundleError, match="AZUREML_MODEL_DIR is not set"):
        script.init([])
    with pytest.raises(SystemExit):
        script.init(["--precision", "int8"])
    assert "--precision" in capsys.readouterr().err
