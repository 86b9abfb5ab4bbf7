"""Checks a sweep: its trial uses the search space, and sampling, limits and early termination fit together."""

from __future__ import annotations

from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.linter.command_checks import TextScope, check_texts, report_unused
from vision_mlops.jobs.definitions.linter.search_space_checks import check_space
from vision_mlops.jobs.definitions.models.steps import CommandComponent, SweepJob, SweepStep
from vision_mlops.jobs.definitions.models.sweep import Choice, QUniform, Sweep, Uniform
from vision_mlops.jobs.definitions.referenced_files import Files

TRIALS = ("commandComponent", "trial")
# The SDK reads the trial of a step as a component, with inputs, and that of a job as a bare command.
_KINDS: dict[type[Sweep], tuple[str, ...]] = {SweepJob: ("trial",), SweepStep: ("commandComponent",)}


def check_sweep(definition: Definition, sweep: SweepJob | SweepStep, files: Files, *base: str) -> Definition | None:
    """Check a sweep job, or a sweep step whose path is ``base``; returns its trial where that can be read."""
    _check_sampling(definition, sweep, *base)
    _check_limits(definition, sweep, *base)
    for name in sweep.search_space:
        if name in sweep.inputs:
            message = f"{name!r} is given a value and is in the search space, too"
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
            check_space(definition, name, space, trial.model.inputs, *base)
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
