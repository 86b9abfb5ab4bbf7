"""Translation of what the SDK sends back to Azure ML v2 YAML: a job as a folder that the local engine can run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from azureml_emulator.jobs.automl_translation import TRAINED, TRIAL, automl_job, trained_output
from azureml_emulator.jobs.project_folder import ProjectFolder, declaration, mode
from azureml_emulator.jobs.sweep_translation import early_termination, sampling, search_space, seconds
from azureml_emulator.resources.datastore_addresses import OutputAddresses
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, malformed

_SCHEMA = "https://azuremlschemas.azureedge.net/latest/{}.schema.json"
# What a step says about how its component runs, with the same keys as in YAML.
_STEP_KEYS = (
    "display_name", "environment_variables", "mini_batch_size", "max_concurrency_per_instance", "error_threshold",
    "mini_batch_error_threshold", "retry_settings", "logging_level",
)  # fmt: skip
_COMPONENT_KEYS = (
    "name", "display_name", "description", "tags", "is_deterministic", "command", "environment_variables", "resources",
    "limits", "input_data", "mini_batch_size", "partition_keys", "max_concurrency_per_instance", "error_threshold",
    "mini_batch_error_threshold", "retry_settings", "logging_level",
)  # fmt: skip
_SETTINGS = ("continue_on_step_failure", "continue_run_on_failed_optional_input", "force_rerun")
_MOST_TRIALS = 1000  # default of a sweep


@dataclass
class JobTranslation:
    """A definition on this machine, and the types of its outputs."""

    definition: Path
    output_types: dict[str, str] = field(default_factory=dict)
    steps: dict[str, dict[str, str]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    """Names of all steps; those of a pipeline that is a step begin with its name and a slash."""
    addresses: dict[str, Json] = field(default_factory=dict)
    """Description of outputs of steps that are stored elsewhere than the outputs of steps, by step and output."""

    def step_types(self, step: str) -> dict[str, str]:
        """Return the types of the outputs of a step, as far as it names them."""
        return self.steps.get(step, {})


def translate(subscription: Subscription, jobs: OutputAddresses, job: RestResource, folder: Path) -> JobTranslation:
    """Write a submitted job as YAML, with its code and data beside it.

    Args:
        subscription: Contains what the job refers to.
        jobs: Knows the outputs of other jobs.
        job: The job.
        folder: Folder to write to.

    Raises:
        RefusalError: It refers to something that does not exist, or cannot be expressed.
    """
    project = ProjectFolder(subscription, jobs, job.id.rsplit("/jobs/", 1)[0], folder)
    properties = job.properties
    kind = str(properties["jobType"])
    if kind == "AutoML":
        definition = project.write("job.yml", automl_job(project, subscription.store, properties))
        return JobTranslation(definition, names=(TRIAL,), addresses={TRIAL: {TRAINED: trained_output()}})
    writers = {"Pipeline": _pipeline_job, "Command": _command_job, "Sweep": _sweep_job}
    content: Json = {"$schema": _SCHEMA.format(f"{kind.lower()}Job"), "type": kind.lower()}
    content["display_name"] = properties["displayName"]
    content["experiment_name"] = properties["experimentName"]
    if properties["tags"]:
        content["tags"] = properties["tags"]
    if compute := properties.get("computeId"):
        content["compute"] = _compute(compute)
    content.update(writers[kind](project, properties))
    if inputs := _inputs(project, properties["inputs"]):
        content["inputs"] = inputs
    if outputs := _outputs(properties["outputs"]):
        content["outputs"] = outputs
    types = {name: str(_word(port, "job_output_type") or "") for name, port in properties["outputs"].items()}
    steps = {
        step: {name: str(_word(port, "job_output_type") or "") for name, port in (node.get("outputs") or {}).items()}
        for step, node in properties["jobs"].items()
    }
    names = tuple(_step_names(project, _jobs_of(project, properties)))
    return JobTranslation(project.write("job.yml", content), types, steps, names)


def component(project: ProjectFolder, spec: Json) -> Json:
    """Return a registered or anonymous component as YAML."""
    kind = str(spec.get("type") or "command")
    found: Json = {"$schema": _SCHEMA.format(f"{kind}Component"), "type": kind}
    found.update({key: spec[key] for key in _COMPONENT_KEYS if spec.get(key) not in (None, {})})
    found["version"] = str(spec.get("version") or 1)
    for port in ("inputs", "outputs"):
        if spec.get(port):
            found[port] = {name: declaration(value) for name, value in spec[port].items()}
    if kind == "pipeline":
        found["jobs"] = {name: _step(project, name, node) for name, node in spec["jobs"].items()}
        return found
    if distribution := spec.get("distribution"):
        found["distribution"] = _distribution(distribution)
    if kind == "parallel":
        found["task"] = _task(project, spec["task"])
        return found
    found["environment"] = project.environment(spec["environment"])
    if code := spec.get("code"):
        found["code"] = project.code(code)
    return found


def _component_file(project: ProjectFolder, text: str) -> str:
    """Return the relative path of the definition of a component, which is written if it does not exist yet."""
    resource = project.resource(text)
    file = f"{resource.id.split('/')[-3]}-{resource.name}.yml"
    if not (project.folder / file).exists():
        project.write(file, component(project, resource.properties["componentSpec"]))
    return f"./{file}"


def _pipeline_job(project: ProjectFolder, properties: Json) -> Json:
    settings = properties.get("settings") or {}
    kept = {key: settings[key] for key in _SETTINGS if settings.get(key) is not None}
    if settings.get("default_compute"):
        kept["default_compute"] = _compute(settings["default_compute"])
    found: Json = {"settings": kept} if kept else {}
    found["jobs"] = {name: _step(project, name, node) for name, node in _jobs_of(project, properties).items()}
    return found


def _jobs_of(project: ProjectFolder, properties: Json) -> Json:
    """Return the steps of a pipeline job, or of the component that it is."""
    if (component_id := properties.get("componentId")) and not properties["jobs"]:
        found: Json = project.spec(component_id)["jobs"]
        return found
    return dict(properties["jobs"])


def _step_names(project: ProjectFolder, jobs: Json, prefix: str = "") -> Iterator[str]:
    for name, node in jobs.items():
        spec = project.spec(node["componentId"]) if node.get("componentId") else {}
        if spec.get("type") == "pipeline":
            yield from _step_names(project, spec["jobs"], f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}"


def _command_job(project: ProjectFolder, properties: Json) -> Json:
    found: Json = {"command": properties["command"], "environment": project.environment(properties["environmentId"])}
    if code := properties.get("codeId"):
        found["code"] = project.code(code)
    if variables := properties.get("environmentVariables"):
        found["environment_variables"] = variables
    if distribution := properties.get("distribution"):
        found["distribution"] = _distribution({_snake(key): value for key, value in distribution.items()})
    resources = {_snake(key): value for key, value in (properties.get("resources") or {}).items()}
    if kept := {key: resources[key] for key in ("instance_count", "shm_size") if resources.get(key) is not None}:
        found["resources"] = kept
    if limit := (properties.get("limits") or {}).get("timeout"):
        found["limits"] = {"timeout": seconds(limit)}
    return found


def _sweep_job(project: ProjectFolder, properties: Json) -> Json:
    limits = properties.get("limits") or {}
    words = {
        "max_total_trials": limits.get("maxTotalTrials") or _MOST_TRIALS,
        "max_concurrent_trials": limits.get("maxConcurrentTrials"),
        "timeout": seconds(limits["timeout"]) if limits.get("timeout") else None,
        "trial_timeout": seconds(limits["trialTimeout"]) if limits.get("trialTimeout") else None,
    }
    objective = properties["objective"]
    found: Json = {
        "trial": _command_job(project, properties["trial"]),
        "search_space": search_space(properties["searchSpace"]),
        "sampling_algorithm": sampling(properties["samplingAlgorithm"]),
        "objective": {"goal": objective["goal"].lower(), "primary_metric": objective["primaryMetric"]},
        "limits": {key: value for key, value in words.items() if value is not None},
    }
    if policy := properties.get("earlyTermination"):
        found["early_termination"] = early_termination({_snake(key): value for key, value in policy.items()})
    return found


def _step(project: ProjectFolder, name: str, node: Json) -> Json:
    """Return one step of a pipeline."""
    kind = str(node.get("type") or "command")
    found: Json = {"type": kind}
    found.update({key: node[key] for key in _STEP_KEYS if node.get(key) not in (None, {})})
    if "mini_batch_size" in found:  # may be a size such as 10MB, so it is text in YAML; the SDK sends a number
        found["mini_batch_size"] = str(found["mini_batch_size"])
    if compute := node.get("computeId") or node.get("compute"):
        found["compute"] = _compute(compute)
    if model := node.get("model_id"):  # batch scoring: the script finds its model as on Azure
        path = (project.folder / project.data(f"{name}-model", model)).parent
        found["environment_variables"] = {**found.get("environment_variables", {}), "AZUREML_MODEL_DIR": str(path)}
    if kind == "sweep":
        found["trial"] = _component_file(project, node["trial"]["componentId"])
        found["search_space"] = node["search_space"]
        found["sampling_algorithm"] = node["sampling_algorithm"]
        found["objective"] = node["objective"]
        found["limits"] = node["limits"]
        if policy := node.get("early_termination"):
            found["early_termination"] = early_termination(policy)
    elif node.get("componentId"):
        found["component"] = _component_file(project, node["componentId"])
        if distribution := node.get("distribution"):
            found["distribution"] = _distribution(distribution)
        if resources := node.get("resources"):
            found["resources"] = resources
        if limits := node.get("limits"):
            found["limits"] = limits
    elif kind == "automl":
        raise malformed(f"the step {name!r} is AutoML, which is emulated only as a separate job")
    else:
        raise malformed(f"the step {name!r} has no component")
    if inputs := _inputs(project, node.get("inputs") or {}, f"{name}-"):
        found["inputs"] = inputs
    if outputs := _outputs(node.get("outputs") or {}):
        found["outputs"] = outputs
    return found


def _inputs(project: ProjectFolder, ports: Json, prefix: str = "") -> Json:
    found: Json = {}
    for name, port in ports.items():
        kind = _word(port, "job_input_type")
        if kind == "literal" and not port.get("mode"):
            found[name] = port.get("value")
            continue
        entry: Json = {} if kind == "literal" else {"type": kind}
        entry["path"] = port["value"] if kind == "literal" else project.data(prefix + name, str(port["uri"]))
        if port.get("mode"):
            entry["mode"] = mode(port["mode"])
        found[name] = entry
    return found


def _outputs(ports: Json) -> Json:
    """Return the outputs without their destination, which only concerns the storage account."""
    found: Json = {}
    for name, port in ports.items():
        if port and port.get("value"):
            found[name] = port["value"]
            continue
        kind = _word(port or {}, "job_output_type")
        if kind:
            found[name] = {"type": kind, **({"mode": mode(port["mode"])} if port.get("mode") else {})}
    return found


def _task(project: ProjectFolder, task: Json) -> Json:
    found = {key: value for key, value in task.items() if value is not None}
    if code := found.get("code"):
        found["code"] = project.code(code)
    found["environment"] = project.environment(found["environment"])
    return found


def _distribution(given: Json) -> Json:
    found = {key: value for key, value in given.items() if value is not None}
    kind = str(found.pop("distribution_type", None) or found.pop("type", "pytorch"))
    return {"type": {"PyTorch": "pytorch", "Mpi": "mpi", "TensorFlow": "tensorflow"}.get(kind, kind.lower()), **found}


def _word(port: Json, key: str) -> str | None:
    """Return a value whose key the SDK writes in two ways."""
    camel = re.sub(r"_(\w)", lambda found: found[1].upper(), key)
    value = port.get(key) or port.get(camel)
    return str(value) if value else None


def _compute(compute_id: str) -> str:
    return f"azureml:{compute_id.removeprefix('azureml:').rsplit('/', 1)[-1]}"


def _snake(key: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", key).lower()
