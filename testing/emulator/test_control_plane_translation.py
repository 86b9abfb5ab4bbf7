"""Submitted jobs are translated back to Azure ML v2 YAML that says the same, and that our linter takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from testing.support.rehearsal import Rehearsal
from testing.support.submissions import SWEEP, finished, submit

from azureml_emulator.emulated_cloud import EmulatedCloud
from vision_mlops.jobs.pipelines import PIPELINES

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

pytestmark = pytest.mark.slow
SHIPPED = sorted(PIPELINES.glob("*.yml"))


def test_a_submitted_pipeline_becomes_a_project_that_lints(
    client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal
) -> None:
    from vision_mlops.jobs.definitions.linter.linter import lint

    submit(client, project / "large.yml")
    finished(cloud)
    file = rehearsal.orders[0].definition
    assert [str(finding) for finding in lint([file])] == []
    found = rehearsal.definition()
    assert (found["display_name"], found["experiment_name"], found["tags"]) == (
        "Demonstration",
        "demo",
        {"who": "test"},
    )
    assert found["inputs"] == {
        "raw": {"type": "uri_folder", "path": "./data/raw/images", "mode": "ro_mount"},
        "rate": "0.01",
    }
    assert (file.parent / "data" / "raw" / "images" / "b" / "c.txt").read_text() == "c"
    assert list(found["jobs"]) == ["prep", "fit", "inline", "score", "search", "whole"]
    assert found["jobs"]["prep"]["inputs"] == {"raw": "${{parent.inputs.raw}}", "share": "0.3"}
    assert found["jobs"]["prep"]["environment_variables"] == {"LEVEL": "high"}
    assert found["jobs"]["search"]["early_termination"]["type"] == "bandit"


def test_a_component_is_what_it_was(
    client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal
) -> None:
    import yaml

    submit(client, project / "large.yml")
    finished(cloud)
    folder = rehearsal.orders[0].folder / "project"
    prep = yaml.safe_load((folder / rehearsal.definition()["jobs"]["prep"]["component"]).read_text())
    assert prep["inputs"] == {
        "raw": {"type": "uri_folder"},
        "share": {"type": "number", "default": 0.2, "min": 0.05, "max": 0.5},
        "note": {"type": "string", "optional": True},
    }
    assert prep["environment"] == "azureml:train:3"
    assert "$[[--note ${{inputs.note}}]]" in prep["command"]
    assert (folder / prep["code"] / "prep.py").read_text() == "print('prep')\n"
    inline = yaml.safe_load((folder / rehearsal.definition()["jobs"]["inline"]["component"]).read_text())
    assert inline["environment"] == {"image": "python:3.11"}


def test_a_sweep_is_what_it_was(client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal) -> None:
    import yaml

    from vision_mlops.jobs.definitions.linter.linter import lint

    submit(client, project / "sweep.yml")
    finished(cloud)
    assert lint([rehearsal.orders[0].definition]).errors == []
    found, given = rehearsal.definition(), yaml.safe_load(SWEEP)
    for key in ("search_space", "sampling_algorithm", "objective", "limits", "early_termination"):
        assert found[key] == given[key]
    assert found["trial"]["command"] == given["trial"]["command"]


def test_a_command_is_what_it_was(client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal) -> None:
    from vision_mlops.jobs.definitions.linter.linter import lint

    submit(client, project / "command.yml")
    finished(cloud)
    assert lint([rehearsal.orders[0].definition]).errors == []
    found = rehearsal.definition()
    assert found["inputs"] == {"word": "hello", "data": {"type": "uri_file", "path": "./data/data/a.txt"}}
    assert found["limits"] == {"timeout": 120}
    assert found["environment_variables"]["LEVEL"] == "high"


def _said(definition: Path) -> dict[str, object]:
    """What a job says about each step, values as text: so the service keeps them."""
    import yaml

    content = yaml.safe_load(definition.read_text(encoding="utf-8"))
    if "create_job" in content:
        job = content["create_job"]
        return _said(definition.parent / (job if isinstance(job, str) else job["job"]).removeprefix("file:"))
    steps = content.get("jobs", {"job": content})
    kept = ("type", "search_space", "objective", "limits", "early_termination", "sampling_algorithm")
    return {
        name: {
            "inputs": {key: str(value) for key, value in step.get("inputs", {}).items() if not isinstance(value, dict)},
            **{key: step[key] for key in kept if key in step},
        }
        for name, step in steps.items()
    }


@pytest.mark.parametrize("definition", SHIPPED, ids=lambda path: path.stem)
def test_what_ships_goes_there_and_back(
    client: MLClient, cloud: EmulatedCloud, rehearsal: Rehearsal, tmp_path: Path, definition: Path
) -> None:
    from azure.ai.ml import load_component, load_job
    from azure.ai.ml.entities import Data, Environment, Model
    from azure.ai.ml.entities._load_functions import load_schedule

    from vision_mlops.jobs.definitions.linter.linter import lint

    cloud.add_compute("gpu-cluster", size="Standard_NC4as_T4_v3")
    client.environments.create_or_update(Environment(name="vision-mlops-train", version="1", image="python:3.11"))
    (tmp_path / "asset").mkdir()
    (tmp_path / "asset" / "a.txt").write_text("a")
    folder = str(tmp_path / "asset")
    client.data.create_or_update(Data(name="images", version="1", path=folder, type="uri_folder"))
    client.models.create_or_update(Model(name="textile", version="1", path=folder, type="custom_model"))
    kind = definition.read_text(encoding="utf-8").split("\n", 1)[0].rsplit("/", 1)[-1].removesuffix(".schema.json")
    if kind == "pipelineComponent":
        made = client.components.create_or_update(load_component(definition))
        assert client.components.get(str(made.name), str(made.version)).id == made.id
        return
    if kind == "schedule":
        schedule = load_schedule(definition)
        client.schedules.begin_create_or_update(schedule).result()
        record = cloud.fire(str(schedule.name)).wait()
        assert record.status == "Completed", record.message
    else:
        job = load_job(definition)
        job.name = "job"
        client.jobs.create_or_update(job)
        finished(cloud)
    there = rehearsal.orders[0].definition
    assert [str(finding) for finding in lint([there]).errors] == []
    assert _said(there) == _said(definition)
