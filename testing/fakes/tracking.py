"""The workspace's MLflow server, as far as the numbers of a run go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route
from testing.fakes.calls import Call, RefusalError, reply, route
from testing.fakes.cloud import WORKSPACE

if TYPE_CHECKING:
    from testing.fakes.cloud import Cloud


class Tracking:
    """The calls of MLflow clients."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def routes(self) -> list[Route]:
        """Their paths."""
        base = "/mlflow/v1.0" + WORKSPACE + "/api/2.0/mlflow"
        return [route(base + "/runs/get", self._cloud.require_workspace, GET=self._get)]

    def _get(self, call: Call) -> Response:
        """A job's run, or that of one of its steps; their ids are the names that the service gave them."""
        workspace = call.path.removeprefix("/mlflow/v1.0").split("/api/2.0/")[0]
        run = call.query.get("run_id", "")
        found = self._cloud.jobs.step(workspace, run)
        try:
            record, step = found or (self._cloud.jobs.get(workspace, run), "")
        except RefusalError as error:
            return reply({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": error.message}, 404)
        metrics = record.execution.metrics(step) if record.execution is not None else {}
        return reply(
            {
                "run": {
                    "info": {"run_id": run, "run_uuid": run, "status": "RUNNING", "lifecycle_stage": "active"},
                    "data": {"metrics": [{"key": key, "value": value, "step": 0} for key, value in metrics.items()]},
                }
            }
        )
