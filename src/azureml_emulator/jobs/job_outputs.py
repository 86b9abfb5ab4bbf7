"""The outputs of a job: uploaded to the datastore, and registered if the job requests it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from azureml_emulator.resources.datastore_addresses import datastore_path, long_uri
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError

MODELS = {"custom_model": "CustomModel", "mlflow_model": "MLFlowModel", "triton_model": "TritonModel"}


@dataclass(frozen=True)
class ProducedOutput:
    """One output in the storage account."""

    uri: str
    type: str
    asset: str


def produce(
    subscription: Subscription, job: RestResource, run: str, name: str, source: Path, wanted: Json, declared: str
) -> ProducedOutput:
    """Upload one output.

    Args:
        subscription: Keeps it.
        job: The job.
        run: The run, the job itself or a step, that made it.
        name: Name of the output.
        source: The file or folder.
        wanted: Requests of the job for it: address, asset name and version.
        declared: Its declared type, or nothing.
    """
    type_ = str(wanted.get("jobOutputType") or declared or ("uri_file" if source.is_file() else "uri_folder"))
    workspace = job.id.rsplit("/jobs/", 1)[0]
    uri = str(wanted.get("uri") or "azureml://datastores/workspaceblobstore/paths/azureml/${{name}}/${{output_name}}/")
    for expression, value in (("name", run), ("output_name", name), ("default_datastore", "workspaceblobstore")):
        uri = uri.replace("${{" + expression + "}}", value)
    store, path = datastore_path(uri)
    if source.is_file() and path.endswith("/"):
        path += source.name
    subscription.blobs.upload(source, subscription.container(store, workspace.rsplit("/", 1)[1]), path)
    address = long_uri(workspace, store, path)
    asset = f"azureml://locations/westeurope/workspaces/{workspace.rsplit('/', 1)[1]}/data/{run}_{name}/versions/1"
    if wanted.get("assetName"):
        asset = _register(subscription, job, type_, address, wanted)
    return ProducedOutput(address, type_, asset)


def _register(subscription: Subscription, job: RestResource, type_: str, uri: str, wanted: Json) -> str:
    workspace = job.id.rsplit("/jobs/", 1)[0]
    kind = "models" if type_ in MODELS else "data"
    name = str(wanted["assetName"])
    versions = subscription.store.children(f"{workspace}/{kind}/{name}/versions")
    number = max((int(item.name) for item in versions if item.name.isdigit()), default=0) + 1
    path = f"{workspace}/{kind}/{name}/versions/{wanted.get('assetVersion') or number}"
    if subscription.store.find(path) is not None:
        raise ServiceRefusalError(
            409, "UserError", f"the output cannot be registered: {path.rsplit('/', 4)[1:]} already exists"
        )
    own = {"modelUri": uri, "modelType": type_} if kind == "models" else {"dataUri": uri, "dataType": type_}
    common = {"jobName": job.name, "isArchived": False, "isAnonymous": False, "tags": {}, "properties": {}}
    subscription.store.put(
        path, {"properties": {**own, **common, "flavors": {}} if kind == "models" else {**own, **common}}
    )
    return path
