"""What the files of pipelines declare and nobody reads: variables, parameters, templates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from vision_mlops.config.azure_settings import AzureSettings

_OF_A_GROUP = "group_variables"


def unread(folder: Path, source: Path) -> list[str]:
    """A line for each name in vain.

    Args:
        folder: ``ado_pipelines``.
        source: The code that reads variables of the environment.
    """
    files = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.yml"))}
    texts = [path.read_text(encoding="utf-8") for path in source.rglob("*.py")]
    code = "\n".join([*texts, *AzureSettings.variables()])  # most of these are made of a prefix and the name of a field
    return [*_variables(folder, files, code), *_parameters(files), *_templates(folder, files)]


def _variables(folder: Path, files: dict[Path, str], code: str) -> Iterator[str]:
    everything = "\n".join(files.values())
    for path, text in files.items():
        tree = yaml.safe_load(re.sub(r"\$\{\{[^}]*\}\}:?", "x", text)) if path.parent.name == "variables" else {}
        for item in tree.get("variables", []):
            name = item.get("name")
            if name is None:
                continue
            readers = (r"\$\({}\)", r"variables\.{}\b", r"variables\['{}'\]", r"\${}\b")
            read = any(re.search(reader.format(re.escape(name)), everything) for reader in readers)
            by_code = name.isupper() and re.search(rf"\b{re.escape(name)}\b", code)
            if not read and not by_code:
                yield f"{path.relative_to(folder)}: nobody reads the variable {name}"


def _parameters(files: dict[Path, str]) -> Iterator[str]:
    for path, text in files.items():
        declared = re.search(r"^parameters:\n((?:[ \t#].*\n|\n)+)", text, re.MULTILINE)
        for name in re.findall(r"^  - name: (\w+)", declared[1], re.MULTILINE) if declared else []:
            if not re.search(rf"\bparameters\.{name}\b", text):
                yield f"{path.name}: nobody reads the parameter {name}"


def _templates(folder: Path, files: dict[Path, str]) -> Iterator[str]:
    named = {name for text in files.values() for name in re.findall(r"template: (\S+)", text)}
    for path in files:
        name = f"/{folder.name}/{path.relative_to(folder).as_posix()}"
        patterns = [re.sub(r"\\\$\\\{\\\{.*?\\\}\\\}", ".+", re.escape(one)) for one in named]
        is_part = path.parent != folder and path.stem != _OF_A_GROUP
        if is_part and not any(re.fullmatch(pattern, name) for pattern in patterns):
            yield f"{path.relative_to(folder)}: nobody uses the template"
