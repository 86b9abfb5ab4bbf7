"""Jobs: taken in, run on this machine, watched, cancelled; their outputs and logs go to the storage account."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.jobs.emulated_job import POLL_SECONDS, EmulatedJob
from azureml_emulator.jobs.job_executor import JobExecutor, JobOrder
from azureml_emulator.jobs.job_outputs import ProducedOutput, produce
from azureml_emulator.jobs.job_translation import JobTranslation, translate
from azureml_emulator.jobs.reported_states import FINAL, ReportedJob, ReportedStep
from azureml_emulator.process_commands import machine_environment
from azureml_emulator.resources.arm_paths import WORKSPACE
from azureml_emulator.resources.asset_references import check
from azureml_emulator.resources.datastore_addresses import ARTIFACTS, artifacts
from azureml_emulator.resources.rest_resources import now
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, malformed, reply, route

TYPES = ("Pipeline", "Command", "Sweep")
_PORTS = ("inputs", "outputs", "jobs", "tags", "properties")


class EmulatedJobs:
    """The jobs of all workspaces.

    Args:
        subscription: Keeps them, and what they make.
        executor: Says who runs the next job.
    """

    def __init__(self, subscription: Subscription, executor: Callable[[], JobExecutor]) -> None:
        self._subscription = subscription
        self._executor = executor
        self._lock = threading.RLock()
        self._records: dict[str, EmulatedJob] = {}

    def submit(self, workspace: str, name: str, body: Json) -> EmulatedJob:
        """Take a job in and start it.

        Args:
            workspace: Path of the workspace.
            name: Name of the job.
            body: The job as the SDK describes it, with ``properties``.

        Raises:
            ServiceRefusalError: 400, it is malformed.
        """
        properties = body.get("properties") or {}
        if properties.get("jobType") not in TYPES:
            raise malformed(f"jobType {properties.get('jobType')!r} is none of {', '.join(TYPES)}")
        for port in _PORTS:
            if properties.get(port) is None:
                properties[port] = {}
        check(self._subscription, properties)
        properties.setdefault("displayName", name)
        properties.setdefault("experimentName", "Default")
        properties["services"] = {
            "Studio": {"jobServiceType": "Studio", "endpoint": f"{self._subscription.url}/runs/{name}?wsid={workspace}"}
        }
        with self._lock:
            resource, _ = self._subscription.store.put(f"{workspace}/jobs/{name}", {"properties": properties})
            record = EmulatedJob(resource, self._subscription.folder / "jobs" / name)
            self._records[resource.id.lower()] = record
        record.thread = threading.Thread(target=self._run, args=(record,), daemon=True)
        record.thread.start()
        return record

    def get(self, workspace: str, name: str) -> EmulatedJob:
        """A job.

        Raises:
            ServiceRefusalError: 404.
        """
        found = self._records.get(f"{workspace}/jobs/{name}".lower())
        if found is None:
            raise ServiceRefusalError(404, "UserError", f"Job {name!r} was not found in the workspace")
        return found

    def find(self, name: str) -> EmulatedJob:
        """A job of the default workspace."""
        return self.get(self._subscription.path(), name)

    def step(self, workspace: str, run: str) -> tuple[EmulatedJob, str] | None:
        """The job and step that a run belongs to; None where it is no step's."""
        with self._lock:
            records = [item for item in self._records.values() if item.workspace.lower() == workspace.lower()]
        for record in records:
            for step in record.state.steps:
                if record.child_id(step) == run:
                    return record, step
        return None

    def output_address(self, workspace: str, job: str, output: str) -> str:
        """Address in a datastore of an output of a job, or of a step of one.

        Raises:
            ServiceRefusalError: 404, there is no such job or output.
        """
        child = self.step(workspace, job)
        produced = child[0].steps.get(child[1], {}) if child else self.get(workspace, job).produced
        if output not in produced:
            raise ServiceRefusalError(404, "UserError", f"the job {job!r} has no output {output!r}")
        return produced[output].uri

    def all(self, workspace: str) -> list[EmulatedJob]:
        """The jobs of a workspace, newest first."""
        with self._lock:
            found = [item for item in self._records.values() if item.workspace.lower() == workspace.lower()]
        return sorted(found, key=lambda item: -item.resource.number)

    def stop(self) -> None:
        """Cancel what runs and forget all jobs."""
        with self._lock:
            records = list(self._records.values())
            self._records.clear()
        for record in records:
            self._cancel(record)
        for record in records:
            if record.thread is not None:
                record.thread.join(30)

    def routes(self) -> list[Route]:
        """Their paths."""
        before = self._subscription.require_workspace
        return [
            route(WORKSPACE + "/jobs", before, GET=self._list),
            route(WORKSPACE + "/jobs/{name}", before, GET=self._get, PUT=self._put, DELETE=self._delete),
            route(WORKSPACE + "/jobs/{name}/cancel", before, POST=self._post_cancel),
        ]

    def describe(self, record: EmulatedJob) -> Json:
        """The job as the service answers it."""
        body = record.resource.to_dict()
        properties = body["properties"]
        properties["status"] = record.status
        for name, produced in record.produced.items():
            properties["outputs"].setdefault(name, {"jobOutputType": produced.type})
            properties["outputs"][name]["uri"] = produced.uri
        if properties["jobType"] == "Command":  # where its logs are; the SDK reads them there
            uri = f"azureml://datastores/{ARTIFACTS}/{record.artifacts}"
            properties["outputs"]["default"] = {"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": uri}
        properties["properties"] = self.properties(record)
        return body

    def properties(self, record: EmulatedJob) -> Json:
        """What the service and the client noted about a job."""
        found = dict(record.resource.properties["properties"])
        if record.message:
            found["message"] = record.message[:1000]
        if record.state.best and record.finished:
            found["best_child_run_id"] = record.child_id(record.state.best)
        return found

    def _get(self, call: RestCall) -> Response:
        workspace, name = call.path.rsplit("/jobs/", 1)
        if self.step(workspace, name) is not None:  # the service knows no more about it here
            return reply({"id": call.path, "name": name, "type": "Microsoft.MachineLearningServices/workspaces/jobs"})
        return reply(self.describe(self.get(workspace, name)))

    def _put(self, call: RestCall) -> Response:
        workspace, name = call.path.rsplit("/jobs/", 1)
        record = self._records.get(call.path.lower())
        if record is None:
            return reply(self.describe(self.submit(workspace, name, {"properties": call.properties})), 201)
        kept = record.resource.properties
        for key in ("jobType", "componentId", "jobs", "inputs", "command", "codeId", "searchSpace", "trial"):
            if call.properties.get(key) is not None and not _same_job_part(kept.get(key), call.properties[key]):
                raise ServiceRefusalError(
                    409, "UserError", f"A job with the name {name!r} already exists: {key} cannot be changed"
                )
        for key in ("tags", "description", "displayName", "isArchived", "properties"):
            if call.properties.get(key) is not None:
                kept[key] = call.properties[key]
        record.resource.modified = now()
        return reply(self.describe(record))

    def _list(self, call: RestCall) -> Response:
        found = self.all(call.path.removesuffix("/jobs"))
        view = call.query.get("listViewType", "ActiveOnly")
        if view != "All":
            found = [i for i in found if bool(i.resource.properties.get("isArchived")) == (view == "ArchivedOnly")]
        if wanted := call.query.get("jobType"):
            found = [item for item in found if item.resource.properties["jobType"] == wanted]
        if tag := call.query.get("tag"):
            key, _, value = tag.partition("=")
            found = [i for i in found if key in i.resource.properties["tags"]]
            found = [i for i in found if not value or i.resource.properties["tags"][key] == value]
        if schedule := call.query.get("scheduleId"):
            found = [i for i in found if i.resource.properties["properties"].get("azureml.scheduleId") == schedule]
        return reply(self._subscription.page_of([self.describe(item) for item in found], call))

    def _delete(self, call: RestCall) -> Response:
        record = self.get(*call.path.rsplit("/jobs/", 1))
        if not record.finished:
            raise ServiceRefusalError(409, "UserError", f"the job {record.name!r} is {record.status}; cancel it first")

        def finish() -> None:
            with self._lock:
                self._records.pop(call.path.lower(), None)
            self._subscription.store.delete(call.path)

        return self._subscription.operations.start(finish, location=True)

    def _post_cancel(self, call: RestCall) -> Response:
        record = self.get(*call.path.removesuffix("/cancel").rsplit("/jobs/", 1))
        if record.finished and record.status != "Canceled":
            raise ServiceRefusalError(
                400, "UserError", f"the job {record.name!r} is {record.status} and cannot be cancelled"
            )

        def finish() -> None:
            self._cancel(record)
            record.wait(30)

        return self._subscription.operations.start(finish, location=True)

    def _cancel(self, record: EmulatedJob) -> None:
        record.cancelled = True
        self._cancel_if_asked(record)

    @staticmethod
    def _cancel_if_asked(record: EmulatedJob) -> None:
        if record.cancelled and record.execution is not None:
            record.execution.cancel()

    def _run(self, record: EmulatedJob) -> None:
        """What the service does with a job, in a thread of its own."""
        try:
            record.folder.mkdir(parents=True, exist_ok=True)
            translation = translate(self._subscription, self, record.resource, record.folder / "project")
            self._watch(record, translation)
        except ServiceRefusalError as refusal:
            record.message, record.status = refusal.message, "Failed"
        except Exception as error:  # noqa: BLE001  # a thread must tell its job why it ended, whatever the reason
            record.message, record.status = f"{type(error).__name__}: {error}", "Failed"

    def _watch(self, record: EmulatedJob, translation: JobTranslation) -> None:
        if record.cancelled:
            record.status = "Canceled"
            return
        home = self._subscription.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        environment = machine_environment()
        order = JobOrder(record.name, translation.definition, record.folder, home, environment)
        record.execution = self._executor().start(order)
        self._cancel_if_asked(record)  # it may have come in between
        while record.state.status not in FINAL:
            state = record.execution.state()
            record.state = state
            if state.status not in FINAL:
                record.status = state.status
                time.sleep(POLL_SECONDS)
        record.status = "Finalizing"
        for step, step_state in record.state.steps.items():
            record.steps[step] = self._keep(record, record.child_id(step), step_state, {}, translation.step_types(step))
        record.produced = self._keep(
            record, record.name, record.state, record.resource.properties["outputs"], translation.output_types
        )
        record.message, record.status = record.state.message, record.state.status

    def _keep(
        self, record: EmulatedJob, run: str, state: ReportedJob | ReportedStep, wanted: Json, types: dict[str, str]
    ) -> dict[str, ProducedOutput]:
        """Put outputs and logs of a run where the SDK looks for them."""
        container = self._subscription.container(ARTIFACTS, record.workspace.rsplit("/", 1)[1])
        for name, path in state.logs.items():
            self._subscription.blobs.upload(path, container, f"{artifacts(run)}/{name}")
        succeeded = state.status == "Completed"
        return {
            name: produce(
                self._subscription, record.resource, run, name, path, wanted.get(name) or {}, types.get(name, "")
            )
            for name, path in state.outputs.items()
            if path.exists() and succeeded
        }


def _same_job_part(kept: object, wanted: object) -> bool:
    """Whether a part of a job is what it was; what the service added does not count."""
    if isinstance(kept, dict) and isinstance(wanted, dict):
        return all(_same_job_part(kept.get(key), value) for key, value in wanted.items() if value is not None)
    return kept == wanted
