"""Measures, evaluation folders, the gate and the predictor, on a model of colours."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from testing.support.bundles import make_bundle
from testing.support.command_watch import CommandWatch
from testing.support.prepared_data import make_prepared
from typer.testing import CliRunner

from vision_mlops.cli.main import app
from vision_mlops.config.workload import Gate
from vision_mlops.core.errors import BundleError, DataError, MlopsError
from vision_mlops.core.hashing import file_hash
from vision_mlops.data.manifest import read_manifest, write_manifest
from vision_mlops.evaluation.evaluate import evaluate, read_evaluation
from vision_mlops.evaluation.evaluation_report import PLOTS
from vision_mlops.evaluation.gate import decide, mcnemar, show_verdict, write_verdict
from vision_mlops.evaluation.metrics import median_interval, reliability, summarise, wilson_interval
from vision_mlops.evaluation.plots import draw_all
from vision_mlops.evaluation.prediction_table import PredictionTable, read_predictions, write_predictions
from vision_mlops.model.bundle import MANIFEST
from vision_mlops.model.predictor import Predictor


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_prepared(tmp_path / "data", test=6)
    return tmp_path / "data"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def test_measures_of_a_known_case() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    found = summarise(np.array([0, 0, 1, 1]), probabilities, ["a", "b"])
    assert found["accuracy"] == 0.75
    assert found["confusion_matrix"] == [[2, 0], [1, 1]]
    assert found["per_class"]["b"] == pytest.approx(
        {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2, "auc": 1.0, "average_precision": 1.0}
    )
    assert found["negative_log_likelihood"] == pytest.approx(-np.log([0.9, 0.8, 0.7, 0.4]).mean())


def test_a_table_of_predictions_is_read_as_it_was_written(tmp_path: Path) -> None:
    classes = ["=a", "b, c"]
    table = PredictionTable(["test/=a/+1.png", "x"], ["=a", "b, c"], np.array([[0.25, 0.75], [0.125, 0.875]]))
    write_predictions(tmp_path / "table.csv", table, classes)
    found = read_predictions(tmp_path / "table.csv", classes)
    assert (found.paths, found.labels) == (table.paths, table.labels)
    assert (found.probabilities == table.probabilities).all()
    assert found.right(classes) == {"test/=a/+1.png": False, "x": True}
    with pytest.raises(ValueError, match="its columns are not those of the classes"):
        read_predictions(tmp_path / "table.csv", ["a", "b"])


def test_interval_and_calibration() -> None:
    assert wilson_interval(95, 100) == pytest.approx((0.8882, 0.9785), abs=1e-3)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    generator = np.random.default_rng(0)
    sure = generator.uniform(0.5, 1, 20_000)
    honest = np.stack([sure, 1 - sure], 1)
    labels = (generator.random(20_000) > sure).astype(int)
    assert reliability(labels, honest)[1] < 0.02
    assert reliability(np.ones(100, int), np.tile([0.9, 0.1], (100, 1)))[1] == pytest.approx(0.9)


@pytest.mark.parametrize(("ours", "theirs", "p"), [(0, 0, 1.0), (0, 6, 0.03125), (5, 5, 1.0), (1, 9, 0.021484375)])
def test_mcnemar(ours: int, theirs: int, p: float) -> None:
    assert mcnemar(ours, theirs) == pytest.approx(p)
    assert mcnemar(theirs, ours) == pytest.approx(p)
    assert mcnemar(0, 5000) == pytest.approx(0.0, abs=1e-300)


@pytest.mark.slow
def test_evaluation_folder_is_whole_and_self_contained(bundle: Path, data: Path, tmp_path: Path) -> None:
    found = evaluate(bundle, data, tmp_path / "report")
    assert found.metrics["accuracy"] == 1.0
    assert len(found.predictions) == 18
    page = (tmp_path / "report" / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data:image/svg+xml;base64,") == 4
    assert "No image was misclassified" in page
    again = evaluate(bundle, data, tmp_path / "report")
    assert again.predictions == found.predictions


@pytest.mark.slow
def test_a_report_with_the_figures_of_an_earlier_release_is_written_again(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    found = evaluate(bundle, data, tmp_path / "report")
    for name in PLOTS:
        (tmp_path / "report" / name).unlink()
        (tmp_path / "report" / name).with_suffix(".png").write_bytes(b"figure")
    show_verdict(found, {"decision": "promote", "reasons": []})
    assert (tmp_path / "report" / "report.html").read_text().count("data:image/png;base64,ZmlndXJl") == 4


def test_figures_show_the_names_of_classes(tmp_path: Path) -> None:
    names = ["猫", "$x", "_c"]
    labels = np.array([0, 1, 2, 0])
    draw_all(tmp_path, labels, np.eye(3)[labels], names, [[2, 0, 0], [0, 1, 0], [0, 0, 1]])
    shown = {name: (tmp_path / name).read_text(encoding="utf-8") for name in PLOTS}
    times = {name: [shown[name].count(f">{label}<") for label in names] for name in PLOTS}
    assert times == {
        "confusion_matrix.svg": [2, 2, 2], "reliability.svg": [0, 0, 0],
        "roc.svg": [1, 1, 1], "precision_recall.svg": [1, 1, 1],
    }  # fmt: skip


def test_predict_leaves_nothing_outside_and_calls_nobody(bundle: Path, data: Path, tmp_path: Path) -> None:
    watch = CommandWatch(tmp_path / "watch")
    ended = watch.run(["predict", str(bundle), str(data / "test" / "red" / "000.png")])
    assert ended.code == 0, ended.text
    assert watch.traces() == []


@pytest.mark.slow
def test_mistakes_are_shown(data: Path, tmp_path: Path) -> None:
    found = evaluate(make_bundle(tmp_path / "swapped", swap=True), data, tmp_path / "report")
    assert found.metrics["accuracy"] == pytest.approx(1 / 3)
    assert len(found.metrics["mistakes"]) == 12
    assert "taken for" in (tmp_path / "report" / "report.html").read_text()


def test_evaluation_refuses_other_classes_and_foreign_folders(bundle: Path, data: Path, tmp_path: Path) -> None:
    text = (data / "manifest.json").read_text().replace('"red"', '"rot"')
    (data / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="fingerprint does not match"):
        evaluate(bundle, data, tmp_path / "report")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    make_prepared(tmp_path / "fresh")
    with pytest.raises(MlopsError, match="not an evaluation"):
        evaluate(bundle, tmp_path / "fresh", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    with pytest.raises(MlopsError, match="is not an evaluation"):
        read_evaluation(tmp_path / "mine")


@pytest.mark.slow
def test_gate_against_floors_and_champion(bundle: Path, data: Path, tmp_path: Path) -> None:
    good = evaluate(bundle, data, tmp_path / "good")
    bad = evaluate(make_bundle(tmp_path / "swapped", swap=True), data, tmp_path / "bad")
    lenient = Gate(min_accuracy=0.0, min_recall_per_class=0.0, max_calibration_error=1.0, max_latency_ms=1e6)
    assert decide(good, None, lenient).decision == "promote"
    assert "identical" in decide(good, good, lenient).reasons[-1].message
    worse = decide(bad, good, lenient)
    assert worse.decision == "reject"
    assert "significantly worse" in worse.reasons[-1].message
    assert decide(good, bad, lenient).decision == "promote"
    floors = decide(bad, None, Gate())
    failed = [reason.check for reason in floors.reasons if reason.passed is False]
    assert floors.decision == "reject"
    assert {"accuracy", "recall of blue", "recall of green", "calibration error"} <= set(failed)
    write_verdict(floors, bad)
    assert json.loads((tmp_path / "bad" / "verdict.json").read_text())["decision"] == "reject"
    assert "below the floor" in (tmp_path / "bad" / "report.html").read_text()
    make_prepared(tmp_path / "other", test=5)
    with pytest.raises(DataError, match="not evaluated on the same images"):
        decide(good, evaluate(tmp_path / "swapped", tmp_path / "other", tmp_path / "r"), lenient)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "damaged", "message", "command"),
    [
        ("robustness", {}, "robustness.robustness_accuracy: the key is missing", "mlops evaluate --robustness`"),
        ("robustness", [1], "robustness: a list is not a mapping", "mlops evaluate --robustness`"),
        ("latency_ms", {"median": "fast", "p95": 1.0}, "latency_ms.median: 'fast' is not a number", "mlops evaluate`"),
        ("per_class", {"red": 1.0}, "per_class.red: 1.0 is not a mapping", "mlops evaluate`"),
        ("accuracy", "0.9", "accuracy: '0.9' is not a number", "mlops evaluate`"),
    ],
)
def test_the_gate_names_the_damaged_section_of_an_evaluation(
    bundle: Path, data: Path, tmp_path: Path, section: str, damaged: object, message: str, command: str
) -> None:
    file = evaluate(bundle, data, tmp_path / "report").folder / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {section: damaged}))
    done = CliRunner().invoke(app, ["gate", "--candidate", str(file.parent)])
    assert isinstance(done.exception, DataError), done.output
    assert f"{file} is damaged: {message}" in done.exception.message
    assert command in done.exception.hint
    assert not (file.parent / "verdict.json").exists()


@pytest.mark.slow
def test_gate_is_undecided_where_a_small_loss_may_be_chance(bundle: Path, data: Path, tmp_path: Path) -> None:
    champion = evaluate(bundle, data, tmp_path / "champion")
    metrics = {**champion.metrics, "bundle_id": "other", "accuracy": 17 / 18}
    path, true, _ = champion.predictions[0]
    predictions = [(path, true, "red"), *champion.predictions[1:]]
    lenient = Gate(min_accuracy=0.0, min_recall_per_class=0.0, max_calibration_error=1.0, max_latency_ms=1e6)
    candidate = type(champion)(tmp_path, metrics, predictions)
    assert decide(candidate, champion, lenient).decision == "inconclusive"
    tolerant = lenient.model_copy(update={"max_accuracy_drop": 0.1})
    assert decide(candidate, champion, tolerant).decision == "promote"


def test_a_latency_at_its_limit_is_no_verdict(bundle: Path, data: Path, tmp_path: Path) -> None:
    good = evaluate(bundle, data, tmp_path / "good")
    latency = good.metrics["latency_ms"]
    assert latency["median_low"] <= latency["median"] <= latency["median_high"]

    def decided(low: float, median: float, high: float) -> str:
        measured = {"median": median, "median_low": low, "median_high": high, "p95": high}
        return decide(
            type(good)(tmp_path, good.metrics | {"latency_ms": measured}, good.predictions), None, gate
        ).decision

    gate = Gate(min_accuracy=0.0, min_recall_per_class=0.0, max_calibration_error=1.0, max_latency_ms=10.0)
    assert decided(8.0, 9.0, 10.0) == "promote"
    assert decided(8.0, 9.5, 10.5) == decided(9.5, 10.5, 11.0) == "inconclusive"
    assert decided(10.5, 11.0, 12.0) == "reject"


def test_a_median_lies_in_its_interval() -> None:
    draw = random.Random(0)
    samples = [[draw.expovariate(1.0) for _ in range(100)] for _ in range(400)]
    held = sum(low <= math.log(2) <= high for low, high in map(median_interval, samples))
    assert held >= 0.975 * 400
    assert median_interval([3.0]) == (3.0, 3.0)


@pytest.mark.slow
@pytest.mark.parametrize(("fail_on", "code"), [("never", 0), ("reject", 1), ("inconclusive", 1)])
def test_gate_command_never_looks_like_a_crash(data: Path, tmp_path: Path, fail_on: str, code: int) -> None:
    evaluate(make_bundle(tmp_path / "swapped", swap=True), data, tmp_path / "bad")
    result = CliRunner().invoke(app, ["gate", "--candidate", str(tmp_path / "bad"), "--fail-on", fail_on])
    assert result.exit_code == code
    assert "verdict: reject" in result.output
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_evaluate_command(bundle: Path, data: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "--bundle", str(bundle), "--data", str(data), "--out", str(tmp_path / "r")]
    assert "accuracy 1.0000" in CliRunner().invoke(app, arguments).output
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(result.stdout)["images"] == 18
    assert "robustness" not in json.loads(result.stdout), "20 times the images are scored where that is asked for"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors is missing"),
        (lambda folder: (folder / "golden" / "red.png").write_bytes(b"x"), "red.png was changed"),
        (lambda folder: (folder / MANIFEST).unlink(), "is not a model bundle"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "not a valid bundle description"),
        (lambda folder: _edit(folder, schema_version=9), "schema version 9"),
        (lambda folder: _edit(folder, files={"../x": "0"}), "points outside the bundle"),
        (lambda folder: _edit(folder, golden=[]), "no golden examples"),
        (lambda folder: _swap_golden(folder), "differs by"),
    ],
)
def test_broken_bundles_are_refused_with_the_reason(bundle: Path, damage: object, message: str) -> None:
    assert callable(damage)
    damage(bundle)
    with pytest.raises(BundleError, match=message):
        Predictor(bundle)


def _edit(folder: Path, **changes: object) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**content, **changes}))


def _swap_golden(folder: Path) -> None:
    """Consistent hashes, but a golden image whose probabilities are another's."""
    (folder / "golden" / "red.png").write_bytes((folder / "golden" / "blue.png").read_bytes())
    files = json.loads((folder / MANIFEST).read_text())["files"]
    _edit(folder, files={**files, "golden/red.png": file_hash(folder / "golden" / "red.png")})


