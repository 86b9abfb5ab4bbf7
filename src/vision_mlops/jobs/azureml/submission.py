"""Prepares a checked definition for a workspace: makes sure that its clusters, environment and data exist, and names them.

The definitions name the clusters ``cpu-cluster`` and ``gpu-cluster`` and the environment ``vision-mlops-train@latest``; the
settings say which ones these are in the workspace. Without settings for a GPU cluster, and without such a cluster, training
runs on the CPU cluster. Everything else in the file is submitted unchanged.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import PipelineError
from vision_mlops.core.yaml_text import write_yaml
from vision_mlops.jobs.azureml.environment_assets import read_source, register
from vision_mlops.jobs.azureml.job_resources import (
    Say,
    ensure_compute,
    ensure_data,
    existing,
    require_compute,
)
from vision_mlops.jobs.azureml.sdk_check import needs_switch
from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.findings import Findings
from vision_mlops.jobs.definitions.linter.linter import Linter
from vision_mlops.jobs.definitions.models.azure_only import SDK_SWITCH
from vision_mlops.jobs.definitions.overrides import parse_changes
from vision_mlops.jobs.definitions.referenced_files import project_root

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

CPU, GPU = "cpu-cluster", "gpu-cluster"
ENVIRONMENT = "vision-mlops-train"
ENVIRONMENT_FILE = Path("environments") / "train.yml"
_REMOTE = ("azureml:", "http:", "https:", "wasb:", "wasbs:", "abfs:", "abfss:", "adl:")
_UPLOADED = ("uri_folder", "uri_file")
_SERVERLESS = "serverless"


def checked(path: Path, overrides: Iterable[str], among: tuple[str, ...], say: Say = lambda text: None) -> Definition:
    """Read a definition, apply ``--set`` values and check it; pass its warnings to ``say``.

    Raises:
        PipelineError: the file or a value has errors; the message is the first one, and counts the others.
    """
    findings = Findings()
    definition = Linter(path, findings, changes=parse_changes(overrides)).checked(among)
    for finding in findings:
        say(finding.on_one_line())
    return definition


@dataclass
class Preparation:
    """Prepares definitions for one workspace; it checks for each resource only once."""

    client: MLClient
    settings: AzureSettings
    say: Say
    environment_file: Path | None = None
    _environment: str = ""
    _computes: set[str] = field(default_factory=set)
    _told: bool = False

    def load(self, definition: Definition, loader: Callable[..., Any]) -> Any:
        """Load the SDK's entity of a definition; upload local data, and make sure that clusters and environment exist.

        Args:
            definition: As :func:`checked` returns it.
            loader: ``load_job``, ``load_component`` or the like.

        Raises:
            PipelineError: local data or the environment's file cannot be used.
            AzureError: the service or the SDK refuses.
        """
        if name := needs_switch(definition):
            raise PipelineError(
                f"{definition.file}: Azure ML's SDK accepts the step {name!r} only as a private preview",
                f"set {SDK_SWITCH}=true",
            )
        content = _plain(definition.node)
        self._upload(content, definition.file.parent)
        with azure_errors(str(definition.file)):
            text = io.StringIO(write_yaml(content))
            entity = loader(text, relative_origin=str(definition.file.resolve()))
        self.place(entity, definition.file)
        return entity

    def place(self, entity: Any, file: Path) -> None:
        """Set cluster and environment of everything that runs in a job or component, and make sure that they exist."""
        for run in _runs(entity):
            reference = getattr(run, "environment", None)
            if isinstance(reference, str) and _is_ours(reference):
                run.environment = self.environment(file)
        for owner, key in _computes(entity):
            name = getattr(owner, key, None)
            if isinstance(name, str) and "${{" not in name:
                setattr(owner, key, self.compute(self._affordable(name)))

    def _affordable(self, name: str) -> str:
        """Return the CPU cluster instead of the GPU cluster, if no setting names one and the workspace has none."""
        if name.removeprefix("azureml:") != GPU or self.settings.gpu_is_set or self.settings.gpu.name in self._computes:
            return name
        with azure_errors(f"compute cluster {GPU!r}"):
            if existing(lambda: self.client.compute.get(GPU)):
                return name
        if not self._told:
            self.say(f"note: training runs on {self.settings.cpu.name}: MLOPS_AZURE_GPU_CLUSTER is not set")
            self._told = True
        return CPU

    def compute(self, name: str) -> str:
        """Make sure that a compute target exists; return its name in the workspace."""
        bare = name.removeprefix("azureml:")
        if bare in self._computes or bare == _SERVERLESS or bare.startswith("/"):
            return bare
        clusters = {CPU: self.settings.cpu, GPU: self.settings.gpu}
        clusters |= {cluster.name: cluster for cluster in (self.settings.cpu, self.settings.gpu)}
        if bare in clusters:
            bare = clusters[bare].name
            if bare not in self._computes:
                ensure_compute(self.client, clusters[bare], self.say)
        else:
            require_compute(self.client, bare)
        self._computes.add(bare)
        return bare

    def choose_compute(self, job: Any, compute: str | None = None) -> None:
        """Set the cluster of a job to the requested one or, for a job that names none, to that of the settings."""
        settings = getattr(job, "settings", None) if job.type == "pipeline" else None
        if settings is None:
            serverless = job.type in ("automl", "spark") and _own(job, "resources") is not None  # the SDK refuses both
            if not serverless and (compute or not job.compute):
                job.compute = self.compute(compute or self.settings.cpu.name)
        elif compute or not (settings.default_compute or job.compute):
            settings.default_compute = self.compute(compute or self.settings.cpu.name)

    def environment(self, definition: Path) -> str:
        """Make sure that the environment of the steps exists; return its ``NAME:VERSION``.

        It is created from the given file, or else from that in the project of the definition or in the working directory.

        Raises:
            PipelineError: no such file exists, or it cannot be used.
            AzureError: the service refuses.
        """
        if not self._environment:
            folders = (project_root(definition), Path.cwd())
            places = [self.environment_file] if self.environment_file else [up / ENVIRONMENT_FILE for up in folders]
            file = next((place for place in places if place.is_file()), None)
            if file is None:
                raise PipelineError(
                    f"the environment cannot be created: {' and '.join(map(str, places))} not found",
                    "give the YAML file of an environment, or name an existing one in the definition (azureml:NAME:VERSION)",
                )
            made = register(self.client, self.settings.environment, read_source(file))
            if made.new:
                self.say(f"created environment {made.reference}")
            self._environment = made.reference
        return self._environment

    def _upload(self, content: dict[str, Any], base: Path) -> None:
        """Upload local inputs, and replace their paths by the data assets."""
        parts = [content, *(step for step in (content.get("jobs") or {}).values() if isinstance(step, dict))]
        for item in (item for part in parts for item in (part.get("inputs") or {}).values()):
            path = item.get("path") if isinstance(item, dict) else None
            type_ = item.get("type", "uri_folder") if isinstance(item, dict) else ""
            if (
                isinstance(path, str)
                and type_ in _UPLOADED
                and not path.lower().startswith(_REMOTE)
                and "${{" not in path
            ):
                reference = ensure_data(self.client, self.settings, base / path, type_, self.say)
                item["path"] = f"azureml:{reference}"


def give_code(job: Any, folders: Mapping[str, Path]) -> None:
    """Give steps of a job code that their definitions do not name.

    Args:
        job: Entity of the SDK.
        folders: By step; names within nested pipelines are joined by ``/``, and a job without steps has one entry.
    """
    for name, folder in folders.items():
        step = job
        for part in name.split("/") if _steps(job) else ():
            step = _steps(step)[part]
        for run in _runs(step):
            run.code = str(folder)


def _steps(entity: Any) -> dict[str, Any]:
    """Return the steps of a pipeline, or of the component that it runs."""
    return _own(entity, "jobs") or _own(_own(entity, "component"), "jobs") or {}


def local_code(entity: Any) -> Iterator[Path]:
    """Yield the local code folders and files of a job or component."""
    for run in _runs(entity):
        code = _own(run, "code")
        if isinstance(code, str) and not code.lower().startswith((*_REMOTE, "git+")):
            yield Path(run.base_path or ".", code)


def _is_ours(reference: str) -> bool:
    """Return whether a reference names the newest version of the environment that this repository describes."""
    return reference.removeprefix("azureml:") in (f"{ENVIRONMENT}@latest", ENVIRONMENT)


def _parts(entity: Any) -> Iterator[Any]:
    """Yield a job, component or step, after everything below it."""
    inner = [*(_own(entity, "jobs") or {}).values(), *(_own(entity, name) for name in ("component", "trial", "task"))]
    for part in inner:
        if part is not None and not isinstance(part, str):
            yield from _parts(part)
    yield entity


def _runs(entity: Any) -> Iterator[Any]:
    """Yield everything in a job, component or step that has an environment: commands, tasks, trials."""
    return (part for part in _parts(entity) if isinstance(_own(part, "environment"), str))


def _computes(entity: Any) -> Iterator[tuple[Any, str]]:
    """Yield everything in a job or component that names a compute target, with the attribute that does."""
    for part in _parts(entity):
        settings = _own(part, "settings")
        if settings is not None and _own(settings, "default_compute"):
            yield settings, "default_compute"
        if _own(part, "compute"):
            yield part, "compute"


def _own(entity: Any, name: str) -> Any:
    """Return an attribute if it really exists: the SDK's nodes invent any attribute that is read."""
    there = name in getattr(entity, "__dict__", {}) or hasattr(type(entity), name)
    return getattr(entity, name, None) if there else None


def _plain(value: Any) -> Any:
    """Convert the content of a definition to the types that YAML is written from."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
