"""Checks a sweep: its trial uses the search space, and sampling, limits and early termination make sense together."""

from __future__ import annotations

from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.findings import Findings
from vision_mlops.jobs.definitions.linter.command_checks import TextScope, check_texts, report_unused
from vision_mlops.jobs.definitions.linter.search_space_checks import check_space
from vision_mlops.jobs.definitions.models.steps import CommandComponent, SweepJob, SweepStep
from vision_mlops.jobs.definitions.models.sweep import Choice, QUniform, Sweep, Uniform
from vision_mlops.jobs.definitions.referenced_files import Files
from vision_mlops.jobs.definitions.yaml_source import Mapping

TRIALS = ("commandComponent", "trial")
# The SDK reads the trial of a step as a component, with inputs, and that of a job as a bare command.
_KINDS: dict[type[Sweep], tuple[str, ...]] = {SweepJob: ("trial",), SweepStep: ("commandComponent",)}


def check_sweep(
    definition: Definition, sweep: SweepJob | SweepStep, node: Mapping, files: Files, findings: Findings, *base: str
) -> Definition | None:
    """Check a sweep job, or a sweep step of which ``base`` is the path; returns its trial where that can be read."""
    _check_sampling(definition, sweep, findings, *base)
    _check_limits(definition, sweep, findings, *base)
    _check_given(definition, sweep, findings, *base)
    if isinstance(sweep, SweepJob) and isinstance(sweep.trial, str):
        message = f"the trial of a sweep job is {sweep.trial!r}, but Azure ML's SDK takes no component there"
        hint = "make it a step of a pipeline (`type: sweep` with this trial), or write the command here"
        findings.report(definition.file, definition.line(*base, "trial"), "trial", message, hint)
        return None
    trial = files.component(sweep.trial, definition, (*base, "trial"), _KINDS[type(sweep)])
    if trial is None:
        return None
    if isinstance(trial.model, CommandComponent):
        for name, space in sweep.search_space.items():
            line = definition.line(*base, "search_space", name)
            check_space(definition, name, space, trial.model.inputs, line, findings)
        return trial
    scope = TextScope(sweep.inputs, sweep.outputs, space=sweep.search_space)
    check_texts(trial, trial.node, trial.node, scope, findings)
    report_unused(definition, node, scope, findings, *base)
    for name in sweep.search_space:
        if ("search_space", name) not in scope.used:
            line = definition.line(*base, "search_space", name)
            message = f"the trial never uses the search space's {name!r}"
            hint = f"use ${{{{search_space.{name}}}}} in its command, or remove it"
            findings.report(definition.file, line, "unused-search-space", message, hint)
    return trial


def _check_given(definition: Definition, sweep: SweepJob | SweepStep, findings: Findings, *base: str) -> None:
    """An input has one value: it is given, or searched."""
    for name in sweep.search_space:
        if name in sweep.inputs:
            line = definition.line(*base, "inputs", name)
            message = f"{name!r} is given a value, and is in the search space too"
            findings.report(definition.file, line, "search-space", message, "remove it from one of them")


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
            findings.report(definition.file, line, "sampling", message, hint)


def _check_limits(definition: Definition, sweep: Sweep, findings: Findings, *base: str) -> None:
    limits = sweep.limits
    total, at_once = limits.max_total_trials, limits.max_concurrent_trials
    if total and at_once and at_once > total:
        line = definition.line(*base, "limits", "max_concurrent_trials")
        message = f"max_concurrent_trials {at_once} is above max_total_trials {total}"
        findings.report(definition.file, line, "limits", message, f"use at most {total}")
    if limits.trial_timeout and limits.timeout and limits.trial_timeout > limits.timeout:
        line = definition.line(*base, "limits", "trial_timeout")
        message = f"trial_timeout {limits.trial_timeout} is above timeout {limits.timeout}"
        findings.report(definition.file, line, "limits", message, f"use at most {limits.timeout}")
    if sweep.early_termination and total == 1:
        line = definition.line(*base, "early_termination")
        message = "early termination compares trials, and max_total_trials is 1"
        findings.report(definition.file, line, "limits", message, "remove it, or allow more trials")
