"""Learning curves: a picture of what was logged to MLflow after each epoch of one or more trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vision_mlops.core.errors import MlopsError
from vision_mlops.core.figures import FigureWords, Picture
from vision_mlops.tracking import mlflow_runs

_QUANTITIES = ("loss", "accuracy")
_LOOKS = {"train": "--", "val": "-"}


def draw_learning_curves(runs: Mapping[str, str]) -> Picture:
    """Loss and accuracy over the epochs: one colour per run, dashed for training and solid for validation.

    Args:
        runs: Ids of MLflow runs by what the picture calls them.

    Raises:
        MlopsError: a run does not exist, or has no curves.
    """
    from matplotlib.figure import Figure

    words = FigureWords()
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), _QUANTITIES, strict=True):
        for number, (name, run_id) in enumerate(runs.items()):
            for split, look in _LOOKS.items():
                points = _points(run_id, f"{split}_{quantity}")
                label = words.stand_in(f"{name}, {split}")
                axes.plot(*zip(*points, strict=True), look, marker="o", color=f"C{number}", label=label)
        axes.set(xlabel="epoch", title=quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    return Picture(words.svg(figure))


def _points(run_id: str, key: str) -> list[tuple[int, float]]:
    if mlflow_runs.find_run(run_id) is None:
        raise MlopsError(f"run {run_id!r} is not in the tracking store", "give the id of a training run")
    history: list[Any] = mlflow_runs.client().get_metric_history(run_id, key)
    if not history:
        raise MlopsError(f"the run {run_id} has no metric {key!r}", "give the id of a training run")
    return sorted((item.step + 1, item.value) for item in history)
