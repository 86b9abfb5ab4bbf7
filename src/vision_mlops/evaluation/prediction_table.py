"""Predictions of a split as a CSV file: a row for each image, with its class and all probabilities."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from vision_mlops.core.csv_cells import from_cell, write_rows
from vision_mlops.evaluation.metrics import Floats

_TOLERANCE = 1e-3
"""How far the sum of probabilities may be from 1: they are written with six digits."""


@dataclass(frozen=True, slots=True)
class PredictionTable:
    """Images by their path in the prepared data, their classes, and probabilities (N, C)."""

    paths: list[str]
    labels: list[str]
    probabilities: Floats

    def right(self, classes: list[str]) -> dict[str, bool]:
        """Return whether each image is classified correctly, by its path."""
        predicted = self.probabilities.argmax(1)
        return {
            path: classes[index] == label for path, label, index in zip(self.paths, self.labels, predicted, strict=True)
        }


def write_predictions(path: Path, table: PredictionTable, classes: list[str]) -> None:
    """Write a table with the columns path, label, predicted, and one for each class."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        head = ["path", "label", "predicted", *(f"p_{name}" for name in classes)]
        rows = (
            [name, label, classes[int(row.argmax())], *(f"{value:.6f}" for value in row)]
            for name, label, row in zip(table.paths, table.labels, table.probabilities, strict=True)
        )
        write_rows(stream, chain([head], rows))


def read_predictions(path: Path, classes: list[str]) -> PredictionTable:
    """Read what :func:`write_predictions` wrote.

    Raises:
        ValueError: another table, a class that is not among the given ones, or rows that are not probabilities.
        OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        try:
            head, *rows = [row for row in csv.reader(stream) if row] or [[]]
        except csv.Error as error:
            raise ValueError(f"it is not a table: {error}") from error
    if [from_cell(cell) for cell in head[3:]] != [f"p_{name}" for name in classes]:
        raise ValueError(f"its columns are not those of the classes {', '.join(classes)}")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(head):
            raise ValueError(f"row {number} has {len(row)} cells, not {len(head)}")
    return checked_table(
        [from_cell(row[0]) for row in rows], [from_cell(row[1]) for row in rows], [row[3:] for row in rows], classes
    )


def checked_table(
    paths: list[str], labels: list[str], probabilities: list[list[str]] | list[list[float]], classes: list[str]
) -> PredictionTable:
    """Return a table of what was read from a file. Raises ValueError as :func:`read_predictions` does."""
    if not paths or len(set(paths)) != len(paths):
        raise ValueError("there are no images, or one of them appears twice")
    if unknown := set(labels) - set(classes):
        raise ValueError(f"the class {min(unknown)!r} is not one of {', '.join(classes)}")
    values = np.array(probabilities, np.float64)
    if problem := problem_of(values, len(paths), len(classes)):
        raise ValueError(problem)
    return PredictionTable(paths, labels, values)


def problem_of(probabilities: Floats, images: int, classes: int) -> str:
    """Return what is wrong with an array as probabilities (images, classes); empty if nothing is."""
    if probabilities.shape != (images, classes):
        return f"the probabilities have the shape {probabilities.shape}, not {(images, classes)}"
    if not np.isfinite(probabilities).all() or (probabilities < 0).any():
        return "a probability is negative or not a number"
    if (np.abs(probabilities.sum(1) - 1) > _TOLERANCE).any():
        worst = float(probabilities.sum(1)[np.abs(probabilities.sum(1) - 1).argmax()])
        return f"the probabilities of an image add up to {worst:.4g}, not to 1"
    return ""
