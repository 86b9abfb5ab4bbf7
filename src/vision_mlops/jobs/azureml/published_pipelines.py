"""Publishes pipelines: a pipeline component behind a batch endpoint, which starts a job with each call."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import check_workspace, ml_client, quiet
from vision_mlops.azure.made_tags import made_tags
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core import typed_text
from vision_mlops.core.errors import AzureError, PipelineError
from vision_mlops.core.text import nearest
from vision_mlops.jobs.azureml.azure_jobs import checked_name, new_name, require_new, stream, told_on_interrupt
from vision_mlops.jobs.azureml.azure_records import EndpointRecord, JobRecord, job_record, text_of
from vision_mlops.jobs.azureml.job_resources import Say, content_hash, existing
from vision_mlops.jobs.azureml.submission import Preparation, checked, local_code
from vision_mlops.jobs.definitions.models.ports import VALUE_TYPES

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

DEPLOYMENT = "default"
_COMPONENT_TAG = "mlops.component"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]")
_VERSION_LENGTH = 12


def publish(
    component_file: Path,
    endpoint: str,
    deployment: str,
    settings: AzureSettings,
    *,
    compute: str | None = None,
    environment_file: Path | None = None,
    client: MLClient | None = None,
    say: Say = lambda text: None,
    before: Callable[[], None] = lambda: None,
    workload: str = "",
) -> EndpointRecord:
    """Register a pipeline component, deploy it to a batch endpoint, and make it the default deployment.

    Publishing the same component again changes nothing.

    Args:
        component_file: Azure ML v2 YAML of a pipeline component.
        endpoint: Batch endpoint; created if it is new. Its name is unique within an Azure region.
        deployment: Its deployment; created if it is new, else changed to the component.
        settings: The workspace.
        compute: Cluster that the steps run on: a name, ``cpu-cluster`` (the default) or ``gpu-cluster``.
        environment_file: YAML of the environment; ``environments/train.yml`` of the project if not given.
        client: Client to use instead of a new one.
        say: Told what is created or changed.
        before: Called after the definition was found to be correct, before anything is sent.
        workload: The workload that it belongs to, for `mlops down`; empty for none.

    Returns:
        The endpoint; ``changed`` says whether anything was changed.

    Raises:
        PipelineError: the definition has errors; nothing was sent.
        AzureError: a name is not valid, or the service refuses.
    """
    definition = checked(component_file, (), ("pipelineComponent",))
    for name in (endpoint, deployment):
        if not _NAME.fullmatch(name):
            hint = "use 3 to 32 letters, digits and '-', starting with a letter"
            raise AzureError(f"{name!r} cannot be the name of an endpoint or deployment", hint)
    before()
    client = client or ml_client(settings)
    check_workspace(client, settings)
    from azure.ai.ml import load_component

    preparation = Preparation(client, settings, say, environment_file)
    entity = preparation.load(definition, load_component)
    cluster = preparation.compute(compute or settings.cpu.name)
    reference, new = _register(client, entity, say)
    changed = [new, _ensure_endpoint(client, endpoint, entity, workload, say)]
    changed.append(_deploy(client, endpoint, deployment, reference, cluster, say))
    changed.append(_make_default(client, endpoint, deployment, say))
    with azure_errors(f"endpoint {endpoint!r}"), quiet():
        url = str(client.batch_endpoints.get(endpoint).scoring_uri or "")
    return EndpointRecord(endpoint, deployment, reference, url, any(changed))


def trigger(
    endpoint: str,
    inputs: Mapping[str, str],
    tags: Mapping[str, str],
    settings: AzureSettings,
    *,
    wait: bool = False,
    deployment: str | None = None,
    name: str | None = None,
    client: MLClient | None = None,
    on_line: Say = lambda text: None,
    poll_seconds: tuple[float, float] = (2.0, 20.0),
) -> JobRecord:
    """Start the job behind an endpoint.

    Args:
        endpoint: Batch endpoint that :func:`publish` created.
        inputs: Values by input, as text; data is a local path, ``azureml:NAME:VERSION`` or the address of a datastore.
        tags: Tags of the job, such as what triggered it.
        settings: The workspace.
        wait: Follow the job until it ends.
        deployment: A deployment other than the default.
        name: Name of the job; generated if not given.
        client: Client to use instead of a new one.
        on_line: Called with the lines of the job, with ``wait``, and with what Ctrl-C leaves.
        poll_seconds: As of :func:`vision_mlops.jobs.azureml.azure_jobs.stream`.

    Returns:
        The job: as it was accepted, or as it ended.

    Raises:
        AzureError: the endpoint, deployment or an input does not exist, a value has the wrong type, or the service refuses.
    """
    chosen_name = checked_name(name) if name else new_name(endpoint)
    client = client or ml_client(settings)
    if name:
        require_new(client, name)
    with azure_errors(f"endpoint {endpoint!r}", "mlops pipeline publish --help"), quiet():
        found = client.batch_endpoints.get(endpoint)
    chosen = deployment or getattr(found.defaults, "deployment_name", None)
    if not chosen:
        raise AzureError(f"endpoint {endpoint!r} has no default deployment", "publish a pipeline to it, or name one")
    given = _inputs(_declared(client, endpoint, str(chosen)), inputs)
    # The name is chosen here so that a repeated request does not start a second job. The deployment is always named: the
    # SDK keeps the name of one call in a header and sends it with the next one that names none.
    with told_on_interrupt(chosen_name, on_line, sent=False), azure_errors(f"endpoint {endpoint!r}"), quiet():
        started = client.batch_endpoints.invoke(
            endpoint_name=endpoint, deployment_name=str(chosen), inputs=given or None, job_name=chosen_name
        )
        if tags:
            client.jobs.update(str(started.name), tags=dict(tags))
        job = job_record(client.jobs.get(str(started.name)))
    if not wait:
        return job
    return stream(client, job.name, on_line=on_line, poll_seconds=poll_seconds)


def _register(client: MLClient, entity: Any, say: Say) -> tuple[str, bool]:
    """Register a component under a version that is a hash of its content; return its reference and whether it is new."""
    codes = [content_hash(path) for path in local_code(entity)]
    content = _without_code(entity._to_dict())
    content.pop("version", None)
    text = json.dumps([content, codes], sort_keys=True, default=str)
    version = hashlib.sha256(text.encode()).hexdigest()[:_VERSION_LENGTH]
    reference = f"{entity.name}:{version}"
    with azure_errors(f"component {reference}"):
        if existing(lambda: client.components.get(entity.name, version)):
            return reference, False
        with quiet():
            client.components.create_or_update(entity, version=version)
    say(f"registered component {reference}")
    return reference, True


def _ensure_endpoint(client: MLClient, name: str, component: Any, workload: str, say: Say) -> bool:
    with azure_errors(f"endpoint {name!r}"):
        if existing(lambda: client.batch_endpoints.get(name)):
            return False
        from azure.ai.ml.entities import BatchEndpoint

        say(f"creating endpoint {name}")
        with quiet():
            client.batch_endpoints.begin_create_or_update(
                BatchEndpoint(name=name, description=component.description, tags=made_tags(workload))
            ).result()
    return True


def _deploy(client: MLClient, endpoint: str, name: str, component: str, cluster: str, say: Say) -> bool:
    """Let a deployment run a component; return whether that was a change."""
    described = f"{component} on {cluster}"
    with azure_errors(f"deployment {name!r} of endpoint {endpoint!r}"):
        found = existing(lambda: client.batch_deployments.get(name, endpoint))
        state = text_of(getattr(found, "provisioning_state", ""))
        if found and (found.tags or {}).get(_COMPONENT_TAG) == described and state != "Failed":
            return False
        from azure.ai.ml.entities import PipelineComponentBatchDeployment

        say(f"deploying {described} as {name}")
        wanted = PipelineComponentBatchDeployment(
            name=name,
            endpoint_name=endpoint,
            component=f"azureml:{component}",
            settings=cast(Any, {"default_compute": cluster, "continue_on_step_failure": False}),
            # The SDK does not tell which component a deployment runs, so a tag does.
            tags={_COMPONENT_TAG: described},
        )
        with quiet():
            client.batch_deployments.begin_create_or_update(wanted).result()
    return True


def _make_default(client: MLClient, endpoint: str, deployment: str, say: Say) -> bool:
    with azure_errors(f"endpoint {endpoint!r}"):
        with quiet():
            found = client.batch_endpoints.get(endpoint)
        if getattr(found.defaults, "deployment_name", None) == deployment:
            return False
        found.defaults = {"deployment_name": deployment}
        with quiet():
            client.batch_endpoints.begin_create_or_update(found).result()
    say(f"{deployment} is the default deployment of {endpoint}")
    return True


def _declared(client: MLClient, endpoint: str, deployment: str) -> Mapping[str, Any] | None:
    """Return the inputs of the component behind a deployment; None if another tool created it, so they are unknown."""
    with azure_errors(f"deployment {deployment!r} of endpoint {endpoint!r}", "mlops pipeline publish --help"), quiet():
        tags = client.batch_deployments.get(deployment, endpoint).tags or {}
        name, _, version = str(tags.get(_COMPONENT_TAG, "")).partition(" ")[0].partition(":")
        return dict(client.components.get(name, version).inputs) if version else None


def _inputs(declared: Mapping[str, Any] | None, given: Mapping[str, str]) -> dict[str, Any]:
    """Create the SDK's inputs; values are converted to the types that the component declares."""
    from azure.ai.ml import Input

    result: dict[str, Any] = {}
    for name, text in given.items():
        if declared is None:
            type_ = _plain_type(text)
        elif name not in declared:
            raise AzureError(f"the pipeline has no input {name!r}", nearest(name, declared))
        else:
            type_ = str(declared[name].type)
        if type_ not in VALUE_TYPES:
            result[name] = Input(type=type_, path=_data(text))
            continue
        try:
            result[name] = Input(type=type_, default=cast(Any, typed_text.scalar(text, type_)))
        except ValueError as error:
            raise AzureError(
                f"input {name!r}: {text!r} is not of type {type_}", f"write {typed_text.wanted(type_)}"
            ) from error
    return result


def _plain_type(text: str) -> str:
    """Guess the type of a value without a declaration: a boolean or number has to be written as Azure ML writes it."""
    for type_ in ("boolean", "integer", "number"):
        with suppress(ValueError):
            if str(typed_text.scalar(text, type_)).lower() == text.lower():
                return type_
    return "string"


def _data(text: str) -> str:
    """Return an absolute path for a local one, anything else unchanged."""
    path = Path(text).expanduser()
    if "://" in text or text.lower().startswith("azureml:"):
        return text
    if not path.exists():
        raise PipelineError(
            f"data {text} does not exist", "give a path, azureml:NAME:VERSION or the address of a datastore"
        )
    return str(path.resolve())


def _without_code(value: Any) -> Any:
    """Return the content of a component without the paths of its code, which differ between machines."""
    if isinstance(value, dict):
        return {key: _without_code(item) for key, item in value.items() if key != "code"}
    return [_without_code(item) for item in value] if isinstance(value, list) else value
