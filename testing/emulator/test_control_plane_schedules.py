"""Schedules in the loopback cloud, with the real SDK: kept, switched, fired."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from testing.support.rehearsal import Rehearsal

from azureml_emulator.emulated_cloud import EmulatedCloud

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

pytestmark = pytest.mark.slow


def test_a_schedule_starts_its_job(client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal) -> None:
    from azure.ai.ml.entities._load_functions import load_schedule

    made = client.schedules.begin_create_or_update(load_schedule(project / "schedule.yml")).result()
    assert (made.name, made.is_enabled, made.provisioning_state) == ("nightly", True, "Succeeded")
    record = cloud.fire("nightly").wait()
    assert record.status == "Completed"
    assert rehearsal.definition()["display_name"] == "Demonstration"
    assert client.jobs.get(record.name).experiment_name == "demo"
    triggered = client.schedules.trigger("nightly")
    assert cloud.jobs.find(str(triggered.job_name)).wait().status == "Completed"
    assert len(list(client.jobs.list(scheduled_job_name="nightly"))) == 2


def test_a_schedule_is_switched_off_and_deleted(
    client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal
) -> None:
    from azure.ai.ml.constants import ListViewType
    from azure.ai.ml.entities._load_functions import load_schedule
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    client.schedules.begin_create_or_update(load_schedule(project / "schedule.yml")).result()
    assert client.schedules.begin_disable("nightly").result().is_enabled is False
    assert list(client.schedules.list()) == []
    assert [item.name for item in client.schedules.list(list_view_type=ListViewType.ALL)] == ["nightly"]
    with pytest.raises(HttpResponseError, match="disabled"):
        client.schedules.trigger("nightly")
    assert client.schedules.begin_enable("nightly").result().is_enabled is True
    assert [item.name for item in client.schedules.list()] == ["nightly"]
    client.schedules.begin_delete("nightly").result()
    with pytest.raises(ResourceNotFoundError, match="nightly"):
        client.schedules.get("nightly")
