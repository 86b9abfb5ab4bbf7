"""``mlops init``: generate a project."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vision_mlops.cli.options import JsonOption, filled, pairs
from vision_mlops.cli.output import emit_json, say, warn
from vision_mlops.core.errors import ConfigError, DataError, require
from vision_mlops.core.paths import repository


def init(
    name: Annotated[
        str,
        typer.Argument(
            callback=filled, metavar="NAME", help="Name of the project, of its workload, and of its folder."
        ),
    ],
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Ask nothing and use the default of every answer that is not given.")
    ] = False,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Answer a question: region, ci or targets. Repeatable."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Folder with a sub-folder of images per class.", show_default="textile"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write.", show_default="NAME")] = None,
    template: Annotated[str, typer.Option(help="Use another template: address of a git repository, or a folder.")] = "",
    ref: Annotated[str, typer.Option(help="Tag or commit of --template.", show_default="its latest tag")] = "",
    json_: JsonOption = False,
) -> None:
    """Generate a project of your own: workload, pipelines, CI, tests, infrastructure; the code stays in this package.

    It asks for images, Azure region, GitHub or Azure DevOps, and targets; all have defaults. Later, `copier update` brings
    the next version of the template into the project and keeps your changes.

    Example: `mlops init birds --images photos/birds --defaults`, or `mlops init birds --defaults --data ci=azure-devops`
    """
    require("copier")
    from vision_mlops.project.new_project import ProjectRequest, make_project
    from vision_mlops.project.project_answers import read_answer, read_questions

    questions = read_questions(repository())
    answers: dict[str, Any] = pairs(data, "--data", "ci=github")
    if not template:
        answers = {question: read_answer(question, text, questions) for question, text in answers.items()}
    if "/" in name:
        raise ConfigError(f"{name!r} is a path, not a name", f"for example: mlops init {Path(name).name} --out {name}")
    if "name" in answers:
        raise ConfigError("--data name=... is given besides NAME", f"remove it: the project is called {name}")
    answers["name"] = name
    if images is not None:
        answers["images"] = str(Path(images).expanduser().absolute()) if images else ""
    if ref and not template:
        raise ConfigError("--ref needs --template", "add --template, or install that version")
    missing = [question for question in questions if question not in answers]
    if not defaults and missing and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError(
            f"there is no terminal to ask at, and no answer for {', '.join(missing)}",
            "give --defaults, or each answer with --data NAME=VALUE",
        )
    if not defaults and not template and "images" in missing:
        answers["images"] = _ask_for_images(questions["images"]["help"])
    target = out or Path(name)
    made = make_project(ProjectRequest(target, answers, not defaults, template, ref))
    if json_:
        emit_json({"folder": target, "answers": made.answers, "left_out": made.left_out})
        return
    for message in made.left_out:
        warn(message)
    if made.answers.get("images"):
        say(
            f"{target}/{made.answers['images']} links to your images; git ignores it, and README.md says how others get them"
        )
        say(f"{target}/tests/images holds small copies of some of them, for the tests: commit those")
    say(f"created {target}; continue with")
    say(f"  cd {target}")
    say("  git init && git add . && git commit --message 'From the template'    # `copier update` needs it")
    say("  make demo    # installs into .venv, then trains, judges, registers and serves")


def _ask_for_images(question: str) -> str:
    """Ask for a folder until it can be used; before the other questions, whose answers a wrong folder would lose."""
    from vision_mlops.project.new_project import look_at_images

    while True:
        text = typer.prompt(question, default="", show_default=False).strip()
        if not text:
            return ""
        folder = str(Path(text).expanduser().absolute())
        try:
            look_at_images(folder)
        except DataError as error:
            say(str(error))
            continue
        return folder
