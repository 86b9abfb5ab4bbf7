"""Checks a sweep: its trial uses and accepts the search space, and sampling, limits and early termination fit together."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.linter.component_checks import TextScope, check_texts, report_unused
from vision_mlops.jobs.definitions.models.ports import VALUE_TYPES, InputDeclaration, literal_problem
from vision_mlops.jobs.definitions.models.steps import CommandComponent, SweepJob, SweepStep
from vision_mlops.jobs.definitions.models.sweep import (
    Choice,
    Distributions,
    Normal,
    QNormal,
    QUniform,
    RandInt,
    Sweep,
    Uniform,
)
from vision_mlops.jobs.definitions.referenced_files import Files

TRIALS = ("commandComponent", "trial")
# The SDK reads the trial of a step as a component, with inputs, and that of a job as a bare command.
_KINDS: dict[type[Sweep], tuple[str, ...]] = {SweepJob: ("trial",), SweepStep: ("commandComponent",)}


def check_sweep(definition: Definition, sweep: SweepJob | SweepStep, files: Files, *base: str) -> Definition | None:
    """Check a sweep job, or a sweep step whose path is ``base``; return its trial if that can be read."""
    _check_sampling(definition, sweep, *base)
    _check_limits(definition, sweep, *base)
    for name in sweep.search_space:
        if name in sweep.inputs:
            message = f"{name!r} is given a value, but is also in the search space"
            definition.report("search-space", message, "remove it from one of them", *base, "inputs", name)
    if isinstance(sweep, SweepJob) and isinstance(sweep.trial, str):
        message = f"the trial of a sweep job is {sweep.trial!r}, but Azure ML's SDK accepts no component there"
        hint = "make it a step of a pipeline (`type: sweep` with this trial), or write the command here"
        definition.report("trial", message, hint, *base, "trial")
        return None
    trial = files.component(sweep.trial, definition, (*base, "trial"), _KINDS[type(sweep)])
    if trial is None:
        return None
    if isinstance(trial.model, CommandComponent):
        for name, space in sweep.search_space.items():
            _check_space(definition, name, space, trial.model.inputs, *base)
        return trial
    scope = TextScope(sweep.inputs, sweep.outputs, space=sweep.search_space)
    check_texts(trial, trial.node, trial.node, scope)
    report_unused(definition, scope, *base)
    for name in sweep.search_space:
        if ("search_space", name) not in scope.used:
            message = f"the trial never uses the search space's {name!r}"
            hint = f"use ${{{{search_space.{name}}}}} in its command, or remove it"
            definition.report("unused-search-space", message, hint, *base, "search_space", name)
    return trial


def _check_sampling(definition: Definition, sweep: Sweep, *base: str) -> None:
    supported: dict[str, tuple[type, ...]] = {"grid": (Choice,), "bayesian": (Choice, Uniform, QUniform)}
    for name, space in sweep.search_space.items():
        kinds = supported.get(sweep.sampling)
        logarithmic = sweep.sampling == "bayesian" and space.type in ("loguniform", "qloguniform")
        if kinds and (not isinstance(space, kinds) or logarithmic):
            message = f"{sweep.sampling} sampling cannot draw {name!r} from {space.type}"
            accepts = "choice" if sweep.sampling == "grid" else "choice, uniform and quniform"
            hint = f"{sweep.sampling} accepts {accepts}; `sampling_algorithm: random` accepts all"
            definition.report("sampling", message, hint, *base, "search_space", name)


def _check_limits(definition: Definition, sweep: Sweep, *base: str) -> None:
    limits = sweep.limits
    for low, high in (("max_concurrent_trials", "max_total_trials"), ("trial_timeout", "timeout")):
        small, large = getattr(limits, low), getattr(limits, high)
        if small and large and small > large:
            message = f"{low} {small} is above {high} {large}"
            definition.report("limits", message, f"use at most {large}", *base, "limits", low)
    if sweep.early_termination and limits.max_total_trials == 1:
        message = "early termination compares trials, but max_total_trials is 1"
        definition.report("limits", message, "remove it, or allow more trials", *base, "early_termination")


def _check_space(
    definition: Definition, name: str, space: Distributions, inputs: Mapping[str, InputDeclaration], *base: str
) -> None:
    """Check that the input of the trial accepts what an entry of the search space can draw: its type, enum and bounds.

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
    """Say how to fix a distribution that draws fractions; empty if it draws none."""
    if isinstance(space, Uniform | Normal):
        return f"use choice, randint, or q{space.type} with `q: 1`"
    if isinstance(space, QUniform | QNormal) and not float(space.q).is_integer():
        return "use a whole number as q"
    return ""


def _samples(space: Distributions) -> list[tuple[object, str]]:
    """Return values that a distribution can certainly take, each with its origin: the choices, or both bounds."""
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
