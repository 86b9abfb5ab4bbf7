"""Creates environments in a workspace, from a conda file and an image or from a Dockerfile.

The version of an environment is a hash of everything that it installs: the same content is never created twice.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import quiet
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import PipelineError
from vision_mlops.core.text import nearest
from vision_mlops.core.yaml_text import read_mapping, write_yaml
from vision_mlops.jobs.azureml.docker_context import small_context
from vision_mlops.jobs.azureml.job_resources import content_hash, existing
from vision_mlops.jobs.definitions.yaml_source import CONDA_EXAMPLE, ENVIRONMENT_EXAMPLE

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

Origin = Literal["conda", "docker"]
FOLDER = Path("environments")
IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
"""The image in which the packages of a conda file are installed."""
_STEPS = "train"
_IMAGES = {"deploy": "inferencing_image", "dev": "mlops_pipeline_image", _STEPS: "training_image"}
_DOCKERFILES = {name: FOLDER / "docker" / image / "Dockerfile" for name, image in _IMAGES.items()}
_SCORING_SERVER: dict[str, Any] = {
    "liveness_route": {"port": 8000, "path": "/health/live"},
    "readiness_route": {"port": 8000, "path": "/health/ready"},
    "scoring_route": {"port": 8000, "path": "/score"},
}
_VERSION_LENGTH = 12
_INSTALLS = ("image", "conda_file", "build", "os_type", "inference_config")
# Options that name a file or folder, and paths: no other file is sent along with a conda file.
_LOCAL = re.compile(
    r"(-r|--requirement|-c|--constraint|-e|--editable)\b.*|\.{1,2}(/.*)?|/.*|file:.*|[^@:\s]+\.(whl|zip|tar\.gz)"
)


@dataclass(frozen=True)
class EnvironmentSource:
    """An Azure ML v2 definition of an environment.

    Attributes:
        content: An image, optionally with a conda file, or a Docker context.
        file: The file that contains it; paths in the content are relative to its folder.
    """

    content: Mapping[str, Any]
    file: Path

    def origin(self, project: Path) -> str:
        """Return what it is created from: a file, relative to the folder of the project, or an image."""
        build, conda = self._build(), self.content.get("conda_file")
        if build is None and not isinstance(conda, str):
            return str(self.content.get("image"))
        file = build[0] / build[1] if build else self.file.parent / str(conda)
        return Path(os.path.relpath(file, project)).as_posix()

    def version(self) -> str:
        """Hash the definition, its conda file and its Docker context.

        Raises:
            PipelineError: a file cannot be read.
        """
        # Names, descriptions and the location of files in the project do not change what is installed.
        parts = {key: value for key, value in self.content.items() if key in _INSTALLS}
        if isinstance(conda := self.content.get("conda_file"), str):
            parts["conda_file"] = read_mapping(self.file.parent / conda, hint=CONDA_EXAMPLE)
        if build := self._build():
            parts["build"] = [content_hash(build[0]), build[1]]
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:_VERSION_LENGTH]

    def check(self) -> None:
        """Check for mistakes that would make a build in Azure fail.

        Raises:
            PipelineError: the conda file is not valid or names local files, or the Dockerfile is missing.
        """
        conda = self.content.get("conda_file")
        if isinstance(conda, str):
            _check_conda(read_mapping(self.file.parent / conda, hint=CONDA_EXAMPLE), self.file.parent / conda)
        elif conda is not None:
            _check_conda(conda, self.file)
        if (build := self._build()) and not (build[0] / build[1]).is_file():
            raise PipelineError(f"{build[0] / build[1]} does not exist", "check the path, or use --from conda")

    def create(self, client: MLClient, name: str, version: str) -> None:
        """Create a version of an environment. Raises PipelineError and what the service raises."""
        content = {**self.content, "name": name, "version": version}
        with ExitStack() as stack:
            from azure.ai.ml import load_environment

            if build := self._build():
                context = stack.enter_context(small_context(*build))
                content["build"] = {"path": str(context.resolve()), "dockerfile_path": build[1]}
            with quiet():
                text = io.StringIO(write_yaml(content))
                client.environments.create_or_update(load_environment(text, relative_origin=str(self.file.resolve())))

    def _build(self) -> tuple[Path, str] | None:
        build = self.content.get("build")
        if not isinstance(build, Mapping):
            return None
        return self.file.parent / str(build.get("path", ".")), str(build.get("dockerfile_path") or "Dockerfile")


@dataclass(frozen=True)
class RegisteredEnvironment:
    """A version of an environment in a workspace, and whether it was created now (or would be)."""

    name: str
    version: str
    new: bool

    @property
    def reference(self) -> str:
        """``NAME:VERSION``."""
        return f"{self.name}:{self.version}"


def read_source(file: Path) -> EnvironmentSource:
    """Read the definition in a YAML file. Raises PipelineError if that is impossible."""
    return EnvironmentSource(read_mapping(file, hint=ENVIRONMENT_EXAMPLE), file)


def register(client: MLClient, name: str, source: EnvironmentSource, *, dry_run: bool = False) -> RegisteredEnvironment:
    """Create a version of an environment, unless one with the same content exists.

    Args:
        client: Client of a workspace.
        name: Name of the environment.
        source: What it is created from.
        dry_run: Create nothing.

    Raises:
        PipelineError: something on this machine cannot be read, or the Docker context is too large.
        AzureError: the service refuses.
    """
    version = source.version()
    with azure_errors(f"environment {name}:{version}"):
        new = existing(lambda: client.environments.get(name, version)) is None
        if new and not dry_run:
            source.create(client, name, version)
    return RegisteredEnvironment(name, version, new)


def chosen(project: Path, names: list[str], origin: Origin | None) -> dict[str, EnvironmentSource]:
    """Choose the sources of the environments of a project, by short name.

    Args:
        project: Folder that contains ``environments``.
        names: Short names, such as ``train``; all environments of the project if empty.
        origin: Whether to create them from conda files or Dockerfiles. If not given, the definition
            ``environments/NAME.yml`` decides and, without one, it is the conda file.

    Raises:
        PipelineError: a name is unknown, or what an environment is created from is missing or cannot be used.
    """
    folder = project / FOLDER
    known = {
        "conda": {file.stem for file in folder.glob("conda/*.yml")},
        "docker": {name for name, path in _DOCKERFILES.items() if (project / path).is_file()},
    }
    everything = {file.stem for file in folder.glob("*.yml")}.union(*known.values())
    if not everything:
        raise PipelineError(f"{folder} describes no environments", "change to the folder of the project")
    for name in names:
        if name not in everything:
            raise PipelineError(f"unknown environment {name!r}", nearest(name, sorted(everything)))
        if origin and name not in known[origin]:
            missing = f"conda/{name}.yml" if origin == "conda" else f"docker/{_IMAGES.get(name, name)}/Dockerfile"
            raise PipelineError(
                f"environment {name!r} cannot be created from {origin}: {folder / missing} does not exist",
                "omit --from, or add the file",
            )
    found = {}
    for name in dict.fromkeys(names or sorted(known[origin] if origin else everything)):
        found[name] = _source(project, name, origin, known["conda"])
        found[name].check()
    return found


def name_in_azure(name: str, settings: AzureSettings) -> str:
    """Return the name in a workspace for a short name; for the environment of the steps, a setting decides."""
    return settings.environment if name == _STEPS else f"vision-mlops-{name}"


def _source(project: Path, name: str, origin: Origin | None, with_conda: set[str]) -> EnvironmentSource:
    file = project / FOLDER / f"{name}.yml"
    if origin != "conda" and file.is_file():
        defined = read_source(file)
        if origin is None or "build" in defined.content:  # which defines the context
            return defined
    if origin == "conda" or (origin is None and name in with_conda):
        return EnvironmentSource({"image": IMAGE, "conda_file": f"conda/{name}.yml"}, file)
    content: dict[str, Any] = {"build": {"path": "..", "dockerfile_path": _DOCKERFILES[name].as_posix()}}
    if name == "deploy":
        content["inference_config"] = _SCORING_SERVER
    return EnvironmentSource(content, file)


def _check_conda(content: Any, file: Path) -> None:
    listed = content.get("dependencies") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise PipelineError(f"{file} has no list of dependencies", "write `- NAME=VERSION` lines below `dependencies:`")
    for item in listed:
        pip = item.get("pip") if isinstance(item, dict) else []
        if not isinstance(item, str | dict) or not isinstance(pip, list):
            raise PipelineError(f"{file}: {item!r} is not a dependency", "write NAME=VERSION, or `pip:` with a list")
        for line in pip:
            if _LOCAL.fullmatch(str(line).strip()):
                raise PipelineError(
                    f"{file}: {str(line)!r} is a local file, but only the conda file is sent to Azure ML",
                    "list the packages themselves, or use --from docker",
                )
