"""The questions of the template, and answers to them that are given on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vision_mlops.core.errors import ConfigError, problem_of_file
from vision_mlops.core.text import nearest
from vision_mlops.project.shipped_files import QUESTIONS


def read_questions(root: Path) -> dict[str, Any]:
    """Read the questions by name, in their order, as copier.yml of a template has them.

    Raises:
        ConfigError: the file is missing or cannot be read.
    """
    file = root / QUESTIONS
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} cannot be read: {problem_of_file(error)}", "install the package again") from error
    return {name: question for name, question in content.items() if not name.startswith("_")}


def read_answer(name: str, text: str, questions: Mapping[str, Any]) -> Any:
    """Parse the answer to a question; several answers, where it takes them, are separated by commas.

    Raises:
        ConfigError: the question or a choice is unknown.
    """
    if name not in questions:
        raise ConfigError(f"unknown question {name!r}", nearest(name, questions))
    question = questions[name]
    choices = question.get("choices")
    if not choices:
        return text
    known = list(choices.values() if isinstance(choices, dict) else choices)
    values = [part.strip() for part in text.split(",") if part.strip()] if question.get("multiselect") else [text]
    for value in values:
        if value not in known:
            raise ConfigError(f"{name}: unknown choice {value!r}", nearest(value, known))
    return values if question.get("multiselect") else text
