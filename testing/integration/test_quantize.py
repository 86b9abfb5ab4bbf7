"""int8 bundles: complete, judged, and not there at all where they lose too much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from testing.support.bundles import make_bundle
from testing.support.prepared_data import make_prepared
from typer.testing import CliRunner

from vision_mlops.cli.main import app
from vision_mlops.core.errors import BundleError, DataError, MlopsError, TrainingError
from vision_mlops.data.manifest import read_manifest, write_manifest
from vision_mlops.model.bundle import CARD, EVALUATION, bundle_id, read_bundle, read_evaluation
from vision_mlops.model.predictor import Predictor
from vision_mlops.training import quantization as module
from vision_mlops.training.quantization import quantize

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("quantize")
    make_prepared(folder / "data")
    return make_bundle(folder / "bundle"), folder / "data"


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_int8_bundle_is_a_whole_bundle_of_its_own(places: tuple[Path, Path], tmp_path: Path) -> None:
    source, data = places
    options = ["--precision", "int8", "--data", str(data), "--out", str(tmp_path / "int8"), "--json"]
    result = CliRunner().invoke(app, ["export", str(source), *options])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["accuracy"], told["source_accuracy"], told["agreement"]) == (1.0, 1.0, 1.0)
    bundle, before = read_bundle(tmp_path / "int8"), read_bundle(source)
    assert bundle_id(bundle) != bundle_id(before)
    assert bundle.quantization is not None
    assert bundle.quantization.source_id == bundle_id(before)
    assert bundle.quantization.calibration_images == 24
    assert bundle.metrics["test_accuracy"] == 1.0
    assert {"model.xml", "model.bin", "weights.safetensors", CARD, EVALUATION} <= set(bundle.files)
    evaluation = read_evaluation(tmp_path / "int8", bundle)
    assert evaluation is not None
    assert evaluation["images"] == len(read_manifest(data).of_split("test"))
    assert "int8" in (tmp_path / "int8" / CARD).read_text()
    graph = openvino.Core().read_model(str(tmp_path / "int8" / "model.xml"))
    assert any(node.get_type_name() == "FakeQuantize" for node in graph.get_ops())
    predictor = Predictor(tmp_path / "int8")  # its golden examples come out
    image = data / read_manifest(data).of_split("test")[0].path
    scores = predictor.score([predictor.pixels(image)], explain=True)
    assert scores.activation_maps is not None
    assert np.abs(scores.probabilities - Predictor(source).score([predictor.pixels(image)]).probabilities).max() < 0.1
    with pytest.raises(BundleError, match="int8 already"):
        quantize(tmp_path / "int8", data, tmp_path / "again")
    with (tmp_path / "int8" / "model.bin").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(BundleError, match=r"model\.bin was changed"):
        Predictor(tmp_path / "int8")


def test_a_loss_ends_with_1_and_leaves_nothing(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, data = places
    confused = make_bundle(tmp_path / "confused", swap=True)

    def write(predictor: Any, files: Any, target: Path) -> None:
        openvino.save_model(openvino.Core().read_model(str(confused / "model.onnx")), str(target))

    monkeypatch.setattr(module, "_write_graph", write)
    out = tmp_path / "out" / "int8"
    result = CliRunner().invoke(app, ["export", str(source), "--data", str(data), "--out", str(out)])
    assert result.exit_code == 1
    assert "int8 loses 66.67% of accuracy: 0.3333 on 12 test images, 1.0000 before" in result.stderr
    assert left(out.parent) == []
    with pytest.raises(TrainingError):
        quantize(source, data, out, max_drop=0.6)
    assert quantize(source, data, out, max_drop=0.7).accuracy == pytest.approx(1 / 3)


def test_wrong_inputs_leave_nothing(places: tuple[Path, Path], tmp_path: Path) -> None:
    source, data = places
    make_prepared(tmp_path / "data")
    manifest = read_manifest(data)
    out = tmp_path / "out" / "int8"
    out.parent.mkdir()
    images = [record for record in manifest.images if record.split != "test"]
    write_manifest(tmp_path / "data", manifest.model_copy(update={"images": images}))
    with pytest.raises(DataError, match="'test' has no images"):
        quantize(source, tmp_path / "data", out)
    renamed = [record.model_copy(update={"label": "cyan" if record.label == "blue" else record.label})
               for record in manifest.images]  # fmt: skip
    other = manifest.model_copy(update={"images": renamed, "classes": ["cyan", "green", "red"]})
    write_manifest(tmp_path / "data", other)
    with pytest.raises(DataError, match="has the classes cyan"):
        quantize(source, tmp_path / "data", out)
    assert left(out.parent) == []
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(MlopsError, match="exists already"):
        quantize(source, data, out)
    assert left(out) == ["mine"]
    assert CliRunner().invoke(app, ["export", str(source), "--precision", "int4"]).exit_code == 2
