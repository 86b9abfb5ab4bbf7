"""Runs steps in containers: the image or Dockerfile of their environment, in Docker or Podman.

A container sees the home folder and what the step reads at the same paths as this machine, so that a command, its inputs and
its outputs are the same in it. It shares this machine's network, as the containers on Azure ML's nodes do.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import vision_mlops
from vision_mlops.containers.container_engine import Engine, open_engine
from vision_mlops.core import paths
from vision_mlops.core.errors import DeploymentError, PipelineError
from vision_mlops.core.files import atomic_write
from vision_mlops.core.hashing import Fingerprints
from vision_mlops.core.ignore_files import snapshot_files
from vision_mlops.core.yaml_text import read_mapping, write_yaml
from vision_mlops.jobs.definitions.plan.nodes import Node
from vision_mlops.jobs.definitions.yaml_source import CONDA_EXAMPLE
from vision_mlops.jobs.local.environments.environment_contract import StepEnvironment
from vision_mlops.jobs.local.environments.environment_definitions import EnvironmentDefinition

_MARK = "mlops.step"
_TAG = "mlops-environment"
_SHM_SIZE = "2g"  # Azure ML's own default
_NOT_PASSED = frozenset({"PATH", "PYTHONPATH", "VIRTUAL_ENV"})  # of this machine
_RANK = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_SOURCE = Path(vision_mlops.__file__).parents[1]
_CONDA_DOCKERFILE = """\
FROM {image}
COPY conda.yaml /azureml-environment-setup/conda.yaml
RUN conda env create -p /azureml-envs/environment -f /azureml-environment-setup/conda.yaml && conda clean -afy
ENV PATH=/azureml-envs/environment/bin:$PATH CONDA_DEFAULT_ENV=/azureml-envs/environment
"""


@dataclass(frozen=True)
class ContainerImage:
    """An image to pull, or to build from a context. If it has ``files``, they are first written to a context of its own."""

    reference: str
    content: str
    context: Path | None = None
    dockerfile: Path = Path()
    files: Mapping[str, str] = field(default_factory=dict)


class StepContainer(StepEnvironment):
    """A container for each process of a step."""

    python = "python3"

    def __init__(self, engine: Engine, image: ContainerImage, node: Node) -> None:
        self._engine = engine
        self._image = image
        self._node = node
        self.content = f"container {image.content}"
        self.label = f"{image.reference} ({engine.name})"
        # Includes the process: another job may run the same step at the same time.
        self.container = hashlib.sha256(f"{paths.home()} {os.getpid()} {node.step}".encode()).hexdigest()[:24]

    def variables(self) -> dict[str, str]:
        """Return what the image does not set itself: the entry script of a parallel step must find our modules."""
        return {"PYTHONPATH": str(_SOURCE)} if self._node.parallel is not None else {}

    def path(self) -> None:
        """Return None: which programs the image contains is unknown."""

    def wrapped(
        self, command: str | list[str], work: Path, data: Sequence[Path], variables: Iterable[str]
    ) -> str | list[str]:
        """Return the engine's command that runs a command of the step in a container."""
        words = command if isinstance(command, list) else ["bash", "-c", command]
        options = ["--rm", "--init", "--network", "host", "--label", f"{_MARK}={self.container}"]
        options += ["--workdir", str(work), *self._mounts(data), *self._resources(), *self._user()]
        own = {*self.variables(), *self._node.variables}
        passed = [name for name in variables if name not in _NOT_PASSED or name in own]
        distributed = (*_RANK, "AZUREML_PROCESS_NAME") if self._node.distribution == "pytorch" else ()
        for name in dict.fromkeys([*passed, *distributed, *(("HOME",) if self._user() else ())]):
            # The engine takes the values from its own environment, so that no list of processes shows them.
            options += ["--env", name if name != "HOME" else f"HOME={work}"]
        run = [*self._engine.words, "run", *options, *self._engine.run_options, "--entrypoint", words[0]]
        return [*run, self._image.reference, *words[1:]]

    def _mounts(self, data: Sequence[Path]) -> list[str]:
        home = paths.home()
        mounts = [f"type=bind,source={home},target={home}"]
        seen = [path for path in dict.fromkeys(data) if not path.is_relative_to(home)]
        seen += [_SOURCE] if self._node.parallel is not None else []
        mounts += [f"type=bind,source={path},target={path},readonly" for path in seen]
        return [word for mount in mounts for word in ("--mount", mount)]

    def _resources(self) -> list[str]:
        resources = json.loads(self._node.unused.get("resources", "{}"))
        options = ["--shm-size", str(resources.get("shm_size") or _SHM_SIZE)]
        extra = resources.get("docker_args") or []
        options += shlex.split(extra) if isinstance(extra, str) else [str(item) for item in extra]
        if shutil.which("nvidia-smi"):
            options += ["--device", "nvidia.com/gpu=all"] if self._engine.name == "podman" else ["--gpus", "all"]
        return options

    def _user(self) -> list[str]:
        """Return the option for the user: Docker's root writes files that this user cannot remove, Podman's is this user."""
        return ["--user", f"{os.getuid()}:{os.getgid()}"] if os.getuid() and self._engine.name != "podman" else []

    def preparation(self, folder: Path) -> list[str] | None:
        """Return the command that pulls or builds the image; None if it is on this machine."""
        if self._engine.image(self._image.reference) is not None:
            return None
        image, context = self._image, self._image.context
        if image.files:
            context = folder / "environment"
            for name, text in image.files.items():
                atomic_write(context / name, text)
        if context is None:
            return [*self._engine.words, "pull", image.reference]
        build = [*self._engine.words, "build", *self._engine.build_options, "-f", str(context / image.dockerfile)]
        return [*build, "-t", image.reference, str(context)]


