"""The workspace's MLflow server, only for the metrics of a run."""

from __future__ import annotations

from datetime import datetime

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.jobs.automl_translation import TRIAL
from azureml_emulator.jobs.emulated_jobs import EmulatedJobs
from azureml_emulator.resources.arm_paths import WORKSPACE
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import RestCall, ServiceRefusalError, reply, route


class MlflowRoutes:
    """The calls of MLflow clients."""

    def __init__(self, subscription: Subscription, jobs: EmulatedJobs) -> None:
        self._subscription = subscription
        self._jobs = jobs

    def routes(self) -> list[Route]:
        """Return the paths."""
        base = "/mlflow/v1.0" + WORKSPACE + "/api/2.0/mlflow"
        return [route(base + "/runs/get", self._subscription.require_workspace, GET=self._get)]

    def _get(self, call: RestCall) -> Response:
        """Return the run of a job or of one of its steps; the ids are the names that the service gave them."""
        workspace = call.path.removeprefix("/mlflow/v1.0").split("/api/2.0/")[0]
        run = call.query.get("run_id", "")
        found = self._jobs.step(workspace, run)
        try:
            record, step = found or (self._jobs.get(workspace, run), "")
        except ServiceRefusalError as error:
            return reply({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": error.message}, 404)
        if record.resource.properties["jobType"] == "AutoML":
            step = TRIAL  # the job has the metrics of its best trial
        metrics = record.execution.metrics(step) if record.execution is not None else {}
        state = record.state.steps.get(step, record.state)
        tags = {} if found else self._jobs.tags(record)
        moments = {"start_time": _milliseconds(state.started), "end_time": _milliseconds(state.ended)}
        information = {
            "run_id": run,
            "run_uuid": run,
            "status": "RUNNING",
            "lifecycle_stage": "active",
            **{name: moment for name, moment in moments.items() if moment},
        }
        data = {
            "metrics": [{"key": key, "value": value, "step": 0} for key, value in metrics.items()],
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        return reply({"run": {"info": information, "data": data}})


def _milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000) if moment else 0
