"""The commands of ``mlops``: in which module each is, and which function is behind it.

A command line loads the one command that it names, and the page of help none: all together take longer to load than most
of them take to run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

import typer

# Where a command or a group of commands is, below this package, and the first sentence of its help text; a group that has
# no module of its own names all of its commands. The help page lists them in this order: Typer puts groups last.
COMMANDS = {
    "init": (
        "init:init",
        "Generate a project of your own: workload, pipelines, CI, tests, infrastructure; the code stays in this package.",
    ),
    "new": (
        "new:new",
        "Write `workloads/NAME.yml` for a folder of images: classes, image size, batch size and first floors of the gate.",
    ),
    "train": ("train:train", "Fine-tune a pretrained network and write a model bundle."),
    "predict": ("predict:predict", "Classify images."),
    "evaluate": ("evaluate:evaluate", "Measure a bundle on the test images and write a report."),
    "gate": ("gate:gate", "Judge a candidate: promote, reject or inconclusive, with the reasons."),
    "export": (
        "export:export",
        "Write a bundle in another precision if it is as good; otherwise write nothing and exit with code 1.",
    ),
    "run": (
        "jobs.run:run",
        "Prepare, train, evaluate, judge and register a workload, with the pipeline of the project or the one that ships.",
    ),
    "serve": ("serve:serve", "Serve a bundle over HTTP until Ctrl-C."),
    "deploy": (
        "deploy:deploy",
        "Serve a registered model at an endpoint; a new version takes over once it is ready.",
    ),
    "demo": (
        "demo:demo",
        "Prepare, train, evaluate, judge, register and serve: the pipeline of `mlops run`, then its champion.",
    ),
    "doctor": (
        "azure.doctor:doctor",
        "Check this machine and the project in the working folder, with --azure also Azure; each problem comes with"
        " its fix.",
    ),
    "down": (
        "azure.down:down",
        "Remove what mlops created in Azure, after listing it with an estimate of its monthly cost.",
    ),
    "config": ("config:app", "Show and check workload files."),
    "data": (
        "data.fetch:fetch data.check:check data.versions:register data.versions:list_ data.versions:show"
        " data.add_labels:add_labels data.transfer:upload data.transfer:download data.prepare:prepare",
        "Download images, check and prepare them, keep versions of them, and bring them to and from storage.",
    ),
    "models": ("models.models:app", "Register, compare, promote and explain models."),
    "job": ("jobs.job:app", "Check, show and run jobs, components and schedules in Azure ML v2 YAML."),
    "pipeline": (
        "jobs.pipeline:app",
        "Publish pipelines on Azure ML, start and schedule them; retrain here on new images.",
    ),
    "assets": ("jobs.assets:app", "Register data, components, environments and models for local jobs."),
    "endpoint": ("endpoint:app", "List, test, inspect, share the traffic of and delete endpoints."),
    "rollout": ("rollout:app", "Roll out a model version step by step, judged against the champion."),
    "batch": ("batch:app", "Score many images at once."),
    "app": (
        "app.app:app",
        "Run the web frontend until Ctrl-C: pages on which people classify images, and see what is deployed.",
    ),
    "azure": ("azure.emulate:app", "Try the Azure commands without an account."),
    "env": ("azure.environments:app", "Register the environments of a project on Azure ML."),
    "migrate": ("azure.migrate:app", "Find what a repository uses of version 1 of Azure ML."),
    "benchmark": ("benchmark.benchmark:app", "Compare reference models with ours on the same test images."),
    "devops": (
        "devops.init:init devops.start:start",
        "Set Azure DevOps up for the pipelines of a project, and start them.",
    ),
}

RUN_CODE = frozenset({"benchmark", "evaluate", "export", "train"})
"""Commands that may run code of a project in their own process."""


def add_commands(app: typer.Typer, names: Iterable[str]) -> None:
    """Load commands, and add them to a command line."""
    for name in names:
        first, *others = map(_load, COMMANDS[name][0].split())
        found = _group(first, *others) if others else first
        if isinstance(found, typer.Typer):
            if found.registered_callback is None:  # a callback has a docstring
                found.info.help = COMMANDS[name][1]
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)


def _load(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(import_module(f"{__package__}.{module}"), attribute)


def _group(*functions: Callable[..., Any]) -> typer.Typer:
    """Return a group of commands that are called as their functions."""
    group = typer.Typer(no_args_is_help=True)
    for function in functions:
        group.command(function.__name__.rstrip("_").replace("_", "-"))(function)
    return group


def add_names(app: typer.Typer) -> None:
    """Add all commands to a command line that does not run any: their names and their help texts alone."""
    for name, (_, text) in COMMANDS.items():
        app.command(name, help=text)(_not_loaded)


def callback(words: str) -> Callable[..., Any] | None:
    """Return the function behind a command, such as ``data prepare``; None if the command is unknown."""
    first = words.partition(" ")[0]
    return _callbacks(first).get(words) if first in COMMANDS else None


def callbacks() -> dict[str, Callable[..., Any]]:
    """Return the function behind each command, by the words of the command."""
    return {words: each for name in COMMANDS for words, each in _callbacks(name).items()}


@functools.cache
def _callbacks(name: str) -> Mapping[str, Callable[..., Any]]:
    app = typer.Typer()
    add_commands(app, [name])
    return dict(_below(app, ""))


def _below(app: typer.Typer, prefix: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    from typer.main import get_command_name

    for info in app.registered_commands:
        if info.callback is not None:
            yield prefix + (info.name or get_command_name(info.callback.__name__)), info.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            own = group.typer_instance.registered_callback
            if own is not None and own.callback is not None and own.invoke_without_command is True:
                yield f"{prefix}{group.name}", own.callback  # a command that has commands of its own
            yield from _below(group.typer_instance, f"{prefix}{group.name} ")


def _not_loaded() -> None:
    raise AssertionError("a command line that names a command loads it")
