"""Learning curves: a picture of what was logged to MLflow after each epoch of one or more trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from vision_mlops.core.errors import MlopsError
from vision_mlops.core.figures import FigureWords, Picture
from vision_mlops.tracking import mlflow_runs

_QUANTITIES = ("loss", "accuracy")
_LOOKS = {"train": "--", "val": "-"}


def draw_learning_curves(runs: Mapping[str, str]) -> Picture:
    """Draw loss and accuracy over the epochs: one colour per run, dashed for training and solid for validation.

    Args:
        runs: Ids of MLflow runs by their names in the picture.

    Raises:
        MlopsError: a run does not exist, or has no curves.
    """
    words = FigureWords()
    curves = {words.stand_in(name): partial(_points, run_id) for name, run_id in runs.items()}
    return Picture(words.svg(curves_figure(curves)))


def curves_figure(curves: Mapping[str, Callable[[str], list[tuple[float, float]]]]) -> Any:
    """Draw the figure with matplotlib.

    Args:
        curves: For each training, by its name, the (epoch, value) of a metric such as ``val_loss``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), _QUANTITIES, strict=True):
        for number, (name, points) in enumerate(curves.items()):
            for split, look in _LOOKS.items():
                found, label = points(f"{split}_{quantity}"), f"{name}, {split}" if name else split
                axes.plot(
                    [x for x, _ in found], [y for _, y in found], look, marker="o", color=f"C{number}", label=label
                )
        axes.set(xlabel="epoch", title=quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    return figure


def _points(run_id: str, key: str) -> list[tuple[float, float]]:
    if mlflow_runs.find_run(run_id) is None:
        raise MlopsError(f"run {run_id!r} is not in the tracking store", "give the id of a training run")
    history: list[Any] = mlflow_runs.client().get_metric_history(run_id, key)
    if not history:
        raise MlopsError(f"the run {run_id} has no metric {key!r}", "give the id of a training run")
    return sorted((item.step + 1, item.value) for item in history)
