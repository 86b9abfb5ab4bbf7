"""What the results of our steps depend on: the sections of the workload and the code that their tags name, and no others."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from testing.support.jobs import command, component, pipeline, ran, run, write
from testing.support.prepared_data import make_prepared

import vision_mlops
import vision_mlops.cli.main  # which names the commands
from vision_mlops.cli import commands
from vision_mlops.cli.jobs import step_dependencies as told
from vision_mlops.cli.jobs.training_pipeline import PIPELINE
from vision_mlops.config import load_workload
from vision_mlops.config.workload import Workload
from vision_mlops.core.errors import PipelineError
from vision_mlops.core.hashing import Fingerprints
from vision_mlops.core.import_graph import ImportGraph
from vision_mlops.jobs.definitions import tags
from vision_mlops.jobs.definitions.overrides import parse_changes
from vision_mlops.jobs.definitions.plan.nodes import Node, SearchedValue, Value
from vision_mlops.jobs.definitions.plan.planner import resolve
from vision_mlops.jobs.local.state.job_context import Dependencies
from vision_mlops.jobs.local.steps.cache_keys import step_key

PACKAGE = Path(vision_mlops.__file__).parent
GRAPH = ImportGraph(PACKAGE)
SHIPPED = Dependencies(sections=told.workload_sections, software=told.Software(GRAPH).of)


def as_json(*changes: str) -> str:
    return json.dumps(load_workload("textile", changes).model_dump(mode="json"))


def nodes_of(file: Path, *changes: str) -> list[Node]:
    return list(resolve(file, changes=parse_changes(changes, Path.cwd())).nodes)


def texts_of(node: Node) -> dict[str, str]:
    """Its inputs, as if each step that it reads from had written a folder; those that a sweep searches have no value yet."""
    given = {name: source for name, source in node.inputs.items() if not isinstance(source, SearchedValue)}
    return {name: source.text if isinstance(source, Value) else f"/{name}" for name, source in given.items()}


def keys(file: Path, *changes: str, dependencies: Dependencies = SHIPPED) -> dict[str, str]:
    """Cache key of each step of a job, where what it reads of other steps is always the same."""
    with Fingerprints() as fingerprints:
        nodes = nodes_of(file, *changes)
        made = {f"{node.step}:{name}": "made" for node in nodes for name in node.outputs}
        here = SimpleNamespace(of=lambda node: SimpleNamespace(content=""))
        context: Any = SimpleNamespace(
            fingerprints=fingerprints, hashes=made, dependencies=dependencies, environments=here
        )
        return {node.step: step_key(context, node, texts_of(node)) for node in nodes}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {step for step, key in after.items() if key != before[step]}


CHANGES = {
    "name=other": {"prepare", "train"},
    "title=Other": {"train"},
    "data.split.seed=4": {"prepare", "train"},
    "model.image_size=64": {"train"},
    "training.epochs=9": {"train"},
    "evaluation.robustness=true": {"evaluate"},
    "gate.min_accuracy=0.5": {"gate_and_register"},
    "gate.min_robustness_accuracy=0.5": {"evaluate", "gate_and_register"},
    "serving.port=81": set(),
}


def test_each_section_is_changed() -> None:
    assert {change.partition("=")[0].partition(".")[0] for change in CHANGES} == set(Workload.model_fields)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_key_concerns_the_steps_that_read_it(home: Path, change: str) -> None:
    before, after = (keys(PIPELINE, f"inputs.workload={text}") for text in (as_json(), as_json(change)))
    assert changed(before, after) == CHANGES[change]


@pytest.mark.parametrize("name", ["sweep.yml", "sweep-grid.yml", "sweep-bayesian.yml"])
def test_a_sweep_goes_by_the_tags_of_its_trial(home: Path, name: str) -> None:
    before, gate, rate = (
        keys(PIPELINE.with_name(name), f"inputs.workload={as_json(*changes)}")
        for changes in ((), ("gate.min_accuracy=0.5",), ("training.warmup=0.5",))
    )
    assert changed(before, gate) == set()
    assert changed(before, rate) == {"search"}


def test_name_file_json_and_default_are_the_same(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "code" / "own.yml", (PACKAGE / "config" / "workloads" / "textile.yml").read_text())
    read = (None, tmp_path / "code")
    sections = ("name", "training")
    texts = ["textile", "", as_json(), str(tmp_path / "code" / "own.yml"), "own.yml"]
    (found,) = {told.workload_sections(text, sections, read[text == "own.yml"]) for text in texts}
    assert found is not None
    assert json.loads(found).keys() == set(sections)
    before = keys(PIPELINE)
    assert keys(PIPELINE, f"inputs.workload={as_json()}") == before
    assert keys(PIPELINE, f"inputs.workload={tmp_path / 'code' / 'own.yml'}") == before
    # The environment is laid over the workload, and counts by section.
    monkeypatch.setenv("MLOPS_TRAINING__EPOCHS", "7")
    assert changed(before, keys(PIPELINE)) == {"train"}


@pytest.mark.parametrize("text", ["later.yml", "$WORKLOAD", "${WORKLOAD}.yml"])
def test_what_only_the_step_knows_counts_as_text(text: str, tmp_path: Path) -> None:
    assert told.workload_sections(text, ("gate",), tmp_path) is None


def step(text: str, workload: str, **labels: str) -> dict[str, Any]:
    """A component with an input ``workload``."""
    return {
        "component": component(
            text, {"workload": {"type": "string", "default": "textile"}}, outputs={"out": "uri_file"}, tags=labels
        ),
        "inputs": {"workload": workload},
    }


TEXT = "echo '${{inputs.workload}}' && mlops --version > ${{outputs.out}}"


def job(tmp_path: Path, workload: str, text: str = TEXT, **labels: str) -> Path:
    return write(tmp_path / "job.yml", pipeline({"a": step(text, workload, **labels)}))


@pytest.mark.slow
def test_without_a_tag_nothing_is_left_out(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = keys(job(tmp_path, as_json()))
    assert changed(before, keys(job(tmp_path, as_json("serving.port=81")))), "the whole text counts"
    monkeypatch.setenv("MLOPS_SERVING__PORT", "81")
    assert changed(before, keys(job(tmp_path, as_json()))), "it may read what the environment says"
    monkeypatch.delenv("MLOPS_SERVING__PORT")
    assert keys(job(tmp_path, as_json())) == before
    write(tmp_path / "workloads" / "birds.yml", {"name": "birds"})
    assert changed(before, keys(job(tmp_path, as_json()))), "it may read each workload by its name"


def test_a_command_that_takes_a_workload_needs_both_tags_to_read_less(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"mlops.command": "train", "mlops.reads.workload": "model"}
    labels: list[dict[str, str]] = [{"mlops.command": "models register"}, {"mlops.command": "train"}, both]
    jobs = [pipeline({"a": step(TEXT, "textile", **each)}) for each in labels]
    files = [write(tmp_path / f"{number}.yml", content) for number, content in enumerate(jobs)]
    before = [keys(file) for file in files]
    monkeypatch.setenv("MLOPS_SERVING__PORT", "81")
    assert [bool(changed(old, keys(file))) for old, file in zip(before, files, strict=True)] == [False, True, False]


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("mlops train --data d", True),
        ("python -m vision_mlops train", True),
        ("if true; then mlops gate; fi", True),
        ("bash <<'END'\nmlops train # it's\nEND", True),
        ("echo 'a quote that is open", False),
        ("python train.py", False),
        ("echo mlopsy", False),
    ],
)  # fmt: skip
def test_a_step_without_tags_is_ours_where_it_mentions_us(home: Path, tmp_path: Path, text: str, ours: bool) -> None:
    (node,) = nodes_of(write(tmp_path / "job.yml", pipeline({"a": command(text)})))
    assert bool(told.Software(GRAPH).of(node, {})) is ours


def test_python_files_of_the_code_count_with_what_they_import(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "code" / "part.py", "from vision_mlops.data.splits import assign\n")
    write(tmp_path / "plain" / "part.py", "print('vision-mlops')\n")
    steps = {name: command("python part.py", code=f"./{name}") for name in ("code", "plain")}
    ours, plain = nodes_of(write(tmp_path / "job.yml", pipeline(steps)))
    software = told.Software(GRAPH)
    assert software.of(plain, {}) == ""
    with Fingerprints() as fingerprints:
        reached = [
            path.as_posix() for path in GRAPH.reached(["vision_mlops", "vision_mlops.data", "vision_mlops.data.splits"])
        ]
        assert software.of(ours, {}) == fingerprints.of_files(PACKAGE, reached)


@pytest.mark.parametrize(
    ("workload", "labels", "message", "hint"),
    [
        ("textil", {"mlops.reads.workload": "gate"}, "step 'a': unknown workload 'textil'", "did you mean 'textile'"),
        ('{"name": "own", "trainin": {}}', {"mlops.reads.workload": "gate"}, "unknown key 'trainin'", "'training'"),
        ("textile", {"mlops.reads.workload": "gate, trainin"}, "no section 'trainin'", "did you mean 'training'"),
        ("textile", {"mlops.reads.workloads": "gate"}, "'mlops.reads.workloads' does not name", "did you mean 'workload'"),
        ("textile", {"mlops.command": "data prepar"}, "names 'data prepar'", "did you mean 'data prepare'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_before_anything_runs(
    home: Path, tmp_path: Path, workload: str, labels: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(PipelineError, match=message) as caught:
        run(job(tmp_path, workload, "true > ${{outputs.out}}", **labels), dependencies=SHIPPED)
    assert hint in caught.value.hint
    assert not (home / "jobs").exists()


def test_a_workload_that_another_step_writes(home: Path, tmp_path: Path, without_mlflow: None) -> None:
    """It is looked at once it is there, and then counts by its sections as any other."""
    part = component(
        "cat ${{inputs.settings}} > ${{outputs.out}}", {"settings": "uri_file"}, outputs={"out": "uri_file"},
        tags={"mlops.reads.settings": "gate"},
    )  # fmt: skip
    file = tmp_path / "job.yml"

    def ended(text: str) -> set[str]:
        made = command(f"echo '{text}' > ${{{{outputs.out}}}}/own.yml", {"out": "uri_folder"})
        link = command("cp ${{inputs.x}}/own.yml ${{outputs.out}}", {"out": "uri_file"},
                       inputs={"x": "${{parent.jobs.made.outputs.out}}"})  # fmt: skip
        reads = {"component": part, "inputs": {"settings": "${{parent.jobs.link.outputs.out}}"}}
        write(file, pipeline({"made": made, "link": link, "reads": reads}))
        return ran(run(file, dependencies=SHIPPED))

    assert ended("{name: own}") == {"made", "link", "reads"}
    assert "reads" in ended("{name: own, gate: {min_accuracy: 0.5}}")


# One file of each room of the package, and the steps of the shipped jobs that can reach it. A new room wants a line here.
ROOMS: dict[str, set[str]] = {
    "__init__.py": {"prepare", "train", "evaluate", "gate_and_register", "score"},
    "__main__.py": set(),
    "azure/azure_errors.py": {"prepare", "gate_and_register"},
    "benchmark/contestant.py": set(),
    "batch/prediction_rows.py": {"score"},
    "cli/train.py": {"train"},
    "config/workload.py": {"prepare", "train", "evaluate", "gate_and_register"},
    "containers/container_engine.py": set(),
    "core/errors.py": {"prepare", "train", "evaluate", "gate_and_register", "score"},
    "data/prepare.py": {"prepare"},
    "devops/run_start.py": {"gate_and_register"},
    "doctor/machine_checks.py": set(),
    "endpoints/deployment.py": set(),
    "evaluation/metrics.py": {"train", "evaluate", "gate_and_register"},
    "flask_app/app.py": set(),
    "images/jpeg.py": {"prepare", "train", "evaluate", "gate_and_register", "score"},
    "jobs/local/engine/scheduler.py": set(),
    "model/network.py": {"train"},
    "project/new_project.py": set(),
    "notebooks/notebook_project.py": set(),
    "registry/mlflow_registry.py": {"gate_and_register"},
    "rollout/driver.py": set(),
    "serving/scoring_app.py": set(),
    "storage/uploads.py": {"prepare"},
    "teardown/prices.py": set(),
    "tracking/mlflow_runs.py": {"train", "evaluate", "gate_and_register"},
    "training/fit.py": {"train"},
}


def test_each_room_has_a_file_in_the_list() -> None:
    rooms = {
        path.name for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").is_file())
    }  # fmt: skip
    assert {Path(name).parts[0] for name in ROOMS} == rooms
    assert all((PACKAGE / name).is_file() for name in ROOMS)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> ImportGraph:
    root = tmp_path_factory.mktemp("source") / PACKAGE.name
    shutil.copytree(PACKAGE, root, ignore=shutil.ignore_patterns("__pycache__"))
    return ImportGraph(root)


@pytest.mark.parametrize("name", ROOMS)
def test_a_changed_file_concerns_the_steps_that_can_reach_it(home: Path, copied: ImportGraph, name: str) -> None:
    nodes = [node for file in ("train.yml", "score-batch.yml") for node in nodes_of(PIPELINE.with_name(file))]
    assert {node.step for node in nodes} == {"prepare", "train", "evaluate", "gate_and_register", "score"}

    def hashes() -> dict[str, str]:
        software = told.Software(copied)
        return {node.step: software.of(node, texts_of(node)) for node in nodes}

    before = hashes()
    assert all(before.values())
    with (copied.root / name).open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    assert changed(before, hashes()) == ROOMS[name]


COMPONENTS = sorted((PIPELINE.parent / "components").glob("*.yml"))


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.stem)
def test_the_tags_of_a_component_are_those_of_its_command(path: Path) -> None:
    """They name each command that it runs, and sections of each workload that a command is given."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    parts = " ".join(content.get("command", "").split()).split(" && ")
    words = [shlex.split(part)[1:] for part in parts if part]
    named = tags.commands(content.get("tags", {}))
    assert [tuple(item[: len(name.split())]) for item, name in zip(words, named, strict=True)] == [
        tuple(name.split()) for name in named
    ]
    reads = tags.sections_read(content.get("tags", {}))
    assert set(reads) == ({"workload"} if "--workload" in content.get("command", "") else set())
    assert all(set(sections) <= set(Workload.model_fields) for sections in reads.values())


