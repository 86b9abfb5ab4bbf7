"""Compares the trials of a sweep: a table as CSV and JSON, and a picture of the objective."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from vision_mlops.core.csv_cells import write_rows
from vision_mlops.core.errors import require
from vision_mlops.core.figures import FigureWords
from vision_mlops.core.files import atomic_write
from vision_mlops.jobs.local.sweep.trials import Trial

_MOST_PANELS = 12
_COLUMNS = 3
_LOGARITHMIC_FROM = 100  # ratio of a parameter's largest to its smallest value
_MARKS = {"Completed": ("o", "C0"), "EarlyTerminated": ("x", "C1"), "Failed": ("v", "C3"), "Canceled": ("s", "0.6")}


def write_leaderboard(
    folder: Path, trials: Sequence[Trial], metric: str, goal: Literal["maximize", "minimize"]
) -> None:
    """Write trials.csv, trials.json and trials.svg to a folder, each completely or not at all.

    Args:
        folder: Created if it is missing.
        trials: In the order of their numbers.
        metric: Name of the primary metric.
        goal: Whether more or less of it is better.

    Raises:
        MissingExtraError: matplotlib is not installed; the tables have been written.
    """
    atomic_write(folder / "trials.csv", _table(trials, metric))
    content = {"metric": metric, "goal": goal, "trials": [trial.to_dict() for trial in trials]}
    atomic_write(folder / "trials.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    atomic_write(folder / "trials.svg", _picture(trials, metric, goal))


def _table(trials: Sequence[Trial], metric: str) -> str:
    """Write one row for each trial, with values that are neither text nor numbers as JSON."""
    names = list(trials[0].values) if trials else []
    text = io.StringIO()
    # Parameters have the names of the YAML, so that one called `state` does not clash.
    parameters = [f"search_space.{name}" for name in names]
    rows: list[list[Any]] = [["trial", "state", metric, "reports", "seconds", *parameters, "message"]]
    for trial in trials:
        values = [_text(trial.values[name]) for name in names]
        score = "" if trial.metric is None else repr(trial.metric)
        rows.append(
            [trial.number, trial.state, score, len(trial.reports), f"{trial.seconds:.1f}", *values, trial.message]
        )
    write_rows(text, rows)
    return text.getvalue()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _picture(trials: Sequence[Trial], metric: str, goal: str) -> str:
    """Draw the objective by trial with the best so far, and by each parameter, as SVG."""
    require("matplotlib")
    from matplotlib.figure import Figure

    names = list(trials[0].values)[: _MOST_PANELS - 1] if trials else []
    columns = min(_COLUMNS, len(names) + 1)
    rows = math.ceil((len(names) + 1) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    scored = [trial for trial in trials if trial.metric is not None]
    words = FigureWords()
    metric = words.stand_in(metric)
    _draw_history(panels[0], scored, metric, goal)
    for axes, name in zip(panels[1:], names, strict=False):
        _draw_parameter(axes, scored, name, metric, words)
    for axes in panels[len(names) + 1 :]:
        axes.set_visible(False)
    return words.svg(figure)


def _draw_history(axes: Any, scored: Sequence[Trial], metric: str, goal: str) -> None:
    _draw_marks(axes, scored, [trial.number for trial in scored])
    completed = [trial for trial in scored if trial.state == "Completed"]
    choose = max if goal == "maximize" else min
    best = [choose(item.metric or 0.0 for item in completed[: i + 1]) for i in range(len(completed))]
    axes.step([trial.number for trial in completed], best, where="post", color="C2", label="best so far")
    axes.set(xlabel="trial", ylabel=metric, title=f"{metric} ({goal})")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize="small")


def _draw_parameter(axes: Any, scored: Sequence[Trial], name: str, metric: str, words: FigureWords) -> None:
    values = [trial.values[name] for trial in scored]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        _draw_marks(axes, scored, values)
        if values and min(values) > 0 and max(values) / min(values) >= _LOGARITHMIC_FROM:
            axes.set_xscale("log")
    else:
        labels = sorted({_text(value) for value in values})
        _draw_marks(axes, scored, [labels.index(_text(value)) for value in values])
        shown = [words.stand_in(label) for label in labels]
        axes.set_xticks(range(len(labels)), shown, rotation=30, ha="right", rotation_mode="anchor")
    axes.set(xlabel=words.stand_in(name), ylabel=metric)


def _draw_marks(axes: Any, scored: Sequence[Trial], places: Sequence[float]) -> None:
    """Draw a mark for each trial, by its state."""
    for state, (marker, color) in _MARKS.items():
        chosen = [i for i, trial in enumerate(scored) if trial.state == state]
        if chosen:
            heights = [scored[i].metric for i in chosen]
            axes.scatter([places[i] for i in chosen], heights, marker=marker, color=color, s=22, alpha=0.8, label=state)
