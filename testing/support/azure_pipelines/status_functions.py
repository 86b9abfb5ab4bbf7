"""``succeeded()`` and its like, in the conditions of steps, jobs and stages."""

from __future__ import annotations

from collections.abc import Mapping

from testing.support.azure_pipelines.expression_functions import Function
from testing.support.azure_pipelines.expression_values import Value, to_text
from testing.support.azure_pipelines.run_results import CANCELED, FAILED, GOOD


def of_step(status: str, canceled: bool) -> dict[str, Function]:
    """Functions for the condition of a step.

    Args:
        status: Of the job so far.
        canceled: Whether the run is.
    """
    return {
        "always": (0, 0, lambda: True),
        "canceled": (0, 0, lambda: canceled or status == CANCELED),
        "failed": (0, 0, lambda: status == FAILED),
        "succeeded": (0, 0, lambda: status in GOOD),
        "succeededorfailed": (0, 0, lambda: status in (*GOOD, FAILED)),
    }


def of_graph(before: Mapping[str, str], canceled: bool) -> dict[str, Function]:
    """Functions for the condition of a job or a stage.

    Args:
        before: Results of all that it depends on, directly or not.
        canceled: Whether the run is.
    """

    def chosen(names: tuple[Value, ...]) -> list[str]:
        return [before[to_text(name)] for name in names] if names else list(before.values())

    def failed(*names: Value) -> bool:
        return any(result == FAILED for result in chosen(names))

    def succeeded(*names: Value) -> bool:
        return not canceled and all(result in GOOD for result in chosen(names))

    def ended(*names: Value) -> bool:
        return not canceled and all(result in (*GOOD, FAILED) for result in chosen(names))

    return {
        "always": (0, 0, lambda: True),
        "canceled": (0, 0, lambda: canceled),
        "failed": (0, None, failed),
        "succeeded": (0, None, succeeded),
        "succeededorfailed": (0, None, ended),
    }
