"""Own code of a project goes with the steps that need it, and they are run again when it has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import component, pipeline, ran, run, text, write

from vision_mlops.cli.jobs.own_code_snapshot import step_code
from vision_mlops.cli.jobs.training_pipeline import PIPELINE
from vision_mlops.config import load_workload
from vision_mlops.core.errors import PipelineError
from vision_mlops.jobs.definitions.overrides import parse_changes
from vision_mlops.jobs.definitions.plan.planner import resolve
from vision_mlops.jobs.local.state.job_context import Dependencies

OWN = ("model.transform=my_code.images:same", "evaluation.metrics=[my_code.metrics:top_2]")
FILES = {
    "my_code/images.py": "from .shared import FACTOR\n\n\ndef same(images): return FACTOR * images\n",
    "my_code/shared.py": "FACTOR = 1\n",
    "my_code/metrics.py": "def top_2(labels, probabilities): return 1.0\n",
    "my_code/other.py": "",
    "data/large.bin": "0",
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    for name, content in FILES.items():
        write(root / name, content)
    monkeypatch.chdir(root)
    return root


def workload(*changes: str) -> str:
    return json.dumps(load_workload("textile", [*OWN, *changes]).model_dump(mode="json"))


def codes(file: Path = PIPELINE, given: str = "") -> dict[str, list[str]]:
    """Files that go with each step that some go with."""
    changes = [f"inputs.workload={given or workload()}"] if file.parent == PIPELINE.parent else []
    nodes = resolve(file, changes=parse_changes(changes)).nodes
    found = {node.step: step_code(node) for node in nodes}
    return {
        step: sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
        for step, folder in found.items()
        if folder is not None
    }


def test_each_step_gets_the_files_that_it_reads() -> None:
    trained = ["my_code/images.py", "my_code/shared.py"]
    assert codes() == {"train": trained, "evaluate": ["my_code/metrics.py"]}
    assert codes(PIPELINE.with_name("sweep.yml")) == {"search": trained, "evaluate": ["my_code/metrics.py"]}
    assert codes(given="textile") == {}


def test_what_is_wrong_is_said_before_anything_runs(project: Path) -> None:
    (project / ".amlignore").write_text("my_code/shared.py\n")
    with pytest.raises(
        PipelineError, match=r"my_code/shared.py is needed by the workload, and .amlignore or .gitignore"
    ):
        codes()
    (project / "my_code" / "images.py").write_text("def other(images): ...\n")
    with pytest.raises(PipelineError, match=r"step 'train': model.transform: .* has no 'same'"):
        codes()


def step(**more: Any) -> dict[str, Any]:
    """A step of one's own that shows what lies in its working copy."""
    inputs = {"workload": {"type": "string"}}
    shown = "echo '${{inputs.workload}}' > /dev/null; cat my_code/*.py > ${{outputs.out}}"
    labels = {"mlops.reads.workload": "model"}
    return {
        "component": component(shown, inputs, outputs={"out": "uri_file"}, tags=labels, **more),
        "inputs": {"workload": workload()},
    }


def test_the_engine_copies_it_and_runs_a_step_again_when_it_has_changed(project: Path, without_mlflow: None) -> None:
    file = write(project / "job.yml", pipeline({"a": step()}))
    told = Dependencies(code=step_code)
    first = run(file, dependencies=told)
    assert text(first, "a") == (FILES["my_code/images.py"] + FILES["my_code/shared.py"]).strip()
    write(project / "my_code" / "other.py", "# changed")
    write(project / "my_code" / "metrics.py", "# changed")
    assert ran(run(file, dependencies=told)) == set()
    write(project / "my_code" / "shared.py", "FACTOR = 2\n")
    again = run(file, dependencies=told)
    assert ran(again) == {"a"}
    assert "FACTOR = 2" in text(again, "a")


def test_code_of_the_definition_must_have_it(project: Path) -> None:
    file = write(project / "pipelines" / "job.yml", pipeline({"a": step(code="./steps")}))
    write(project / "pipelines" / "steps" / "my_code" / "other.py", "")
    with pytest.raises(PipelineError, match=r"step 'a', which has code of its own in .*steps: .* no my_code/images.py"):
        codes(file)
    write(project / "pipelines" / "steps" / "my_code" / "images.py", FILES["my_code/images.py"])
    assert codes(file) == {}


def test_a_step_without_tags_gets_all_that_a_workload_as_json_names(project: Path) -> None:
    texts = {"settings": workload(), "other": '{"no": "workload"}', "name": "{none}"}
    part = component("echo '${{inputs.settings}}'", dict.fromkeys(texts, "string"))
    file = write(project / "job.yml", pipeline({"a": {"component": part, "inputs": texts}}))
    assert codes(file) == {"a": ["my_code/images.py", "my_code/metrics.py", "my_code/shared.py"]}
