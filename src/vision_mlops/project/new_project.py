"""Makes a project from the template: asks for the answers, writes the files, and looks at the images that it is for."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vision_mlops.config.workload import Data
from vision_mlops.config.workload_files import parse_workload
from vision_mlops.core.errors import ConfigError
from vision_mlops.core.files import atomic_folder
from vision_mlops.core.paths import repository
from vision_mlops.core.yaml_text import read_yaml
from vision_mlops.data.overview import FolderOverview, left_out, look_at
from vision_mlops.data.workload_draft import workload_text
from vision_mlops.images.decoding import open_rgb
from vision_mlops.project.handful import take_handful, write_small
from vision_mlops.project.placed_files import place_components
from vision_mlops.project.shipped_files import copy_template
from vision_mlops.project.template_origin import template_origin

ANSWERS = ".copier-answers.yml"
_VALIDATION = re.compile(r"^Validation error for question '(\w+)': ")
_SAMPLE = Path("data", "examples", "sample.jpg")


@dataclass(frozen=True)
class ProjectRequest:
    """What is to be made.

    Attributes:
        target: Folder of the project; its name is that of the project.
        answers: Given answers, by question.
        ask: Ask for the others at the terminal; else they get their defaults.
        template: Another template than that of this package: address or path, as copier takes it.
        ref: Tag or commit of that; its latest tag where empty.
    """

    target: Path
    answers: Mapping[str, Any] = field(default_factory=dict)
    ask: bool = False
    template: str = ""
    ref: str = ""


@dataclass(frozen=True)
class MadeProject:
    """What was made: all answers, and messages about images that will be left out."""

    answers: dict[str, Any]
    left_out: list[str]


def make_project(request: ProjectRequest) -> MadeProject:
    """Write a project, whole or not at all.

    A folder of images is not copied: ``data/NAME`` of the project is a link to it.

    Raises:
        MlopsError: the folder is there and not empty, an answer is not valid, or the images cannot be used.
    """
    images = str(request.answers.get("images", ""))
    look = look_at_images(images) if images else None
    target = request.target.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{request.target} exists already", "choose another name, or remove it")
    with _no_folder_left(target), atomic_folder(target) as folder:
        if request.template:
            given = _render(folder, request, request.template, request.ref, {})
        else:
            origin = template_origin()
            with _own_template() as template:
                given = _render(folder, request, str(template), "", origin)
        answers = read_yaml((folder / ANSWERS).read_text(encoding="utf-8"))
        if not images and given.get("images"):  # copier asked for it
            look = look_at_images(str(given["images"]))
        if look is not None:
            _show_images(folder, answers["name"], look)
        place_components(folder)
    kept = {name: value for name, value in answers.items() if not name.startswith("_")}
    return MadeProject(kept, left_out(look, Data().min_images_per_class) if look is not None else [])


def look_at_images(folder: str) -> FolderOverview:
    """Look at the images that a project is to be for. Raises DataError where they cannot be used."""
    return look_at(Path(folder).expanduser(), Data().min_images_per_class)


@contextmanager
def _no_folder_left(target: Path) -> Iterator[None]:
    """Remove the folders above the target that were made for it if the body fails."""
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):  # something was put there meanwhile
                folder.rmdir()
        raise


@contextmanager
def _own_template() -> Iterator[Path]:
    """Copy the template of this package to a folder: copier would clone the repository that it lies in."""
    with tempfile.TemporaryDirectory(prefix="mlops-template-") as folder:
        place = Path(folder, "template")
        copy_template(repository(), place)
        yield place


def _render(folder: Path, request: ProjectRequest, source: str, ref: str, facts: Mapping[str, str]) -> dict[str, Any]:
    """Let copier write the files, and return all answers."""
    from copier import run_copy
    from copier.errors import CopierError

    given = {**request.answers, **facts}
    try:
        # `overwrite`, as copier asks before it writes into a folder that exists.
        made = run_copy(
            source, folder, given, vcs_ref=ref or None, defaults=not request.ask, overwrite=True, quiet=True
        )
    except KeyboardInterrupt:
        raise
    except (CopierError, ValueError) as error:
        told = " ".join(str(error).split())
        question, message = _VALIDATION.match(told), _VALIDATION.sub(r"\1: ", told)
        hint = f"give another {_option(question[1])}" if question else "give other answers with --data NAME=VALUE"
        hint += ", or fix the template" if request.template else ""
        raise ConfigError(f"no project was created: {message}", hint) from error
    questions = made.template.questions_data
    for name in request.answers:
        if name not in questions:
            raise ConfigError(f"unknown question {name!r}", f"the template asks for {', '.join(questions)}")
    return dict(made.answers.combined)


def _option(question: str) -> str:
    """Return how `mlops init` takes the answer to a question."""
    return {"name": "NAME", "images": "--images FOLDER"}.get(question, f"--data {question}=VALUE")


def _show_images(folder: Path, name: str, look: FolderOverview) -> None:
    """Write what depends on the images: workload, data contract, images for the tests, and one to try a deployment with."""
    title = name.replace("-", " ").replace("_", " ").capitalize()
    place = Path("data", name)
    (folder / place).symlink_to(look.folder, target_is_directory=True)
    text = workload_text(name, title, place.as_posix(), look)
    workload = parse_workload(text, f"workloads/{name}.yml")
    (folder / "workloads" / f"{name}.yml").write_text(text, encoding="utf-8")
    handful = take_handful(workload, folder / "tests" / "images", look.folder)
    contract = folder / "tests" / "data_contract.yml"
    lines = "".join(f"\n- {json.dumps(label, ensure_ascii=False)}" for label in sorted(look.counts))
    contract.write_text(
        contract.read_text(encoding="utf-8").replace("classes: []", f"classes:{lines}"), encoding="utf-8"
    )
    write_small(open_rgb(next(iter(sorted(handful.rglob("*.jpg"))))), folder / _SAMPLE)
