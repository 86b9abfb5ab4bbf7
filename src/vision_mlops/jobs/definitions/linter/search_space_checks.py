"""Checks that the input of the trial accepts what a search space can draw: its type, enum and bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.models.ports import VALUE_TYPES, InputDeclaration, literal_problem
from vision_mlops.jobs.definitions.models.sweep import (
    Choice,
    Distributions,
    Normal,
    QNormal,
    QUniform,
    RandInt,
    Uniform,
)


def check_space(
    definition: Definition, name: str, space: Distributions, inputs: Mapping[str, InputDeclaration], *base: str
) -> None:
    """Check one entry of a search space.

    Args:
        definition: The file with the sweep, whose path is ``base``.
        name: Name of the entry, which must be an input of the trial.
        space: What it draws from.
        inputs: Inputs of the trial.
        base: Keys.
    """
    declared = inputs.get(name)
    where = f"the search space's {name!r}"

    def report(rule: str, message: str, hint: str) -> None:
        definition.report(rule, message, hint, *base, "search_space", name)

    if declared is None:
        report("search-space", f"the trial has no input {name!r}", nearest(name, inputs))
        return
    if declared.type not in VALUE_TYPES:
        report("search-space", f"{where} is an input of type {declared.type}", "search over numbers and strings only")
        return
    if declared.type == "integer" and (hint := _fractions(space)):
        report("input-type", f"{where}: {space.type} draws fractions, but the input is of type integer", hint)
        return
    for value, origin in _samples(space):
        if found := literal_problem(value, declared):
            exponents = "; min_value and max_value are exponents of e here, such as -6.9 for 0.001"
            report(found[0], f"{where}: {found[1]}{origin}", found[2] + (exponents if "exp of" in origin else ""))
            return
    if isinstance(space, Normal | QNormal) and (declared.min is not None or declared.max is not None):
        report("search-bounds", f"{where}: {space.type} has no bounds, but the input has", "use uniform or loguniform")


def _fractions(space: Distributions) -> str:
    """How to fix a distribution that draws fractions; empty where it draws none."""
    if isinstance(space, Uniform | Normal):
        return f"use choice, randint, or q{space.type} with `q: 1`"
    if isinstance(space, QUniform | QNormal) and not float(space.q).is_integer():
        return "use a whole number as q"
    return ""


def _samples(space: Distributions) -> list[tuple[object, str]]:
    """Values that a distribution can certainly take, each with its origin: the choices, or both bounds."""
    if isinstance(space, Choice):
        return [(value, "") for value in space.values]
    if isinstance(space, RandInt):
        return [(0, ""), (space.upper - 1, "")]
    if isinstance(space, Uniform | QUniform):
        return [_bound(space, key) for key in ("min_value", "max_value")]
    return []


def _bound(space: Uniform | QUniform, key: str) -> tuple[float, str]:
    given: float = getattr(space, key)
    logarithmic = space.type in ("loguniform", "qloguniform")
    words = [f"exp of {key} {given}"] if logarithmic else []
    if isinstance(space, QUniform):
        words.append(f"in steps of {space.q:g}" if logarithmic else f"{key} in steps of {space.q:g}")
    if not words:
        return given, ""
    try:
        value = math.exp(given) if logarithmic else float(given)
        value = round(value / space.q) * space.q if isinstance(space, QUniform) else value
    except OverflowError:
        value = math.inf
    # A rounding error of binary fractions, such as 3 * 0.1 = 0.30000000000000004, must not exceed a bound of 0.3.
    return float(f"{value:.12g}"), f" ({', '.join(words)})"
