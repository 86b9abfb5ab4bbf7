"""Requirements for the body of a resource of Azure ML, and the types of its fields, as the specification declares them."""

from __future__ import annotations

from collections.abc import Mapping

from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError, malformed

Fields = Mapping[str, type]
_TEXTS = {"displayName": str, "description": str, "experimentName": str, "computeId": str}
_OBJECTS = {"tags": dict, "properties": dict}
# By the kinds in the path: required fields, and optional fields.
_REQUIRED: dict[str, Fields] = {
    "jobs": {"jobType": str},
    "schedules": {"action": dict, "trigger": dict},
    "datastores": {"datastoreType": str},
    "computes": {"computeType": str},
    "onlineEndpoints": {"authMode": str},
    "batchEndpoints": {"authMode": str},
    "onlineEndpoints/deployments": {"endpointComputeType": str},
    "batchEndpoints/deployments": {},
    "data/versions": {"dataType": str, "dataUri": str},
    "models/versions": {},
    "codes/versions": {},
    "environments/versions": {},
    "components/versions": {"componentSpec": dict},
}
_OPTIONAL: dict[str, Fields] = {
    "jobs": {**_TEXTS, "inputs": dict, "outputs": dict, "jobs": dict, "isArchived": bool},
    "schedules": {**_TEXTS, "isEnabled": bool},
    "computes": {"properties": dict, "description": str, "computeLocation": str},
    "onlineEndpoints": {"traffic": dict, "mirrorTraffic": dict, "compute": str, "description": str},
    "batchEndpoints": {"defaults": dict, "description": str},
    "onlineEndpoints/deployments": {
        "instanceType": str, "environmentId": str, "environmentVariables": dict, "codeConfiguration": dict, "model": str,
        "requestSettings": dict, "livenessProbe": dict, "readinessProbe": dict, "description": str,
    },
    "batchEndpoints/deployments": {
        "compute": str, "environmentId": str, "environmentVariables": dict, "codeConfiguration": dict, "model": dict,
        "miniBatchSize": int, "maxConcurrencyPerInstance": int, "errorThreshold": int, "description": str,
    },
    "data/versions": {"description": str, "isArchived": bool},
    "models/versions": {"modelUri": str, "modelType": str, "flavors": dict, "description": str, "isArchived": bool},
    "codes/versions": {"codeUri": str},
    "environments/versions": {"image": str, "condaFile": str, "build": dict, "osType": str, "description": str},
    "components/versions": {"description": str, "isArchived": bool},
}  # fmt: skip
_OF_JOBS: dict[str, Fields] = {
    "Command": {"command": str, "environmentId": str},
    "Sweep": {"objective": dict, "samplingAlgorithm": dict, "searchSpace": dict, "trial": dict},
}
_OF_COMMANDS: Fields = {
    "codeId": str, "environmentVariables": dict, "distribution": dict, "resources": dict, "limits": dict,
}  # fmt: skip
_LOCATED = ("onlineEndpoints", "batchEndpoints", "onlineEndpoints/deployments", "batchEndpoints/deployments")
_WORDS = {str: "text", dict: "an object", bool: "true or false", int: "a whole number"}


def check_written(path: str, body: Json) -> None:
    """Refuse the body of a resource if a field is missing or has another type.

    Args:
        path: Path of the resource.
        body: Body to be written.

    Raises:
        ServiceRefusalError: 400.
    """
    kinds = path.rpartition("/Microsoft.MachineLearningServices/")[2].split("/")[2::2]
    kind = "/".join(kinds)
    if kind not in _REQUIRED:
        return
    if kind in _LOCATED and not isinstance(body.get("location"), str):
        raise ServiceRefusalError(400, "LocationRequired", "The location property is required for this definition.")
    properties = body.get("properties")
    if not isinstance(properties, dict):
        raise malformed("the request body has no properties")
    _check(properties, _REQUIRED[kind], {**_OPTIONAL.get(kind, {}), **_OBJECTS})
    if kind == "jobs":
        word = str(properties["jobType"])
        _check(properties, _OF_JOBS.get(word, {}), _OF_COMMANDS if word == "Command" else {})
        if word == "Sweep":
            _check(properties["trial"], _OF_JOBS["Command"], _OF_COMMANDS, "trial.")


def _check(found: Json, required: Fields, optional: Fields, before: str = "") -> None:
    for name in required:
        if found.get(name) in (None, ""):
            raise malformed(f"The field {before}{name} is required.")
    for name, kind in {**optional, **required}.items():
        value = found.get(name)
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise malformed(f"The field {before}{name} must be {_WORDS[kind]}, not {value!r}.")
