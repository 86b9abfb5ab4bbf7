"""Learning curves from the tracking store."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from vision_mlops.core.errors import MlopsError
from vision_mlops.tracking import mlflow_runs
from vision_mlops.tracking.learning_curves import draw_learning_curves

SVG = "{http://www.w3.org/2000/svg}"


def training(epochs: int) -> str:
    run_id = mlflow_runs.start_run("colours", "train", {})
    for epoch in range(epochs):
        for key in ("train_loss", "val_loss", "train_accuracy", "val_accuracy"):
            mlflow_runs.log_metrics(run_id, {key: 1.0 / (epoch + 1)}, step=epoch)
    return run_id


@pytest.mark.slow
def test_curves_of_two_trainings_and_what_is_none(store: Path) -> None:
    runs = {"script run": training(3), "木 <best>": training(2)}
    drawn = ElementTree.fromstring(draw_learning_curves(runs).svg)
    words = {(text.text or "").strip() for text in drawn.iter(f"{SVG}text")}
    assert {"script run, train", "script run, val", "木 <best>, val", "loss", "accuracy", "epoch"} <= words
    empty = mlflow_runs.start_run("colours", "other", {})
    with pytest.raises(MlopsError, match=f"the run {empty} has no metric 'train_loss'"):
        draw_learning_curves({"other": empty})
    with pytest.raises(MlopsError, match="run 'nobody' is not in the tracking store"):
        draw_learning_curves({"other": "nobody"})
