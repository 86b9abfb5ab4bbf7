"""Schedules: kept, switched on and off, and fired when a test says that their time has come."""

from __future__ import annotations

import copy
import uuid
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route
from testing.fakes.calls import Call, Json, RefusalError, malformed, reply, route
from testing.fakes.cloud import WORKSPACE
from testing.fakes.references import check

if TYPE_CHECKING:
    from testing.fakes.cloud import Cloud
    from testing.fakes.records import JobRecord
    from testing.fakes.store import Resource

_ACTIONS = ("CreateJob", "CreateMonitor", "ImportData")
_TRIGGERS = ("Cron", "Recurrence")


def fire(cloud: Cloud, schedule: Resource) -> JobRecord:
    """Start the job of a schedule.

    Raises:
        RefusalError: 409, it is disabled; 400, it starts something else than a job.
    """
    if not schedule.properties.get("isEnabled", True):
        raise RefusalError(409, "UserError", f"the schedule {schedule.name!r} is disabled")
    action = schedule.properties["action"]
    if action["actionType"] != "CreateJob":
        raise malformed(f"the schedule {schedule.name!r} starts no job but {action['actionType']}")
    workspace = schedule.id.rsplit("/schedules/", 1)[0]
    definition: Json = copy.deepcopy(action["jobDefinition"])
    source = definition.pop("sourceJobId", None)
    if source:  # a job that exists already, with changes
        kept = copy.deepcopy(cloud.jobs.get(workspace, str(source).rsplit("/", 1)[-1]).resource.properties)
        changes = {key: value for key, value in definition.items() if value not in (None, {}, [])}
        definition = {**kept, **changes, "inputs": {**kept["inputs"], **(definition.get("inputs") or {})}}
    definition["properties"] = {**(definition.get("properties") or {}), "azureml.scheduleId": schedule.name}
    return cloud.jobs.submit(workspace, f"{schedule.name}-{uuid.uuid4().hex[:8]}", {"properties": definition})


class Schedules:
    """The calls about schedules."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def routes(self) -> list[Route]:
        """Their paths."""
        before = self._cloud.require_workspace
        return [
            route(WORKSPACE + "/schedules", before, GET=self._list),
            route(WORKSPACE + "/schedules/{name}", before, GET=self._get, PUT=self._put, DELETE=self._delete),
            route(WORKSPACE + "/schedules/{name}/trigger", before, POST=self._trigger),
        ]

    def _list(self, call: Call) -> Response:
        found = self._cloud.store.children(call.path)
        view = call.query.get("listViewType", "EnabledOnly")
        if view != "All":
            found = [item for item in found if bool(item.properties["isEnabled"]) == (view == "EnabledOnly")]
        return reply(self._cloud.page(found, call))

    def _get(self, call: Call) -> Response:
        return reply(self._cloud.store.get(call.path).to_dict())

    def _put(self, call: Call) -> Response:
        action, trigger = call.properties.get("action") or {}, call.properties.get("trigger") or {}
        if action.get("actionType") not in _ACTIONS:
            raise malformed(f"actionType {action.get('actionType')!r} is none of {', '.join(_ACTIONS)}")
        if trigger.get("triggerType") not in _TRIGGERS:
            raise malformed(f"triggerType {trigger.get('triggerType')!r} is none of {', '.join(_TRIGGERS)}")
        check(self._cloud, {key: value for key, value in action.items() if key != "monitorDefinition"})
        made, new = self._cloud.store.put(call.path, call.body)
        if made.properties.get("isEnabled") is None:
            made.properties["isEnabled"] = True
        made.properties["provisioningState"] = "Creating" if new else "Updating"

        def finish() -> Json:
            made.properties["provisioningState"] = "Succeeded"
            return made.to_dict()

        return self._cloud.operations.start(finish, made.to_dict(), 201 if new else 200)

    def _delete(self, call: Call) -> Response:
        if self._cloud.store.find(call.path) is None:
            return reply(None, 204)

        def finish() -> None:
            self._cloud.store.delete(call.path)

        return self._cloud.operations.start(finish, location=True)

    def _trigger(self, call: Call) -> Response:
        record = fire(self._cloud, self._cloud.store.get(call.path.removesuffix("/trigger")))
        return reply({"scheduleActionType": "CreateJob", "submissionId": record.name})