def test_predictor_is_thread_safe(bundle: Path, data: Path) -> None:
    predictor = Predictor(bundle)
    files = sorted((data / "test").rglob("*.png"))
    expected = dict(zip(files, predictor.score_files(files, batch_size=4), strict=True))

    def check(_round: int) -> bool:
        pairs = ((file, predictor.score([predictor.pixels(file)]).probabilities[0]) for file in files)
        return all(np.allclose(row, expected[file], atol=1e-5) for file, row in pairs)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, range(16)))


def test_predict_command(bundle: Path, data: Path, tmp_path: Path) -> None:
    image = data / "test" / "red" / "000.png"
    runner = CliRunner()
    result = runner.invoke(app, ["predict", str(bundle), str(image), "--explain", str(tmp_path / "why.png"), "--json"])
    assert json.loads(result.stdout)[0]["predictions"][0]["label"] == "red"
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    assert f"wrote the heat map to {tmp_path / 'why.png'}\n" in result.stderr
    folder = runner.invoke(app, ["predict", str(bundle), str(data / "test"), "--top-k", "1"])
    assert folder.stdout.count("\n") == 18


def test_predict_takes_the_images_of_a_folder_and_names_what_it_does_not(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    image = data / "test" / "red" / "000.png"
    (tmp_path / "a" / ".ipynb_checkpoints").mkdir(parents=True)
    for name in ("a/plain", "a/x.jfif", "a/.ipynb_checkpoints/x.png", "a/li\nne.png"):
        shutil.copyfile(image, tmp_path / name)
    (tmp_path / "a" / "._x.png").write_bytes(b"mac")
    (tmp_path / "a" / "notes.txt").write_text("text")
    runner = CliRunner()
    done = runner.invoke(app, ["predict", str(bundle), str(tmp_path / "a"), "--top-k", "1"])
    assert done.exit_code == 0, done.output
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == [
        str(tmp_path / "a" / name) for name in (r"li\nne.png", "plain", "x.jfif")
    ]
    assert done.stderr == "warning: skipped: 1 file that is not an image: notes.txt\n"
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "gone.png").symlink_to("nowhere")
    done = runner.invoke(app, ["predict", str(bundle), str(tmp_path / "a"), "--top-k", "1"])
    assert done.stdout.count("\n") == 3
    assert f"error: {tmp_path / 'a' / 'gone.png'} is a broken link" in done.stderr
    assert "pipe.png is neither a file nor a folder" in str(done.exception)
    with pytest.raises(MlopsError, match=r"pipe\.png is neither a file nor a folder"):
        runner.invoke(app, ["predict", str(bundle), str(tmp_path / "a" / "pipe.png")], catch_exceptions=False)


