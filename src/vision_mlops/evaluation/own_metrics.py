"""Measures of a project's own: functions from labels and probabilities to a number, named in ``evaluation.metrics``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vision_mlops.config.own_code import CodeReference, OwnFunction, source_hashes
from vision_mlops.core.errors import ConfigError
from vision_mlops.evaluation.metrics import Floats, Labels

OWN_METRICS = "metrics"
"""Their section of ``metrics.json``."""


class OwnMetrics:
    """Functions of the project, imported.

    Args:
        references: Name them.

    Raises:
        ConfigError: one cannot be had, or does not take labels and probabilities.
    """

    def __init__(self, references: Sequence[CodeReference]) -> None:
        self._functions = [OwnFunction(reference, "labels", "probabilities") for reference in references]
        self._code = source_hashes(references)

    def measure(self, labels: Labels, probabilities: Floats) -> dict[str, Any]:
        """What they return, and the sha256 of their source by file; nothing where there are none.

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


def _number(reference: CodeReference, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, str) or not math.isfinite(number):
        shown = value if isinstance(value, float | int | str | None) else type(value).__name__
        raise ConfigError(f"{reference} returns {shown!r}", "return one finite number")
    return number
