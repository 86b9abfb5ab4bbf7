"""Run history, which ``jobs.stream``, ``jobs.download`` and the list of child jobs use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.jobs.emulated_job import EmulatedJob
from azureml_emulator.jobs.emulated_jobs import EmulatedJobs
from azureml_emulator.jobs.job_outputs import MODELS, ProducedOutput
from azureml_emulator.jobs.reported_states import ReportedJob, ReportedStep
from azureml_emulator.resources.arm_paths import WORKSPACE
from azureml_emulator.resources.datastore_addresses import ARTIFACTS, artifacts
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, reply, route

_RUNS = "/history/v1.0" + WORKSPACE + "/runs/{run}"


@dataclass(frozen=True)
class _Run:
    """A job, or one of its steps."""

    id: str
    record: EmulatedJob
    step: str

    @property
    def state(self) -> ReportedJob | ReportedStep:
        return self.record.state.steps[self.step] if self.step else self.record.state

    @property
    def status(self) -> str:
        return self.state.status if self.step else self.record.status

    @property
    def outputs(self) -> dict[str, ProducedOutput]:
        return self.record.steps.get(self.step, {}) if self.step else self.record.produced


class RunHistoryRoutes:
    """The calls about runs."""

    def __init__(self, subscription: Subscription, jobs: EmulatedJobs) -> None:
        self._subscription = subscription
        self._jobs = jobs

    def routes(self) -> list[Route]:
        """Return the paths."""
        before, data = self._subscription.require_workspace, "/data/v1.0" + WORKSPACE
        models = "/modelregistry/v1.0" + WORKSPACE
        by_experiment = "/history/v1.0" + WORKSPACE + "/experiments/{experiment}/runs/{run}"
        return [
            route(_RUNS, before, GET=self._get, PATCH=self._change),
            route(by_experiment, before, GET=self._get, PATCH=self._change),
            route(_RUNS + "/details", before, GET=self._details),
            route(_RUNS + "/children", before, GET=self._children),
            route(_RUNS + "/serviceinstances/{node}", before, GET=self._services),
            route("/history/v1.0" + WORKSPACE + "/rundata", before, POST=self._data),
            route(data + "/dataversion/batchGetResolvedUris", before, POST=self._data_uris),
            route(models + "/models/batchGetResolvedUris", before, POST=self._model_uris),
        ]

    def _find(self, call: RestCall, name: str) -> _Run:
        workspace = _workspace(call)
        found = self._jobs.step(workspace, name)
        if found is not None:
            return _Run(name, *found)
        return _Run(name, self._jobs.get(workspace, name), "")

    def _get(self, call: RestCall) -> Response:
        return reply(self._describe(self._find(call, call.names["run"])))

    def _change(self, call: RestCall) -> Response:
        """Change names, tags and the archive flag; the SDK edits jobs in this way."""
        run = self._find(call, call.names["run"])
        if run.step:
            raise ServiceRefusalError(400, "UserError", "a step of a job cannot be changed")
        kept = run.record.resource.properties
        for key in ("tags", "properties"):
            kept[key] = {**kept[key], **(call.body.get(key) or {})}
        for key, name in (("displayName", "displayName"), ("description", "description"), ("hidden", "isArchived")):
            if call.body.get(key) is not None:
                kept[name] = call.body[key]
        return reply(self._describe(run))

    def _details(self, call: RestCall) -> Response:
        run = self._find(call, call.names["run"])
        body = self._describe(run)
        body["logFiles"] = self._logs(run)
        return reply(body)

    def _children(self, call: RestCall) -> Response:
        record = self._find(call, call.names["run"]).record
        runs = [_Run(record.child_id(step), record, step) for step in record.state.steps]
        return reply({"value": [self._describe(run) for run in runs]})

    def _services(self, call: RestCall) -> Response:
        self._find(call, call.names["run"])
        return reply({"instances": {}})

    def _data(self, call: RestCall) -> Response:
        run = self._find(call, str(call.body.get("runId")))
        return reply({"runMetadata": self._describe(run)})

    def _describe(self, run: _Run) -> Json:
        properties = run.record.resource.properties
        body: Json = {
            "runId": run.id,
            "rootRunId": run.record.name,
            "runUuid": run.id,
            "parentRunId": run.record.name if run.step else None,
            "experimentId": properties["experimentName"],
            "displayName": run.step or properties["displayName"],
            "name": run.step or properties["displayName"],
            "status": run.status,
            "createdUtc": _created(run),
            "startTimeUtc": run.state.started or None,
            "endTimeUtc": run.state.ended or None,
            "runType": "azureml.StepRun" if run.step else "azureml.PipelineRun",
            "tags": {} if run.step else self._jobs.tags(run.record),
            "properties": _marks(run.state) if run.step else self._jobs.properties(run.record),
            "outputs": {
                name: {"assetId": item.asset, "type": MODELS.get(item.type, item.type)}
                for name, item in run.outputs.items()
            },
        }
        message = run.state.message if run.step else run.record.message
        if run.status == "Failed":
            error = {
                "code": "UserError",
                "message": message or "the run failed",
                "messageParameters": {},
                "details": [],
            }
            body["error"] = {"error": error, "time": run.state.ended or None}
        return body

    def _logs(self, run: _Run) -> dict[str, str]:
        """Return signed addresses of the logs; those of a running job are uploaded in their current state."""
        workspace = run.record.workspace.rsplit("/", 1)[1]
        container, prefix = self._subscription.container(ARTIFACTS, workspace), artifacts(run.id)
        found: dict[str, str] = {}
        for name, path in run.state.logs.items():
            if path.exists():
                self._subscription.blobs.upload(path, container, f"{prefix}/{name}")
                found[name] = self._subscription.blobs.signed(container, f"{prefix}/{name}")
        return found

    def _data_uris(self, call: RestCall) -> Response:
        known = self._known(call)
        return reply({"values": {asset: {"uri": item.uri, "type": item.type} for asset, item in known.items()}})

    def _model_uris(self, call: RestCall) -> Response:
        return reply({"values": {asset: {"path": item.uri} for asset, item in self._known(call).items()}})

    def _known(self, call: RestCall) -> dict[str, ProducedOutput]:
        """Return the outputs whose asset ids the call lists."""
        wanted = set(call.body.get("values") or [])
        found: dict[str, ProducedOutput] = {}
        for record in self._jobs.all(_workspace(call)):
            for outputs in (record.produced, *record.steps.values()):
                found.update({item.asset: item for item in outputs.values() if item.asset in wanted})
        return found


def _marks(state: ReportedJob | ReportedStep) -> Json:
    return {"azureml.isreused": "true"} if isinstance(state, ReportedStep) and state.reused else {}


def _created(run: _Run) -> str:
    """Return when a step was created: one after another, in the order of the definition."""
    moment = datetime.fromisoformat(run.record.resource.created)
    number = list(run.record.state.steps).index(run.step) + 1 if run.step else 0
    return (moment + timedelta(milliseconds=number)).isoformat()


def _workspace(call: RestCall) -> str:
    names = call.names
    scope = f"/subscriptions/{names['subscription']}/resourceGroups/{names['group']}"
    return f"{scope}/providers/Microsoft.MachineLearningServices/workspaces/{names['workspace']}"
