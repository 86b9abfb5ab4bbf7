"""What a job made: uploaded to the datastore, and registered where the job asks for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testing.fakes.calls import Json, RefusalError

if TYPE_CHECKING:
    from testing.fakes.cloud import Cloud
    from testing.fakes.store import Resource

_DATASTORE = re.compile(r"azureml://(?:subscriptions/.+/)?datastores/([^/]+)/paths/(.*)")
_JOB = re.compile(r"azureml://jobs/([^/]+)/outputs/([^/]+)(?:/paths/(.*))?")
_RUN = re.compile(r"runs:/([^/]+)/(.*)")
ARTIFACTS = "workspaceartifactstore"
MODELS = {"custom_model": "CustomModel", "mlflow_model": "MLFlowModel", "triton_model": "TritonModel"}


@dataclass(frozen=True)
class Produced:
    """One output in the storage account."""

    uri: str
    type: str
    asset: str


def datastore_path(uri: str) -> tuple[str, str]:
    """Datastore and path of an address such as ``azureml://datastores/NAME/paths/PATH``.

    Raises:
        RefusalError: 400, it is none.
    """
    found = _DATASTORE.fullmatch(uri)
    if found is None:
        raise RefusalError(400, "UserError", f"{uri!r} is no address in a datastore")
    return found[1], found[2]


def artifacts(run: str) -> str:
    """Folder of a run's logs and artifacts in the artifact store."""
    return f"ExperimentRun/dcid.{run}"


def located(cloud: Cloud, workspace: str, uri: str) -> str:
    """Address in a datastore of what may be named as an output of a job, or an artifact of a run; others stay.

    Raises:
        RefusalError: 404, there is no such job or output.
    """
    if found := _RUN.fullmatch(uri):
        return long_uri(workspace, ARTIFACTS, f"{artifacts(found[1])}/{found[2]}")
    found = _JOB.fullmatch(uri)
    if found is None:
        return uri
    job, output, path = found[1], found[2], found[3] or ""
    if output in ("artifacts", "default"):
        return long_uri(workspace, ARTIFACTS, f"{artifacts(job)}/{path}")
    child = cloud.jobs.step(workspace, job)
    produced = child[0].steps.get(child[1], {}) if child else cloud.jobs.get(workspace, job).produced
    if output not in produced:
        raise RefusalError(404, "UserError", f"the job {job!r} has no output {output!r}")
    return produced[output].uri.rstrip("/") + (f"/{path}" if path else "")


def long_uri(workspace: str, store: str, path: str) -> str:
    """Address with the workspace in it, as the service answers it."""
    scope = workspace.lstrip("/").replace("/providers/Microsoft.MachineLearningServices", "")
    return f"azureml://{scope.replace('/resourceGroups/', '/resourcegroups/')}/datastores/{store}/paths/{path}"


def produce(cloud: Cloud, job: Resource, run: str, name: str, source: Path, wanted: Json, declared: str) -> Produced:
    """Upload one output.

    Args:
        cloud: Keeps it.
        job: The job.
        run: The run, the job itself or a step, that made it.
        name: Name of the output.
        source: The file or folder.
        wanted: What the job says about it: address, asset name and version.
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
    cloud.blobs.upload(source, cloud.container(store, workspace.rsplit("/", 1)[1]), path)
    address = long_uri(workspace, store, path)
    asset = f"azureml://locations/westeurope/workspaces/{workspace.rsplit('/', 1)[1]}/data/{run}_{name}/versions/1"
    if wanted.get("assetName"):
        asset = _register(cloud, job, type_, address, wanted)
    return Produced(address, type_, asset)


def _register(cloud: Cloud, job: Resource, type_: str, uri: str, wanted: Json) -> str:
    workspace = job.id.rsplit("/jobs/", 1)[0]
    kind = "models" if type_ in MODELS else "data"
    name = str(wanted["assetName"])
    versions = cloud.store.children(f"{workspace}/{kind}/{name}/versions")
    number = max((int(item.name) for item in versions if item.name.isdigit()), default=0) + 1
    path = f"{workspace}/{kind}/{name}/versions/{wanted.get('assetVersion') or number}"
    if cloud.store.find(path) is not None:
        raise RefusalError(
            409, "UserError", f"the output cannot be registered: {path.rsplit('/', 4)[1:]} exists already"
        )
    own = {"modelUri": uri, "modelType": type_} if kind == "models" else {"dataUri": uri, "dataType": type_}
    common = {"jobName": job.name, "isArchived": False, "isAnonymous": False, "tags": {}, "properties": {}}
    cloud.store.put(path, {"properties": {**own, **common, "flavors": {}} if kind == "models" else {**own, **common}})
    return path