def open_container(definition: EnvironmentDefinition, node: Node, where: str) -> StepContainer:
    """Open the container that a step runs in.

    Raises:
        PipelineError: only the name of its environment is known.
        DeploymentError: no container engine is available, or it is not running.
    """
    engine = open_engine()
    engine.check()
    if definition.build is not None:
        return StepContainer(engine, _built(definition), node)
    if not definition.image:
        raise PipelineError(
            f"{where}: the environment {definition.name!r} is not registered on this machine, so it has no container",
            "add it with `mlops assets create FILE`, or use --environment auto",
        )
    if definition.conda_file is None:
        return StepContainer(engine, ContainerImage(definition.image, definition.image), node)
    source = definition.conda_file
    if isinstance(source, str):
        file = definition.base / source.removeprefix("file:")
        source = read_mapping(file, f"{where}: the conda file {file}", CONDA_EXAMPLE, may_be_empty=True)
    files = {"conda.yaml": write_yaml(source), "Dockerfile": _CONDA_DOCKERFILE.format(image=definition.image)}
    content = hashlib.sha256("".join(files.values()).encode()).hexdigest()
    image = ContainerImage(f"{_TAG}:{content[:24]}", content, dockerfile=Path("Dockerfile"), files=files)
    return StepContainer(engine, image, node)


def _built(definition: EnvironmentDefinition) -> ContainerImage:
    assert definition.build is not None
    context, dockerfile = (definition.base / definition.build[0]).resolve(), Path(definition.build[1])
    with Fingerprints() as fingerprints:
        files = fingerprints.of_files(context, snapshot_files(context))
    content = hashlib.sha256(f"{files} {dockerfile}".encode()).hexdigest()
    return ContainerImage(f"{_TAG}:{content[:24]}", content, context, dockerfile)


def remove_containers(container: str) -> None:
    """Remove the containers of a step whose processes were killed, if a container engine is available."""
    with suppress(DeploymentError):
        engine = open_engine()
        for found in engine.containers({_MARK: container}):
            engine.remove(found.id)
