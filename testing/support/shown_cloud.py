"""A cloud with something of everything that its pages show."""

from __future__ import annotations

from pathlib import Path

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.jobs.job_executor import JobExecution, JobOrder
from azureml_emulator.jobs.reported_states import ReportedJob, ReportedStep
from azureml_emulator.rest.rest_calls import Json

_AFTER = {
    "prepare": (),
    "inspect": ("prepare",),
    "train": ("prepare",),
    "evaluate": ("prepare", "train"),
    "gate_and_register_with_a_long_name": ("train", "evaluate"),
}
_LAST = "gate_and_register_with_a_long_name"


class _Told:
    """Takes jobs, and says of each what it was told to say."""

    def __init__(self, state: ReportedJob) -> None:
        self._state = state

    def start(self, order: JobOrder) -> JobExecution:
        return self

    def state(self) -> ReportedJob:
        return self._state

    def cancel(self) -> None:
        self._state = ReportedJob("Canceled", steps=self._state.steps)

    def preempt(self) -> None:
        raise NotImplementedError

    def metrics(self, step: str) -> dict[str, float]:
        return {}


def fill(cloud: EmulatedCloud, folder: Path) -> None:
    """Put jobs that run, failed and succeeded into a cloud, a model, an endpoint with traffic, and an instance."""
    log = folder / "std_log.txt"
    log.write_text("".join(f"epoch {number}: accuracy 0.{900 + number}, <loss> 0.1\n" for number in range(80)))
    environment, component = f"{cloud.path()}/environments/train/versions/1", f"{cloud.path()}/components/c/versions/1"
    cloud.store.put(environment, {"properties": {"image": "python:3.11"}})
    spec = {"type": "command", "name": "c", "command": "true", "environment": f"azureml:{environment}"}
    cloud.store.put(component, {"properties": {"componentSpec": spec}})
    for name, end in (("loud-sun-1", "Completed"), ("calm-sea-2", "Failed"), ("wide-sky-3", "Running")):
        cloud.executor = _Told(_state(end, log))
        record = cloud.jobs.submit(cloud.path(), name, {"properties": _pipeline(component)})
        if end != "Running":
            assert record.wait().status == end, record.message
    for version, accuracy in (("1", "0.957"), ("2", "0.981")):
        properties = {"modelType": "custom_model", "jobName": "loud-sun-1", "tags": {"accuracy": accuracy}}
        cloud.store.put(f"{cloud.path()}/models/textile/versions/{version}", {"properties": properties})
    endpoint = f"{cloud.path()}/onlineEndpoints/textile"
    kept: Json = {"authMode": "Key", "provisioningState": "Succeeded", "traffic": {"version-1": 90, "version-2": 10}}
    cloud.store.put(endpoint, {"properties": {**kept, "scoringUri": f"{cloud.url}/scoring/ws/textile/score"}})
    for version in ("1", "2"):
        made: Json = {"instanceType": "Standard_DS3_v2", "provisioningState": "Succeeded"}
        made["model"] = f"{cloud.path()}/models/textile/versions/{version}"
        cloud.store.put(f"{endpoint}/deployments/version-{version}", {"properties": made, "sku": {"capacity": 1}})


def _pipeline(component: str) -> Json:
    steps = {
        name: {
            "type": "command",
            "componentId": component,
            "inputs": {
                before: {"job_input_type": "literal", "value": "${{parent.jobs." + before + ".outputs.made}}"}
                for before in after
            },
        }
        for name, after in _AFTER.items()
    }
    return {"jobType": "Pipeline", "displayName": "Train textile", "experimentName": "textile", "jobs": steps}


def _state(end: str, log: Path) -> ReportedJob:
    times = {"started": "2026-11-30T08:00:00Z", "ended": "2026-11-30T08:02:05Z", "logs": {log.name: log}}
    steps = {name: ReportedStep("Completed", **times) for name in _AFTER}  # type: ignore[arg-type]
    steps["prepare"] = ReportedStep("Completed", reused=True, **times)  # type: ignore[arg-type]
    if end != "Completed":
        steps["evaluate"] = ReportedStep(end, "the gate has no reference" if end == "Failed" else "", logs={"log": log})
        steps[_LAST] = ReportedStep("NotStarted")
    return ReportedJob(end, "the step evaluate failed" if end == "Failed" else "", steps=steps, logs={log.name: log})
