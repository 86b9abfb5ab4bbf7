"""Manages the schedules of the workspace: jobs that Azure ML starts at given times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import check_workspace, ml_client, quiet
from vision_mlops.azure.made_tags import made_tags
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError, PipelineError
from vision_mlops.jobs.azureml.azure_records import ScheduleRecord, text_of
from vision_mlops.jobs.azureml.job_resources import Say
from vision_mlops.jobs.azureml.submission import Preparation, checked

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_HINT = "see `mlops pipeline schedule list`"


def create(
    file: Path,
    settings: AzureSettings,
    *,
    environment_file: Path | None = None,
    client: MLClient | None = None,
    say: Say = lambda text: None,
    workload: str = "",
) -> ScheduleRecord:
    """Create a schedule, or change the one of its name; what its job needs is created if it is missing.

    Args:
        file: Azure ML v2 YAML of a schedule.
        settings: The workspace.
        environment_file: YAML of the environment; ``environments/train.yml`` of the project if not given.
        client: Client to use instead of a new one.
        say: Told what is created and uploaded.
        workload: The workload that it belongs to, for `mlops down`; empty for none.

    Raises:
        PipelineError: the definition or that of its job has errors; nothing was sent.
        AzureError: the service refuses.
    """
    definition = checked(file, (), ("schedule",), say)
    if getattr(definition.model, "create_job", None) is None:
        raise PipelineError(f"{file} does not schedule a job", f"use `az ml schedule create --file {file}`")
    client = client or ml_client(settings)
    check_workspace(client, settings)
    with azure_errors(str(file)):
        from azure.ai.ml.entities._load_functions import load_schedule

        preparation = Preparation(client, settings, say, environment_file)
        schedule = preparation.load(definition, load_schedule)
    schedule.tags = {**(schedule.tags or {}), **made_tags(workload)}
    job = schedule.create_job
    if not isinstance(job, str):
        preparation.place(job, file)
        preparation.choose_compute(job)
    with azure_errors(f"schedule {schedule.name!r}"), quiet():
        return _record(client.schedules.begin_create_or_update(schedule).result())


def list_schedules(client: MLClient) -> list[ScheduleRecord]:
    """List all schedules of the workspace by name, including paused ones. Raises AzureError."""
    with azure_errors("schedules"), quiet():
        from azure.ai.ml.constants import ListViewType

        # The values of the SDK's enumeration for schedules are the same.
        found = [_record(item) for item in client.schedules.list(list_view_type=ListViewType.ALL)]
    return sorted(found, key=lambda item: item.name)


def pause(client: MLClient, name: str) -> ScheduleRecord:
    """Stop a schedule from starting jobs until it is resumed. Raises AzureError."""
    return _switch(client, name, on=False)


def resume(client: MLClient, name: str) -> ScheduleRecord:
    """Let a paused schedule start jobs again. Raises AzureError."""
    return _switch(client, name, on=True)


def delete(client: MLClient, name: str) -> None:
    """Delete a schedule; jobs that it started continue. Raises AzureError if it does not exist."""
    if _get(client, name).enabled:
        # The service does not delete an enabled schedule.
        pause(client, name)
    with azure_errors(f"schedule {name!r}", _HINT), quiet():
        client.schedules.begin_delete(name).result()


def _switch(client: MLClient, name: str, *, on: bool) -> ScheduleRecord:
    found = _get(client, name)
    if found.enabled == on:
        return found
    with azure_errors(f"schedule {name!r}", _HINT), quiet():
        begin = client.schedules.begin_enable if on else client.schedules.begin_disable
        begin(name).result()
    found = _get(client, name)
    if found.enabled != on:
        raise AzureError(f"schedule {name!r} is still {'enabled' if found.enabled else 'paused'}", "try again")
    return found


def _get(client: MLClient, name: str) -> ScheduleRecord:
    with azure_errors(f"schedule {name!r}", _HINT), quiet():
        return _record(client.schedules.get(name))


def _record(schedule: Any) -> ScheduleRecord:
    return ScheduleRecord(
        name=str(schedule.name),
        enabled=bool(schedule._is_enabled),
        trigger=_words(schedule.trigger),
        state=text_of(getattr(schedule, "provisioning_state", "")),
        description=str(schedule.description or ""),
    )


def _words(trigger: Any) -> str:
    zone = f" ({text_of(trigger.time_zone)})" if getattr(trigger, "time_zone", None) else ""
    if getattr(trigger, "expression", None):
        return f"cron {trigger.expression}{zone}"
    count = int(trigger.interval or 1)
    unit = text_of(trigger.frequency).lower()
    every = f"every {unit}" if count == 1 else f"every {count} {unit}s"
    pattern = trigger.schedule
    if pattern is None or pattern.hours is None:
        return f"{every}{zone}"
    days = _list(pattern.week_days) or _list(pattern.month_days)
    times = [f"{int(hour):02}:{int(minute):02}" for hour in _list(pattern.hours) for minute in _list(pattern.minutes)]
    on = f" on {', '.join(text_of(day).lower() for day in days)}" if days else ""
    return f"{every}{on} at {', '.join(times)}{zone}"


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
