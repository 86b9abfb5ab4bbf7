"""Checks a sweep: its trial uses the search space, and sampling, limits and early termination make sense together."""

from __future__ import annotations

from vision_mlops.pipeline.commands import Scope, check_texts, report_unused
from vision_mlops.pipeline.definitions import Definition
from vision_mlops.pipeline.files import Files
from vision_mlops.pipeline.findings import Findings, nearest
from vision_mlops.pipeline.ports import VALUE_TYPES, InputDeclaration, literal_problem
from vision_mlops.pipeline.source import Mapping
from vision_mlops.pipeline.steps import CommandComponent, SweepJob, SweepStep
from vision_mlops.pipeline.sweep import Choice, QUniform, RandInt, Sweep, Uniform

TRIALS = ("commandComponent", "trial")


def check_sweep(
    definition: Definition, sweep: SweepJob | SweepStep, node: Mapping, files: Files, findings: Findings, *base: str
) -> Definition | None:
    """Check a sweep job, or a sweep step of which ``base`` is the path; returns its trial where that can be read."""
    _check_sampling(definition, sweep, findings, *base)
    _check_limits(definition, sweep, findings, *base)
    trial = files.component(sweep.trial, definition, (*base, "trial"), TRIALS)
    if trial is None:
        return None
    if isinstance(trial.model, CommandComponent):
        _check_space(definition, sweep, trial.model.inputs, findings, *base)
        return trial
    scope = Scope(sweep.inputs, sweep.outputs, space=sweep.search_space)
    check_texts(trial, trial.node, trial.node, scope, findings)
    report_unused(definition, node, scope, findings, *base)
    for name in sweep.search_space:
        if ("search_space", name) not in scope.used:
            line = definition.line(*base, "search_space", name)
            message = f"the trial never uses the search space's {name!r}"
            hint = f"use ${{{{search_space.{name}}}}} in its command, or remove it"
            findings.error(definition.file, line, "search-space", message, hint)
    return trial


def _check_space(
    definition: Definition, sweep: Sweep, inputs: dict[str, InputDeclaration], findings: Findings, *base: str
) -> None:
    """Each name of the space must be an input of the trial, and each choice a value for it."""
    for name, space in sweep.search_space.items():
        line = definition.line(*base, "search_space", name)
        declared = inputs.get(name)
        if declared is None:
            message = f"the trial has no input {name!r}"
            findings.error(definition.file, line, "search-space", message, nearest(name, inputs))
        elif declared.type not in VALUE_TYPES:
            message = f"the search space's {name!r} is an input of type {declared.type}"
            findings.error(definition.file, line, "search-space", message, "search over numbers and texts only")
        else:
            for value in _samples(space):
                if found := literal_problem(value, declared):
                    message = f"the search space's {name!r}: {found[1]}"
                    findings.error(definition.file, line, found[0], message, found[2])


def _samples(space: object) -> list[object]:
    """Values that a distribution certainly can take: choices, and the bounds of the linear ones."""
    if isinstance(space, Choice):
        return list(space.values)
    if isinstance(space, Uniform) and space.type == "uniform":
        return [space.min_value, space.max_value]
    return [0, space.upper - 1] if isinstance(space, RandInt) else []


def _check_sampling(definition: Definition, sweep: Sweep, findings: Findings, *base: str) -> None:
    supported: dict[str, tuple[type, ...]] = {"grid": (Choice,), "bayesian": (Choice, Uniform, QUniform)}
    for name, space in sweep.search_space.items():
        kinds = supported.get(sweep.sampling)
        logarithmic = sweep.sampling == "bayesian" and space.type in ("loguniform", "qloguniform")
        if kinds and (not isinstance(space, kinds) or logarithmic):
            line = definition.line(*base, "search_space", name)
            message = f"{sweep.sampling} sampling cannot draw {name!r} from {space.type}"
            takes = "choice" if sweep.sampling == "grid" else "choice, uniform and quniform"
            hint = f"{sweep.sampling} takes {takes}; `sampling_algorithm: random` takes all"
            findings.error(definition.file, line, "sampling", message, hint)


def _check_limits(definition: Definition, sweep: Sweep, findings: Findings, *base: str) -> None:
    limits = sweep.limits
    total, at_once = limits.max_total_trials, limits.max_concurrent_trials
    if total and at_once and at_once > total:
        line = definition.line(*base, "limits", "max_concurrent_trials")
        message = f"max_concurrent_trials {at_once} is above max_total_trials {total}"
        findings.error(definition.file, line, "value", message, f"use at most {total}")
    if limits.trial_timeout and limits.timeout and limits.trial_timeout > limits.timeout:
        line = definition.line(*base, "limits", "trial_timeout")
        message = f"trial_timeout {limits.trial_timeout} is above timeout {limits.timeout}"
        findings.warning(definition.file, line, "value", message, f"use at most {limits.timeout}")
    if sweep.early_termination and total == 1:
        line = definition.line(*base, "early_termination")
        message = "early termination compares trials, and max_total_trials is 1"
        findings.error(definition.file, line, "early-termination", message, "remove it, or allow more trials")
