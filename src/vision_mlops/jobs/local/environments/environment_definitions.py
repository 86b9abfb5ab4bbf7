"""Finds the definition of a step's environment: by its reference, in its file, or inline in the step."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_mlops.core.yaml_text import read_mapping
from vision_mlops.data.asset_store import AssetStore
from vision_mlops.jobs.definitions.plan.nodes import Node
from vision_mlops.jobs.definitions.referenced_files import is_file, project_root
from vision_mlops.jobs.definitions.yaml_source import ENVIRONMENT_EXAMPLE

OWN_ENVIRONMENTS = frozenset({"vision-mlops-train", "vision-mlops-dev", "vision-mlops-deploy"})
"""The environments that ship in ``environments``: what runs this is one of them itself."""
_OWN_FILE = Path("environments/train.yml")
_CURATED = re.compile(
    r"azureml:(?://registries/azureml/environments/(?P<name>[\w.-]+)/(?:versions|labels)/(?P<version>[\w.-]+)"
    r"|AzureML-(?P<old>[\w.-]+)[:@](?P<number>[\w.-]+))",
    re.IGNORECASE,
)
_REGISTERED = re.compile(r"azureml:(?P<name>[\w.-]+)(?:[:@].*)?")


@dataclass(frozen=True)
class EnvironmentDefinition:
    """What a step is to run in.

    Attributes:
        name: Name of the environment; empty if it has none.
        image: Image to run in, or to install the packages of ``conda_file`` in.
        conda_file: Path relative to ``base``, or content.
        build: Docker context relative to ``base``, and the path of the Dockerfile in it.
        base: Folder of the file with the definition.
    """

    name: str
    image: str
    conda_file: str | Mapping[str, Any] | None
    build: tuple[str, str] | None
    base: Path

    @property
    def own(self) -> bool:
        """Whether it is one of the environments that ship."""
        return self.name in OWN_ENVIRONMENTS


def environment_definition(node: Node) -> EnvironmentDefinition:
    """Find the definition of a step's environment; for an unknown reference, only its name is set.

    Raises:
        PipelineError: a file that it names cannot be read, or is not an environment.
    """
    text, base = node.environment, node.environment_file.parent
    if text.startswith("{"):
        return _definition(json.loads(text), base)
    if is_file(text):
        return _of_file(base / text.removeprefix("file:"))
    if curated := _CURATED.fullmatch(text):
        name = curated["name"] or curated["old"]
        image = f"mcr.microsoft.com/azureml/curated/{name.lower()}:{curated['version'] or curated['number']}"
        return EnvironmentDefinition(name, image, None, None, base)
    reference = _REGISTERED.fullmatch(text)
    if reference is None:
        return EnvironmentDefinition(text, "", None, None, base)
    if reference["name"] in AssetStore().names("environments"):
        return _of_file(AssetStore().find("environments", text, f"step {node.step!r}: environment").content)
    shipped = project_root(node.environment_file) / _OWN_FILE
    if reference["name"] in OWN_ENVIRONMENTS and shipped.is_file():
        return _of_file(shipped)
    return EnvironmentDefinition(reference["name"], "", None, None, base)


def _of_file(file: Path) -> EnvironmentDefinition:
    content = read_mapping(file, f"the environment {file}", ENVIRONMENT_EXAMPLE, may_be_empty=True)
    return _definition(content, file.resolve().parent)


def _definition(content: Mapping[str, Any], base: Path) -> EnvironmentDefinition:
    build = content.get("build")
    context = (str(build["path"]), str(build.get("dockerfile_path") or "Dockerfile")) if build else None
    return EnvironmentDefinition(
        str(content.get("name") or ""), str(content.get("image") or ""), content.get("conda_file"), context, base
    )