def test_a_bundle_records_what_training_reads() -> None:
    from vision_mlops.training.fit import TRAINED_FROM

    content = yaml.safe_load((PIPELINE.parent / "components" / "train.yml").read_text(encoding="utf-8"))
    assert set(tags.sections_read(content["tags"])["workload"]) == TRAINED_FROM


WATCHED = """\
import json, sys
from vision_mlops.cli.main import app
before = set(sys.modules)
app(sys.argv[2:], standalone_mode=False)
found = sorted(name for name in set(sys.modules) - before if name.partition(".")[0] == "vision_mlops")
open(sys.argv[1], "w").write(json.dumps(found))
"""
CHANGED = (
    "model.backbone=test_resnet", "model.pretrained=false", "model.image_size=32", "model.frozen_stages=0",
    "training.epochs=1", "training.batch_size=8", "training.accelerator=cpu",
)  # fmt: skip
QUICK = [item for change in CHANGED for item in ("--set", change)]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """What the commands of the pipeline really import when they run, beyond the command line itself."""
    folder = tmp_path_factory.mktemp("imported")
    make_prepared(folder / "data")
    commands = {
        "data prepare": ["--images", "data/train", "--out", "prepared"],
        "train": ["--data", "data", "--out", "bundle", *QUICK],
        "evaluate": ["--bundle", "bundle", "--data", "data", "--out", "report"],
        "gate": ["--candidate", "report", "--against", "textile", "--data", "data", "--out", "verdict.json"],
        "models register": [
            "--bundle",
            "bundle",
            "--name",
            "textile",
            "--metrics",
            "report",
            "--verdict",
            "verdict.json",
        ],
    }
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_HOME", str(folder / "home"))
        for name, words in commands.items():
            call = [sys.executable, "-c", WATCHED, "found.json", *name.split(), *words]
            done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            found[name] = set(json.loads((folder / "found.json").read_text()))
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data prepare", "train", "evaluate", "gate", "models register"])
def test_what_a_command_imports_is_among_what_it_reaches(imported: dict[str, set[str]], name: str) -> None:
    module = commands.callbacks()[name].__module__
    reached = {f"vision_mlops/{path.as_posix()}" for path in GRAPH.reached([module])}
    files = {imported_name: imported_name.replace(".", "/") for imported_name in imported[name]}
    assert len(files) > 2
    assert not {each for each, path in files.items() if not {f"{path}.py", f"{path}/__init__.py"} & reached}