def test_predict_names_images_as_the_folder_was_given(
    bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    done = CliRunner().invoke(app, ["predict", str(bundle), "test/red", "--json"])
    assert json.loads(done.stdout)[0]["image"] == "test/red/000.png"


@pytest.mark.slow
def test_predictions_of_formula_names_are_read_back(bundle: Path, data: Path, tmp_path: Path) -> None:
    manifest = read_manifest(data)
    record = manifest.of_split("test")[0]
    target = data / "=1+1.png"
    (data / record.path).rename(target)
    renamed = [item.model_copy(update={"path": target.name}) if item == record else item for item in manifest.images]
    write_manifest(data, manifest.model_copy(update={"images": renamed}))
    result = evaluate(bundle, data, tmp_path / "report")
    assert "'=1+1.png," in (tmp_path / "report" / "predictions.csv").read_text()
    assert "=1+1.png" in {path for path, _, _ in result.predictions}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{bundle}", "nothing.png"], "nothing.png does not exist"),
        (["{bundle}", "{bad}", "{good}"], "bad.png: not an image"),
        (["{bundle}", "{good}", "--top-k", "9"], "the model has 3 classes"),
        (["{bundle}", "{good}", "{good}", "--explain", "x.png"], "--explain takes one image, not 2"),
        (
            ["{bundle}", "{good}", "--explain", "why.txt"],
            "--explain why.txt: the heat map is a PNG image\n  -> give a name",
        ),
        (["{good}", "{good}"], "is not a model bundle"),
    ],
)
def test_predict_in_a_process_of_its_own(
    bundle: Path, data: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Bad input ends with one line and exit code 2, and torch is never loaded."""
    (tmp_path / "bad.png").write_text("no picture")
    good = data / "test" / "red" / "000.png"
    words = [word.format(bundle=bundle, good=good, bad=tmp_path / "bad.png") for word in arguments]
    code = "import sys, atexit\natexit.register(lambda: print('torch' in sys.modules))\n"
    code += "from vision_mlops.cli.main import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", *words], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.endswith("False\n")
