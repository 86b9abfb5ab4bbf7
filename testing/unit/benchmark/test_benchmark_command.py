"""The commands of ``mlops benchmark``, with a contestant of somebody's own that is written beside them."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from testing.support.contestants import MeanColour, ServiceColour
from typer.testing import Result

from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
from vision_mlops.core.errors import ConfigError, MlopsError
from vision_mlops.tracking import mlflow_runs

Run = Callable[..., Result]
OWN = """
import numpy as np
from PIL import Image
from vision_mlops.benchmark.contestant import Contestant
from beside import SIZE

class Mine(Contestant):
    name = "mine"

    def fit(self):
        train = self.task.images("train")
        self.known, self.labels = self.small(train.files), train.labels

    def predict(self, files):
        nearest = ((self.small(files)[:, None] - self.known) ** 2).sum(2).argmin(1)
        return np.eye(len(self.task.manifest.classes))[self.labels[nearest]]

    def small(self, files):
        return np.array([np.asarray(Image.open(file).resize(SIZE), float).ravel() for file in files])
"""
WORDS = ("run", "--workload", "colours.yml", "--data", "prepared")
HERE, SERVICE = (f"testing.support.contestants:{kind.__name__}" for kind in (MeanColour, ServiceColour))


@pytest.fixture
def own(data: Path) -> Path:
    """A contestant in the folder where the command runs."""
    (data.parent / "beside.py").write_text("SIZE = (8, 8)\n")
    (data.parent / "mine.py").write_text(OWN)
    return data.parent / "mine.py"


@pytest.mark.slow
def test_a_contestant_of_ones_own_takes_less_than_twenty_lines(mlops: Run, own: Path) -> None:
    assert len([line for line in own.read_text().splitlines() if line.strip()]) < 20
    ended = mlops(*WORDS, "--with", "mine:Mine", "--json")
    assert ended.exit_code == 0, ended.stderr
    (row,) = json.loads(ended.stdout)["contestants"]
    assert (row["name"], row["metrics"]["accuracy"]) == ("mine", 1.0)
    again = mlops(*WORDS, "--with", "mine:Mine")
    assert "unchanged: measured" in again.stderr
    (own.parent / "beside.py").write_text("SIZE = (4, 4)\n")
    changed = mlops(*WORDS, "--with", "mine:Mine")
    assert "unchanged" not in changed.stderr


@pytest.mark.slow
def test_table_report_and_runs_of_a_benchmark(mlops: Run, data: Path) -> None:
    ended = mlops(*WORDS, "--with", HERE, "--with", SERVICE, "--out", "page.html", "--json")
    assert ended.exit_code == 0, ended.stderr
    here, service = json.loads(ended.stdout)["contestants"]
    assert (here["name"], service["name"]) == ("mean-colour", "service-colour")
    assert service["training_cost"] == pytest.approx(5.0)
    assert service["cost_per_1000_predictions"] == pytest.approx(2.0)
    assert here["training_cost"] == pytest.approx(here["training_seconds"] / 3600 * 0.10)
    page = Path("page.html").read_text()
    assert "Mean &lt;colour&gt;" in page
    assert "Mean <colour>" not in page
    assert "data:image/svg+xml;base64," in page
    client = mlflow_runs.client()
    runs = client.search_runs([mlflow_runs.experiment_id("colours-benchmark")])
    nested = {run.info.run_name: run for run in runs if "mlflow.parentRunId" in run.data.tags}
    assert nested.keys() == {"mean-colour", "service-colour"}
    assert nested["mean-colour"].data.metrics["accuracy"] == 1.0
    assert len(runs) == 3

    def logged() -> list[str]:
        return [run.info.run_name for run in client.search_runs([mlflow_runs.experiment_id("colours-benchmark")])]

    assert mlops(*WORDS, "--with", HERE).exit_code == 0
    assert len(logged()) == 3  # nothing new, nothing recorded
    assert mlops(*WORDS, "--with", HERE, "--again").exit_code == 0
    assert sorted(logged()[:2]) == [runs[-1].info.run_name, "mean-colour"]
    assert len(logged()) == 5


@pytest.mark.slow
def test_results_are_shown_where_mlflow_is_not_reached_and_logged_by_the_next_run(
    mlops: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as offline, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        offline.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{nobody.getsockname()[1]}")
        ended = mlops(*WORDS, "--with", HERE)
    assert ended.exit_code == 0, ended.stderr
    assert "mean-colour" in ended.stdout
    assert "logging to MLflow at http://127.0.0.1:" in ended.stderr
    assert "warning: the results could not be logged to MLflow: MlflowException: API request to" in ended.stderr
    assert "secret" not in ended.stderr
    assert "unchanged: measured" in mlops(*WORDS, "--with", HERE).stderr
    runs = mlflow_runs.client().search_runs([mlflow_runs.experiment_id("colours-benchmark")])
    assert "mean-colour" in [run.info.run_name for run in runs]


@pytest.mark.slow
def test_results_of_other_settings_are_not_compared(mlops: Run) -> None:
    """As after ``--set model.image_size=64 --with knn``: ours is still the one of before."""
    folder = BenchmarkFolder("colours")
    mlops(*WORDS, "--with", HERE)
    result, table = folder.read("mean-colour")
    model = {"backbone": "test_resnet", "image_size": 96, "resize": "squash"}
    ours = result.model_copy(update={"name": "ours", "settings": {"model": model, "training": {"epochs": 9}}})
    folder.put(ours, table)
    for size, verdict in ((96, "not different"), (64, "other settings")):
        folder.put(result.model_copy(update={"settings": {"image_size": size, "epochs": 3}}), table)
        shown = mlops("report", "--workload", "colours", "--out", "page.html")
        assert verdict in shown.stdout
        assert ("image_size 64 (ours 96)" in shown.stderr) == (size == 64)
    (row,) = (
        row
        for row in json.loads(mlops("report", "--workload", "colours", "--json").stdout)["contestants"]
        if row["name"] != "ours"
    )
    assert (row["against_ours"], row["other_settings"]) == (None, "image_size 64 (ours 96)")


@pytest.mark.slow
def test_data_of_another_workload_is_a_warning(mlops: Run) -> None:
    words = (
        "run",
        "--workload",
        json.dumps({"name": "other", "data": {"path": "photos"}}),
        "--data",
        "prepared",
        "--with",
        HERE,
    )
    assert "prepared was prepared for the workload 'colours'; its results are kept as those of 'other'" in " ".join(
        mlops(*words).stderr.split()
    )


@pytest.mark.slow
def test_a_narrow_terminal_shows_whole_words(mlops: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mlops(*WORDS, "--with", HERE).exit_code == 0
    monkeypatch.setenv("COLUMNS", "80")
    shown = mlops("report", "--workload", "colours").stdout
    assert {"contestant", "accuracy", "training", "mean-colour", "1.0000"} <= set(shown.split())


@pytest.mark.slow
def test_a_contestant_that_fails_is_named_at_the_end(mlops: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServiceColour, "problem", MlopsError("no account", "export CUSTOM_VISION_ENDPOINT"))
    ended = mlops(*WORDS, "--with", SERVICE, "--with", HERE)
    assert ended.exit_code == 1
    assert "mean-colour" in ended.stdout
    assert ended.stderr.count("failed: no account: export CUSTOM_VISION_ENDPOINT") == 1
    assert ended.stderr.strip().endswith("error: 1 contestant failed: service-colour; see the reasons above")
    assert "Against ours" not in BenchmarkFolder("colours").report.read_text()


def test_a_wrong_setting_that_only_the_service_knows_is_a_mistake_in_the_input(
    mlops: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mlops(*WORDS, "--with", SERVICE).exit_code == 0
    monkeypatch.setattr(ServiceColour, "colours", 2)
    monkeypatch.setattr(ServiceColour, "problem", ConfigError("unknown domain 'Foo'", "did you mean 'Food'?"))
    ended = mlops(*WORDS, "--with", SERVICE)
    assert str(ended.exception) == "unknown domain 'Foo'\n  -> did you mean 'Food'?"
    assert isinstance(ended.exception, ConfigError)
    assert ended.stdout == "", "not the earlier result, which has other settings"
    ended = mlops(*WORDS, "--with", SERVICE, "--with", HERE)
    assert (ended.exit_code, "mean-colour" in ended.stdout) == (1, True)


def test_without_a_result_there_is_no_report(mlops: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServiceColour, "problem", MlopsError("no account", "export CUSTOM_VISION_ENDPOINT"))
    ended = mlops(*WORDS, "--with", SERVICE)
    assert ended.exit_code == 1
    assert "report" not in ended.stderr
    assert not BenchmarkFolder("colours").report.exists()
    assert json.loads(mlops(*WORDS, "--with", SERVICE, "--json").stdout)["report"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--with", "linear-prob"),
            "unknown contestant 'linear-prob'\n  -> did you mean 'linear-probe'? Valid here: ours,",
        ),
        (("--with", "mine:Other"), "mine:Other: the module mine has no contestant class 'Other'"),
        (("--with", "nothing:Mine"), "nothing:Mine: no module is called 'nothing'"),
        (("--with", "lacking:Mine"), "lacking:Mine needs the package 'no_such_package', which is not installed"),
        (("--with", "broken:Mine"), "broken:Mine: broken.py:1: not valid Python"),
        (("--with", "named:Mine"), "named:Mine: its name is 'My Model'"),
        (("--with", "abstract:Mine"), "Mine does not define fit and predict"),
        (("--with", "taken:Mine"), "'knn' is the name of a contestant that ships"),
        (("--with", "mine:Mine", "--images", "prepared"), "--data and --images are both given"),
        (("--with", "mine:Mine", "--prices", "none.yml"), "none.yml: the prices cannot be read"),
    ],
)
def test_mistakes_end_with_two_and_their_reason(mlops: Run, own: Path, words: tuple[str, ...], message: str) -> None:
    head = "from vision_mlops.benchmark.contestant import Contestant\nclass Mine(Contestant):\n    "
    for name, text in {
        "lacking.py": "import no_such_package",
        "broken.py": "class",
        "named.py": f"{head}name = 'My Model'",
        "abstract.py": f"{head}name = 'abstract'",
        "taken.py": f"{head}name = 'knn'",
    }.items():
        (own.parent / name).write_text(text + "\n")
    ended = mlops(*WORDS, *words)
    assert isinstance(ended.exception, MlopsError)
    assert message in str(ended.exception)
    assert not BenchmarkFolder("colours").names()


def test_a_report_cannot_replace_a_folder(mlops: Run, own: Path) -> None:
    ended = mlops(*WORDS, "--with", "mine:Mine", "--out", "prepared")
    assert ended.exit_code == 2
    assert "'prepared'" in ended.stderr
    assert not BenchmarkFolder("colours").names(), "nothing was trained"


@pytest.mark.slow
def test_what_is_to_be_removed_is_listed_first(mlops: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServiceColour, "hosted", False)  # as one that learns in a service and predicts here
    mlops(*WORDS, "--with", SERVICE)
    clean = ("clean", "--workload", "colours.yml", "--with", "service-colour")
    ended = mlops(*clean)
    assert "service-colour  yes " in ended.stdout
    assert "add --yes to remove" in str(ended.exception)
    assert mlops(*clean, "--yes").exit_code == 0
    assert MeanColour.calls[-1] == "service-colour clean_up"
    assert "there is nothing to remove" in mlops(*clean).stderr
    assert "no contestant 'service-color' has run" in str(mlops(*clean[:-1], "service-color").exception)
