"""Schedules: kept, switched on and off, and fired when a test requests it."""

from __future__ import annotations

import copy
import uuid

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.jobs.emulated_job import EmulatedJob
from azureml_emulator.jobs.emulated_jobs import EmulatedJobs
from azureml_emulator.resources.arm_paths import WORKSPACE
from azureml_emulator.resources.asset_references import check
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, malformed, reply, route

_ACTIONS = ("CreateJob", "CreateMonitor", "ImportData")
_TRIGGERS = ("Cron", "Recurrence")


def fire(jobs: EmulatedJobs, schedule: RestResource) -> EmulatedJob:
    """Start the job of a schedule.

    Raises:
        ServiceRefusalError: 409, it is disabled; 400, it starts something other than a job.
    """
    if not schedule.properties.get("isEnabled", True):
        raise ServiceRefusalError(409, "UserError", f"the schedule {schedule.name!r} is disabled")
    action = schedule.properties["action"]
    if action["actionType"] != "CreateJob":
        raise malformed(f"the schedule {schedule.name!r} does not start a job but {action['actionType']}")
    workspace = schedule.id.rsplit("/schedules/", 1)[0]
    definition: Json = copy.deepcopy(action["jobDefinition"])
    source = definition.pop("sourceJobId", None)
    if source:  # an existing job, with changes
        kept = copy.deepcopy(jobs.get(workspace, str(source).rsplit("/", 1)[-1]).resource.properties)
        changes = {key: value for key, value in definition.items() if value not in (None, {}, [])}
        definition = {**kept, **changes, "inputs": {**kept["inputs"], **(definition.get("inputs") or {})}}
    definition["properties"] = {**(definition.get("properties") or {}), "azureml.scheduleId": schedule.name}
    return jobs.submit(workspace, f"{schedule.name}-{uuid.uuid4().hex[:8]}", {"properties": definition})


class ScheduleRoutes:
    """The calls about schedules."""

    def __init__(self, subscription: Subscription, jobs: EmulatedJobs) -> None:
        self._subscription = subscription
        self._jobs = jobs

    def routes(self) -> list[Route]:
        """Return the paths."""
        before = self._subscription.require_workspace
        return [
            route(WORKSPACE + "/schedules", before, GET=self._list),
            route(WORKSPACE + "/schedules/{name}", before, GET=self._get, PUT=self._put, DELETE=self._delete),
            route(WORKSPACE + "/schedules/{name}/trigger", before, POST=self._trigger),
        ]

    def _list(self, call: RestCall) -> Response:
        found = self._subscription.store.children(call.path)
        view = call.query.get("listViewType", "EnabledOnly")
        if view != "All":
            found = [item for item in found if bool(item.properties["isEnabled"]) == (view == "EnabledOnly")]
        return reply(self._subscription.page(found, call))

    def _get(self, call: RestCall) -> Response:
        return reply(self._subscription.store.get(call.path).to_dict())

    def _put(self, call: RestCall) -> Response:
        action, trigger = call.properties.get("action") or {}, call.properties.get("trigger") or {}
        if action.get("actionType") not in _ACTIONS:
            raise malformed(f"actionType {action.get('actionType')!r} is not one of {', '.join(_ACTIONS)}")
        if trigger.get("triggerType") not in _TRIGGERS:
            raise malformed(f"triggerType {trigger.get('triggerType')!r} is not one of {', '.join(_TRIGGERS)}")
        check(self._subscription, {key: value for key, value in action.items() if key != "monitorDefinition"})
        made, new = self._subscription.store.put(call.path, call.body)
        if made.properties.get("isEnabled") is None:
            made.properties["isEnabled"] = True
        made.properties["provisioningState"] = "Creating" if new else "Updating"

        def finish() -> Json:
            made.properties["provisioningState"] = "Succeeded"
            return made.to_dict()

        return self._subscription.operations.start(finish, made.to_dict(), 201 if new else 200)

    def _delete(self, call: RestCall) -> Response:
        if self._subscription.store.find(call.path) is None:
            return reply(None, 204)

        def finish() -> None:
            self._subscription.store.delete(call.path)

        return self._subscription.operations.start(finish)

    def _trigger(self, call: RestCall) -> Response:
        record = fire(self._jobs, self._subscription.store.get(call.path.removesuffix("/trigger")))
        return reply({"scheduleActionType": "CreateJob", "submissionId": record.name})
