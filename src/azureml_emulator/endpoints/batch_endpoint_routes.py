"""Batch endpoints: invoking one starts a job."""

from __future__ import annotations

import uuid

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.endpoints.endpoint_routes import EndpointRoutes
from azureml_emulator.endpoints.managed_limits import check_name
from azureml_emulator.jobs.emulated_jobs import EmulatedJobs
from azureml_emulator.resources.arm_paths import WORKSPACE
from azureml_emulator.resources.asset_references import resolve
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, malformed, missing, reply, route

_TYPES = {
    "UriFolder": "uri_folder", "UriFile": "uri_file", "MLTable": "mltable", "CustomModel": "custom_model",
    "MLFlowModel": "mlflow_model", "TritonModel": "triton_model", "Literal": "literal",
}  # fmt: skip
_INVOKE = "Microsoft.MachineLearningServices/workspaces/batchEndpoints/jobs/write"
_ENDPOINT = "/mferp/managementfrontend" + WORKSPACE + "/batchEndpoints/{endpoint}"


class BatchEndpointRoutes(EndpointRoutes):
    """The calls about batch endpoints."""

    kind = "batchEndpoints"
    modes = ("AADToken",)

    def __init__(self, subscription: Subscription, jobs: EmulatedJobs) -> None:
        super().__init__(subscription)
        self._jobs = jobs

    def further_routes(self, base: str) -> list[Route]:
        """Return the paths for invocation, and for the jobs that it started."""
        before = self._subscription.require_workspace
        jobs = "/batch/{workspace}/{endpoint}/jobs"
        return [
            route(jobs, POST=self._invoke),
            route(_ENDPOINT + "/jobs", before, GET=self._list_jobs),
            route(_ENDPOINT + "/deployments/{deployment}/jobs", before, GET=self._list_jobs),
        ]

    def complete_endpoint(self, made: RestResource, kept: Json) -> None:
        """Check the name of the endpoint, and that the default deployment exists."""
        if not kept:
            check_name("endpoint", made.name)
        default = (made.properties.get("defaults") or {}).get("deploymentName")
        if default and default not in {item.name for item in self.deployments(made)}:
            raise malformed(f"the default deployment {default!r} does not exist")
        workspace = made.id.split("/workspaces/")[1].split("/")[0]
        made.properties["defaults"] = {"deploymentName": default} if default else {}
        base = self._subscription.addresses.batch(workspace, made.name)
        made.properties["scoringUri"] = f"{base}/jobs"
        made.properties["swaggerUri"] = f"{base}/swagger.json"

    def complete_deployment(self, made: RestResource) -> None:
        """Check that the deployment runs a model or a component."""
        if not made.properties.get("model") and not _component_id(made):
            raise malformed("a batch deployment needs a model or a component")

    def check_delete(self, deployment: RestResource, endpoint: RestResource) -> None:
        """Refuse to delete the default deployment."""
        if (endpoint.properties.get("defaults") or {}).get("deploymentName") == deployment.name:
            raise malformed(f"{deployment.name!r} is the default deployment; choose another one first")

    def bring_up(self, deployment: RestResource) -> None:
        """Do nothing: nothing runs before the endpoint is invoked."""

    def take_down(self, path: str) -> None:
        """Do nothing: only jobs run, and they continue."""

    def _invoke(self, call: RestCall) -> Response:
        workspace = self._subscription.path(call.names["workspace"])
        endpoint = self._find(f"{workspace}/{self.kind}/{call.names['endpoint']}")
        self._subscription.roles.require(call.claims, _INVOKE, endpoint.id)
        default = (endpoint.properties.get("defaults") or {}).get("deploymentName", "")
        name = call.headers.get("azureml-model-deployment") or default
        if not name:
            raise missing(f"a default deployment of the endpoint {endpoint.name!r}")
        deployment = self._find(f"{endpoint.id}/deployments/{name}")
        asked = call.properties
        component_id = _component_id(deployment)
        inputs = {key: _port(value) for key, value in (asked.get("inputData") or {}).items()}
        properties = (
            self._pipeline(component_id, deployment, inputs, asked) if component_id else self._model(deployment, inputs)
        )
        marks = {"azureml.endpointname": endpoint.name, "azureml.deploymentname": deployment.name}
        kind = {"azureml.jobtype": "azureml.pipelinejob"} if component_id else {}
        properties["tags"] = {"azureml.batchrun": "true", **kind, **(asked.get("tags") or {})}
        properties["properties"] = marks
        properties["experimentName"] = (asked.get("properties") or {}).get("experimentName") or endpoint.name
        job = self._jobs.submit(workspace, asked.get("name") or f"batchjob-{uuid.uuid4()}", {"properties": properties})
        return reply(_batch_job(self._jobs.describe(job)), 201)

    def _pipeline(self, component_id: str, deployment: RestResource, inputs: Json, asked: Json) -> Json:
        """Return a job that runs the deployed component with the given inputs."""
        resource = resolve(self._subscription, component_id)
        spec = resource.properties["componentSpec"]
        declared: Json = spec.get("inputs") or {}
        if set(inputs) & {"UriFolder", "UriFile"}:  # one unnamed input refers to the only data input
            data = [name for name, port in declared.items() if port["type"] in _TYPES.values()]
            if len(data) != 1:
                raise malformed(f"the input needs a name: one of {', '.join(declared)}")
            inputs = {data[0]: next(iter(inputs.values()))}
        unknown = set(inputs) - set(declared)
        lacking = [
            name
            for name, port in declared.items()
            if name not in inputs and not port.get("optional") and port.get("default") is None
        ]
        if unknown or lacking:
            problem = f"does not know {', '.join(sorted(unknown))}" if unknown else f"needs {', '.join(lacking)}"
            raise malformed(f"the component {spec['name']!r} {problem}")
        configuration = deployment.properties["deploymentConfiguration"]
        defaults = {
            name: {"jobInputType": "literal", "value": str(port["default"])}
            for name, port in declared.items()
            if port.get("default") is not None
        }
        filled = {**defaults, **inputs}
        return {
            "jobType": "Pipeline",
            "componentId": resource.id,
            "jobs": {name: _without(node, set(declared) - set(filled)) for name, node in spec["jobs"].items()},
            "inputs": filled,
            "outputs": {
                **{name: {"jobOutputType": port["type"]} for name, port in (spec.get("outputs") or {}).items()},
                **{name: _port(port) for name, port in (asked.get("outputData") or {}).items()},
            },
            "settings": dict(configuration.get("settings") or {}),
        }

    def _model(self, deployment: RestResource, inputs: Json) -> Json:
        """Return a job with one parallel step that runs the scoring script on the input."""
        properties = deployment.properties
        if len(inputs) != 1:
            raise malformed("a model deployment takes exactly one input")
        code = properties.get("codeConfiguration") or {}
        if not code.get("scoringScript"):
            raise malformed(f"the deployment {deployment.name!r} has no scoring script that could run here")
        retry = properties.get("retrySettings") or {}
        task = {
            "type": "run_function",
            "code": code["codeId"],
            "entry_script": code["scoringScript"],
            "environment": properties["environmentId"],
            "append_row_to": "${{outputs.score}}",
        }
        data = next(iter(inputs.values()))
        spec: Json = {
            "name": f"{deployment.name}_scoring",
            "type": "parallel",
            "inputs": {"job_data": {"type": data["jobInputType"]}},
            "outputs": {"score": {"type": "uri_file"}},
            "input_data": "${{inputs.job_data}}",
            "mini_batch_size": str(properties.get("miniBatchSize") or 10),
            "max_concurrency_per_instance": properties.get("maxConcurrencyPerInstance") or 1,
            "error_threshold": properties.get("errorThreshold", -1),
            "retry_settings": {"max_retries": retry.get("maxRetries", 3)},
            "task": task,
        }
        workspace = deployment.id.split("/batchEndpoints/")[0]
        path = f"{workspace}/components/azureml_anonymous/versions/{uuid.uuid4()}"
        self._subscription.store.put(
            path, {"properties": {"componentSpec": spec, "isAnonymous": True, "isArchived": False}}
        )
        model = properties["model"]
        step: Json = {
            "type": "parallel",
            "componentId": path,
            "inputs": {"job_data": {"job_input_type": "literal", "value": "${{parent.inputs.job_data}}"}},
            "outputs": {"score": {"type": "literal", "value": "${{parent.outputs.score}}"}},
            "environment_variables": dict(properties.get("environmentVariables") or {}),
            "model_id": model if isinstance(model, str) else model["assetId"],
        }
        return {
            "jobType": "Pipeline",
            "jobs": {"batchscoring": step},
            "inputs": {"job_data": data},
            "outputs": {"score": {"jobOutputType": "uri_file"}},
            "settings": {"default_compute": properties.get("compute")},
        }

    def _list_jobs(self, call: RestCall) -> Response:
        workspace = call.path.removeprefix("/mferp/managementfrontend").split("/batchEndpoints/")[0]
        wanted = {"azureml.endpointname": call.names["endpoint"]}
        if call.names.get("deployment", "None") != "None":  # what the SDK sends if it has no name
            wanted["azureml.deploymentname"] = call.names["deployment"]
        found = [
            self._jobs.describe(job)
            for job in self._jobs.all(workspace)
            if wanted.items() <= job.resource.properties["properties"].items()
        ]
        return reply({"value": [_batch_job(item) for item in found]})


def _component_id(deployment: RestResource) -> str:
    configuration = deployment.properties.get("deploymentConfiguration") or {}
    component = configuration.get("componentId") or ""
    return str(component if isinstance(component, str) else component.get("assetId") or "")


def _without(node: Json, absent: set[str]) -> Json:
    """Return a step without the inputs that are bound to optional inputs that nobody has given."""
    bound = {f"${{{{parent.inputs.{name}}}}}" for name in absent}
    kept = {name: port for name, port in (node.get("inputs") or {}).items() if port.get("value") not in bound}
    return {**node, "inputs": kept}


def _port(given: Json) -> Json:
    """Return an input or output of an invocation in the form of a job."""
    found = dict(given)
    for key in ("jobInputType", "jobOutputType"):
        if key in found:
            found[key] = _TYPES.get(found[key], found[key])
    if found.get("jobInputType") == "literal":
        found["value"] = str(found.get("value"))
    return found


def _batch_job(job: Json) -> Json:
    return {**job, "type": "Microsoft.MachineLearningServices/workspaces/batchEndpoints/jobs"}
