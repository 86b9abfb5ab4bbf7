"""What the targets on Azure ML share: workspace, shipped definitions, tags, states, and models that must exist."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import vision_mlops
from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import ml_client, quiet
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import DeploymentError, RegistryError
from vision_mlops.core.yaml_text import write_yaml
from vision_mlops.endpoints.contract import DeploymentRequest, EndpointStatus, Say
from vision_mlops.jobs.azureml.azure_records import text_of
from vision_mlops.registry import ModelVersion
from vision_mlops.registry.azureml.azureml_registry import AzureRegistry
from vision_mlops.registry.model_versions import HASH_TAG, preferred
from vision_mlops.registry.registry_transfer import transfer

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


DEFINITIONS = Path(__file__).parent / "definitions"
TARGET_TAG = "mlops.target"
"""Tag of everything that this package created: the name of the target."""
MODEL_TAG = "mlops.model"
VERSION_TAG = "mlops.version"
BUNDLE_TAG = "mlops.bundle"
DEFINITION_TAG = "mlops.definition"
"""Tag of a deployment: hash of everything that it was made of."""
PROBLEM_TAG = "mlops.problem."
"""Tag of an endpoint, with the name of a deployment: why its last change failed, which the service does not keep."""
TAG_LENGTH = 256
_CHANGING = ("Creating", "Updating", "Deleting", "Scaling")
_MODEL_ID = re.compile(r"/models/([^/]+)/versions/([^/]+)")


ENTRY_SCRIPT = "score.py"
_SCRIPT = '''\
"""Finds the package in the same folder, and is its entry script."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from vision_mlops.serving.score import init, run  # noqa: E402, F401
'''


class Workspace:
    """The workspace of the Azure settings; nothing is read or sent before it is used."""

    @cached_property
    def settings(self) -> AzureSettings:
        """The settings. Raises ConfigError."""
        return AzureSettings.load()

    @cached_property
    def client(self) -> MLClient:
        """A client of the workspace. Raises MissingExtraError, AzureError."""
        return ml_client(self.settings)


def definition(name: str) -> dict[str, Any]:
    """Return the content of a shipped definition, to be completed."""
    content: dict[str, Any] = yaml.safe_load((DEFINITIONS / f"{name}.yml").read_text(encoding="utf-8"))
    return content


def load(loader: Callable[..., Any], name: str, content: Mapping[str, Any]) -> Any:
    """Return the SDK's entity of a completed definition. Raises AzureError if the SDK does not accept it."""
    with azure_errors(f"definition {name}.yml"), quiet():
        text = io.StringIO(write_yaml(dict(content)))
        return loader(text, relative_origin=str(DEFINITIONS / f"{name}.yml"))


def state_of(entity: Any) -> EndpointStatus:
    """Return the state of the SDK's endpoint or deployment. Online and batch endpoints use the same words."""
    word = text_of(getattr(entity, "provisioning_state", "")).capitalize()
    if word in _CHANGING:
        return EndpointStatus.CHANGING
    return EndpointStatus.READY if word in ("Succeeded", "") else EndpointStatus.FAILED


def ours(entity: Any, target: str) -> bool:
    """Return whether this package created an endpoint on a target."""
    return (entity.tags or {}).get(TARGET_TAG) == target


def require_ours(entity: Any, target: str) -> None:
    """Refuse to touch what someone else created. Raises DeploymentError."""
    if ours(entity, target):
        return
    made = (entity.tags or {}).get(TARGET_TAG)
    if made:
        raise DeploymentError(f"endpoint {entity.name!r} is on {made}, not on {target}", f"use --on {made}")
    raise DeploymentError(
        f"endpoint {entity.name!r} was not created by mlops",
        "choose another name with --endpoint, or delete it yourself",
    )


def deployment_tags(request: DeploymentRequest, target: str, content: Mapping[str, Any], *more: str) -> dict[str, str]:
    """Return tags for a deployment; one is a hash of its definition and of what that refers to."""
    made_of = json.dumps([content, more], sort_keys=True, default=str)
    return {
        TARGET_TAG: target,
        MODEL_TAG: request.model.name,
        VERSION_TAG: str(request.model.version),
        BUNDLE_TAG: request.model.bundle_id[:TAG_LENGTH],
        DEFINITION_TAG: hashlib.sha256(made_of.encode()).hexdigest()[:32],
    }


def workspace_model(workspace: Workspace, request: DeploymentRequest, say: Say) -> tuple[str, str, str]:
    """Return the reference of a deployment to the model asset of a version, with its name and version in Azure ML.

    A version in the workspace, or in a registry of Azure ML, is used directly. A version in another place is looked up in
    the workspace by the digest of its bundle. If it is missing, it is registered there, as `mlops models transfer` does.

    Raises:
        RegistryError: it no longer exists, or cannot be registered.
    """
    model, registry = request.model, request.registry
    here = AzureRegistry(lambda: workspace.client, f"workspace {workspace.settings.workspace_name}")
    if isinstance(registry, AzureRegistry):
        if registry.place == here.place:
            return f"azureml:{model.name}:{model.version}", model.name, str(model.version)
        if registry.place.startswith("registry "):
            shared = registry.place.removeprefix("registry ")
            address = f"azureml://registries/{shared}/models/{model.name}/versions/{model.version}"
            return address, model.name, str(model.version)
    found = _same(here, model)
    if found is None:
        say(f"registering {model.reference} in workspace {workspace.settings.workspace_name}")
        found = transfer(registry, model.reference, here)
    if found.version != model.version:
        say(f"{model.reference} is {found.reference} in workspace {workspace.settings.workspace_name}")
    return f"azureml:{found.name}:{found.version}", found.name, str(found.version)


def _same(registry: AzureRegistry, model: ModelVersion) -> ModelVersion | None:
    digest = model.tags.get(HASH_TAG)
    if model.name not in registry.models():
        return None
    same = [item for item in registry.versions(model.name) if digest and item.tags.get(HASH_TAG) == digest]
    if not same and not digest:
        raise RegistryError(f"{model.reference} has no digest", f"mlops models transfer {model.reference} --to azure")
    return preferred(same)


def model_of(entity: Any) -> tuple[str, str]:
    """Return name and version of the model of a deployment, from its tags, else from the id of the model, else empty."""
    model, tags = getattr(entity, "model", None), entity.tags or {}
    found = _MODEL_ID.search(str(getattr(model, "id", None) or model or ""))
    name, version = (found[1], found[2]) if found else ("", "")
    return str(tags.get(MODEL_TAG, name)), str(tags.get(VERSION_TAG, version))


@contextmanager
def package_code() -> Iterator[Path]:
    """Yield a folder with only the package and :data:`ENTRY_SCRIPT`, which is removed at the end."""
    package = Path(vision_mlops.__file__).parent
    with tempfile.TemporaryDirectory(prefix="mlops-") as temporary:
        folder = Path(temporary) / "code"
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        (folder / ENTRY_SCRIPT).write_text(_SCRIPT, encoding="utf-8")
        yield folder
