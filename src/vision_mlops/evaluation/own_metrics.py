"""A project's own measures: functions from labels and probabilities to a number, named in ``evaluation.metrics``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vision_mlops.config.own_code import CodeReference, OwnFunction, source_hashes
from vision_mlops.core.errors import ConfigError
from vision_mlops.evaluation.metrics import Floats, Labels

OWN_METRICS = "metrics"
"""Their section of ``metrics.json``."""
_IMAGES, _SAME = 40, 1e-6


class OwnMetrics:
    """Functions of the project, imported.

    Args:
        references: Name them.

    Raises:
        ConfigError: one cannot be loaded, or does not take labels and probabilities.
    """

    def __init__(self, references: Sequence[CodeReference]) -> None:
        self._functions = [OwnFunction(reference, "labels", "probabilities") for reference in references]
        self._code = source_hashes(references)

    def measure(self, labels: Labels, probabilities: Floats) -> dict[str, Any]:
        """Return their values, and the sha256 of their source by file; nothing if there are none.

        Args:
            labels: True class indices (N,).
            probabilities: (N, C), rows summing to 1.

        Raises:
            ConfigError: one fails, or returns no finite number.
        """
        if not self._functions:
            return {}
        # Copies: a function that writes into its arguments must not change what comes after it.
        found = {item.reference.name: item(labels.copy(), probabilities.copy()) for item in self._functions}
        values = {item.reference.name: _number(item.reference, found[item.reference.name]) for item in self._functions}
        return {OWN_METRICS: values, "own_code": self._code}

    def check(self, classes: int) -> None:
        """Call each twice on made-up labels and probabilities, so that a mistake shows before anything is trained.

        Args:
            classes: How many there are; a function may rely on it.

        Raises:
            ConfigError: one fails, returns no finite number, or not the same one twice.
        """
        labels, probabilities = _made_up(classes)
        try:
            first, second = (self.measure(labels, probabilities).get(OWN_METRICS, {}) for _ in range(2))
            for item in self._functions:
                reference = item.reference
                values = first[reference.name], second[reference.name]
                if not math.isclose(*values, rel_tol=_SAME, abs_tol=_SAME):
                    raise ConfigError(
                        f"{reference} does not return the same for the same labels and probabilities twice, but"
                        f" {values[0]:.6g} and {values[1]:.6g}: it draws random numbers, or keeps a state",
                        "draw from a generator that the function makes, such as np.random.default_rng(0), and keep"
                        " nothing between calls",
                    )
        except ConfigError as error:
            told = f"{error.message} (tried on {len(labels)} made-up labels of {classes} classes)"
            raise ConfigError(told, error.hint) from error.__cause__


def _made_up(classes: int) -> tuple[Labels, Floats]:
    """Return labels (N,) and probabilities (N, C) of a usable classifier: each class has right and wrong images."""
    random, each = np.random.default_rng(0), max(4, math.ceil(_IMAGES / classes))
    labels, index = np.divmod(random.permutation(classes * each), each)
    predicted = np.where(index % 4 == 3, (labels + 1) % classes, labels)
    probabilities = random.dirichlet(np.ones(classes), len(labels)) / 2
    probabilities[np.arange(len(labels)), predicted] += 0.5
    return labels, probabilities.astype(np.float32)


def _number(reference: CodeReference, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, str) or not math.isfinite(number):
        shown = value if isinstance(value, float | int | str | None) else type(value).__name__
        raise ConfigError(f"{reference} returns {shown!r}", "return one finite number")
    return number
