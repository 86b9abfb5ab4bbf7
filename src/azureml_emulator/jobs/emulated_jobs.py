"""Jobs: accepted, run on this machine, watched, cancelled; their outputs and logs go to the storage account."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.computes.compute_targets import check_targets, compute_paths
from azureml_emulator.jobs.automl_translation import BEST, TRIAL, check_task
from azureml_emulator.jobs.emulated_job import POLL_SECONDS, EmulatedJob
from azureml_emulator.jobs.job_executor import JobExecutor, JobFiles, JobOrder
from azureml_emulator.jobs.job_outputs import ProducedOutput, produce
from azureml_emulator.jobs.job_translation import JobTranslation, translate
from azureml_emulator.jobs.reported_states import FINAL, ReportedJob, ReportedStep
from azureml_emulator.process_commands import machine_environment
from azureml_emulator.resources.arm_paths import WORKSPACE
from azureml_emulator.resources.asset_references import check
from azureml_emulator.resources.datastore_addresses import ARTIFACTS, artifacts
from azureml_emulator.resources.rest_resources import RestResource, now
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, malformed, reply, route

TYPES = ("Pipeline", "Command", "Sweep", "AutoML")
_JOB_ID = re.compile(r".+/workspaces/[^/]+/jobs/[^/]+", re.IGNORECASE)
_INTERRUPTED = "the emulator was ended while this job ran"
_PORTS = ("inputs", "outputs", "jobs", "tags", "properties")


class EmulatedJobs:
    """The jobs of all workspaces.

    Args:
        subscription: Keeps them, and what they create.
        executor: Runs the jobs.

    Attributes:
        identity: Variables with which the steps of jobs are signed in as their compute is, and find its workspace.
    """

    def __init__(self, subscription: Subscription, executor: Callable[[], JobExecutor]) -> None:
        self._subscription = subscription
        self._executor = executor
        self._lock = threading.RLock()
        self._records: dict[str, EmulatedJob] = {}
        self.identity: dict[str, str] = {}

    def submit(self, workspace: str, name: str, body: Json) -> EmulatedJob:
        """Accept a job and start it.

        Args:
            workspace: Path of the workspace.
            name: Name of the job.
            body: The job as the SDK describes it, with ``properties``.

        Raises:
            ServiceRefusalError: 400, it is malformed.
        """
        properties = body.get("properties") or {}
        if properties.get("jobType") not in TYPES:
            raise malformed(f"jobType {properties.get('jobType')!r} is not one of {', '.join(TYPES)}")
        for port in _PORTS:
            if properties.get(port) is None:
                properties[port] = {}
        if properties["jobType"] == "AutoML":
            check_task(properties)
        check_targets(self._subscription.store, properties)
        check(self._subscription, properties)
        properties.setdefault("displayName", name)
        properties.setdefault("experimentName", "Default")
        properties["services"] = {**(properties.get("services") or {}), **self._services(workspace, name)}
        with self._lock:
            resource, _ = self._subscription.store.put(f"{workspace}/jobs/{name}", {"properties": properties})
            record = EmulatedJob(resource, self._subscription.folder / "jobs" / name)
            self._records[resource.id.lower()] = record
        record.thread = threading.Thread(target=self._run, args=(record,), daemon=True)
        record.thread.start()
        return record

    def restore(self) -> None:
        """Restore the jobs of an earlier process. Those that ran when it ended have failed, and say so."""
        for resource in self._subscription.store.below("/subscriptions"):
            if not _JOB_ID.fullmatch(resource.id):
                continue
            record = EmulatedJob(resource, self._subscription.folder / "jobs" / resource.name)
            record.execution = JobFiles(self._home, record.name, record.folder / "output.txt")
            record.state = record.execution.state()
            kept = self._subscription.store.find(_kept_path(resource))
            self._records[resource.id.lower()] = record
            if kept is None:
                record.message = _INTERRUPTED
                self._remember(record, "Failed")
                kept = self._subscription.store.get(_kept_path(resource))
            record.take(kept.properties)

    def _remember(self, record: EmulatedJob, status: str) -> None:
        """Keep how a job ended."""
        kept = {"properties": record.to_kept(status)}
        self._subscription.store.put(_kept_path(record.resource), kept)
        self._subscription.store.flush()

    @property
    def _home(self) -> Path:
        return self._subscription.folder / "home"

    def get(self, workspace: str, name: str) -> EmulatedJob:
        """Return a job.

        Raises:
            ServiceRefusalError: 404.
        """
        found = self._records.get(f"{workspace}/jobs/{name}".lower())
        if found is None:
            raise ServiceRefusalError(404, "UserError", f"Job {name!r} was not found in the workspace")
        return found

    def find(self, name: str) -> EmulatedJob:
        """Return a job of the default workspace."""
        return self.get(self._subscription.path(), name)

    def step(self, workspace: str, run: str) -> tuple[EmulatedJob, str] | None:
        """Return the job and step of a run; None if it is not the run of a step."""
        with self._lock:
            records = [item for item in self._records.values() if item.workspace.lower() == workspace.lower()]
        for record in records:
            for step in record.state.steps:
                if record.child_id(step) == run:
                    return record, step
        return None

    def output_address(self, workspace: str, job: str, output: str) -> str:
        """Return the address in a datastore of an output of a job, or of one of its steps.

        Raises:
            ServiceRefusalError: 404, the job or output does not exist.
        """
        child = self.step(workspace, job)
        produced = child[0].steps.get(child[1], {}) if child else self.get(workspace, job).produced
        if output not in produced:
            raise ServiceRefusalError(404, "UserError", f"the job {job!r} has no output {output!r}")
        return produced[output].uri

    def all(self, workspace: str) -> list[EmulatedJob]:
        """Return the jobs of a workspace, newest first."""
        with self._lock:
            found = [item for item in self._records.values() if item.workspace.lower() == workspace.lower()]
        return sorted(found, key=lambda item: -item.resource.number)

    def preempt(self, name: str) -> None:
        """Take away the machine of a running job, as happens to a spot node, and start the job again on another one.

        The outputs that its steps have mounted exist again as they were.

        Raises:
            ServiceRefusalError: 404, the job does not exist; 409, it is not running.
        """
        record = self.find(name)
        if record.execution is None:
            raise ServiceRefusalError(409, "UserError", f"the job {name!r} is not running")
        record.execution.preempt()

    def on_compute(self, path: str) -> list[str]:
        """Return the names of the jobs that run on the compute at a path, oldest first."""
        with self._lock:
            records = [item for item in self._records.values() if not item.finished]
        return [
            item.name
            for item in records
            if path.lower() in (found.lower() for found in compute_paths(item.resource.properties))
        ]

    def stop(self) -> None:
        """Cancel the running jobs and forget all jobs."""
        with self._lock:
            records = list(self._records.values())
            self._records.clear()
        for record in records:
            self._cancel(record)
        for record in records:
            if record.thread is not None:
                record.thread.join(30)

    def routes(self) -> list[Route]:
        """Return the paths."""
        before = self._subscription.require_workspace
        return [
            route(WORKSPACE + "/jobs", before, GET=self._list),
            route(WORKSPACE + "/jobs/{name}", before, GET=self._get, PUT=self._put, DELETE=self._delete),
            route(WORKSPACE + "/jobs/{name}/cancel", before, POST=self._post_cancel),
        ]

    def describe(self, record: EmulatedJob) -> Json:
        """Return the job as the service does."""
        body = record.resource.to_dict()
        properties = body["properties"]
        properties["status"] = record.status
        for name, produced in record.produced.items():
            properties["outputs"].setdefault(name, {"jobOutputType": produced.type})
            properties["outputs"][name]["uri"] = produced.uri
        if properties["jobType"] == "Command":  # location of its logs; the SDK reads them there
            uri = f"azureml://datastores/{ARTIFACTS}/{record.artifacts}"
            properties["outputs"]["default"] = {"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": uri}
        properties["properties"] = self.properties(record)
        properties["tags"] = self.tags(record)
        properties["services"]["Studio"]["endpoint"] = self._page(
            record.workspace, record.name
        )  # the port may have changed
        for service in properties["services"].values():
            service.update(status="Stopped" if record.finished else "Running", errorMessage="")
        if properties["jobType"] != "Pipeline":
            properties["parameters"] = {}
        return body

    def _services(self, workspace: str, name: str) -> Json:
        """Return the address of a job's page."""
        tracking = f"{self._subscription.url}/mlflow/v1.0{workspace}".replace("https://", "azureml://", 1)
        addresses = {"Tracking": tracking, "Studio": self._page(workspace, name)}
        nothing = dict.fromkeys(("port", "properties", "nodes"))
        return {kind: {"jobServiceType": kind, "endpoint": at, **nothing} for kind, at in addresses.items()}

    def _page(self, workspace: str, name: str) -> str:
        return f"{self._subscription.pages or self._subscription.url}/runs/{name}?wsid={workspace}"

    def properties(self, record: EmulatedJob) -> Json:
        """Return the notes of the service and the client about a job."""
        found = dict(record.resource.properties["properties"])
        if record.message:
            found["message"] = record.message[:1000]
        if record.state.best and record.finished:
            found["best_child_run_id"] = record.child_id(record.state.best)
        return found

    def tags(self, record: EmulatedJob) -> Json:
        """Return the tags of a job; AutoML adds which of its trials was best."""
        automl = record.resource.properties["jobType"] == "AutoML" and record.status == "Completed"
        return {**record.resource.properties["tags"], **({BEST: record.child_id(TRIAL)} if automl else {})}

    def _get(self, call: RestCall) -> Response:
        workspace, name = call.path.rsplit("/jobs/", 1)
        if self.step(workspace, name) is not None:  # nothing else is known about it here
            return reply({"id": call.path, "name": name, "type": "Microsoft.MachineLearningServices/workspaces/jobs"})
        return reply(self.describe(self.get(workspace, name)))

    def _put(self, call: RestCall) -> Response:
        workspace, name = call.path.rsplit("/jobs/", 1)
        record = self._records.get(call.path.lower())
        if record is None:
            return reply(self.describe(self.submit(workspace, name, {"properties": call.properties})), 201)
        kept = record.resource.properties
        for key in (
            "jobType",
            "componentId",
            "jobs",
            "inputs",
            "command",
            "codeId",
            "searchSpace",
            "trial",
            "taskDetails",
        ):
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
            self._subscription.store.delete(_kept_path(record.resource))

        return self._subscription.operations.start(finish)

    def _post_cancel(self, call: RestCall) -> Response:
        record = self.get(*call.path.removesuffix("/cancel").rsplit("/jobs/", 1))
        if record.finished and record.status != "Canceled":
            raise ServiceRefusalError(
                400, "UserError", f"the job {record.name!r} is {record.status} and cannot be cancelled"
            )

        def finish() -> None:
            self._cancel(record)
            record.wait(30)

        return self._subscription.operations.start(finish)

    def _cancel(self, record: EmulatedJob) -> None:
        record.cancelled = True
        self._cancel_if_asked(record)

    @staticmethod
    def _cancel_if_asked(record: EmulatedJob) -> None:
        if record.cancelled and record.execution is not None:
            record.execution.cancel()

    def _run(self, record: EmulatedJob) -> None:
        """Do what the service does with a job, in a separate thread."""
        try:
            record.folder.mkdir(parents=True, exist_ok=True)
            translation = translate(self._subscription, self, record.resource, record.folder / "project")
            status, message = self._watch(record, translation)
        except ServiceRefusalError as refusal:
            status, message = "Failed", refusal.message
        except Exception as error:  # noqa: BLE001  # a thread must tell its job why it ended, whatever the reason
            status, message = "Failed", f"{type(error).__name__}: {error}"
        record.message = message
        if status == "Failed":
            self._tell_reason(record)
        self._remember(record, status)  # first, so that nobody sees an end that a crash would undo
        record.status = status

    def _tell_reason(self, record: EmulatedJob) -> None:
        """Write why a job has failed to its log, if nothing else was written there."""
        output = record.folder / "output.txt"
        if not record.state.logs:
            logs = JobFiles(self._home, record.name, output).state().logs
            record.state = replace(record.state, status="Failed", message=record.message, logs=logs)
        for path in record.state.logs.values():
            if not path.is_file() or path.stat().st_size == 0:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{record.message}\n", encoding="utf-8")

    def _watch(self, record: EmulatedJob, translation: JobTranslation) -> tuple[str, str]:
        """Run a job to its end; return its status and a message."""
        if record.cancelled:
            return "Canceled", ""
        self._home.mkdir(parents=True, exist_ok=True)
        environment = machine_environment()
        variables = self._step_variables(record, translation)
        order = JobOrder(record.name, translation.definition, record.folder, self._home, environment, variables)
        record.execution = self._executor().start(order)
        self._cancel_if_asked(record)  # it may have been requested in between
        while record.state.status not in FINAL:
            state = record.execution.state()
            record.state = state
            if state.status not in FINAL:
                record.status = state.status
                time.sleep(POLL_SECONDS)
        record.status = "Finalizing"
        for step, step_state in record.state.steps.items():
            record.steps[step] = self._keep(
                record,
                record.child_id(step),
                step_state,
                translation.addresses.get(step, {}),
                translation.step_types(step),
            )
        record.produced = self._keep(
            record, record.name, record.state, record.resource.properties["outputs"], translation.output_types
        )
        return record.state.status, record.state.message

    def _step_variables(self, record: EmulatedJob, translation: JobTranslation) -> dict[str, dict[str, str]]:
        """Return variables of the steps of a job by the name of the step; the empty name stands for all.

        They are signed in as the computes are, know the workspace and their own run, and find no other sign-in of ``az``.
        """
        no_sign_in = record.folder / "az"
        no_sign_in.mkdir(exist_ok=True)
        scope, _, workspace = record.workspace.partition("/providers/")
        subscription, group = scope.split("/")[2], scope.split("/")[4]
        name = workspace.rpartition("/")[2]
        common = {
            **self.identity,
            "AZURE_CONFIG_DIR": str(no_sign_in),
            "AZUREML_ARM_SUBSCRIPTION": subscription,
            "AZUREML_ARM_RESOURCEGROUP": group,
            "AZUREML_ARM_WORKSPACE_NAME": name,
            "AZUREML_WORKSPACE_SCOPE": record.workspace,
            "AZUREML_ROOT_RUN_ID": record.name,
        }
        if "AZUREML_WORKSPACE_NAME" in self.identity:
            common["AZUREML_WORKSPACE_NAME"] = name
        if record.resource.properties["jobType"] == "Command":
            return {"": {**common, "AZUREML_RUN_ID": record.name}}
        return {"": common, **{step: {"AZUREML_RUN_ID": record.child_id(step)} for step in translation.names}}

    def _keep(
        self, record: EmulatedJob, run: str, state: ReportedJob | ReportedStep, wanted: Json, types: dict[str, str]
    ) -> dict[str, ProducedOutput]:
        """Put outputs and logs of a run where the SDK expects them."""
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


def _kept_path(job: RestResource) -> str:
    """Return the key for how a job ended; the number distinguishes jobs of the same name."""
    return f"/emulator/jobs/{job.number}"


def _same_job_part(kept: object, wanted: object) -> bool:
    """Return whether a part of a job is unchanged; what the service added does not count."""
    if isinstance(kept, dict) and isinstance(wanted, dict):
        return all(_same_job_part(kept.get(key), value) for key, value in wanted.items() if value is not None)
    return kept == wanted
