"""What a command of ours depends on: the parts of the workload that it reads, and no others."""

from __future__ import annotations

import json
import shlex

import pytest

from vision_mlops.config import load_workload
from vision_mlops.config.sections import READS, sections_read
from vision_mlops.config.workload import Workload
from vision_mlops.core.errors import PipelineError
from vision_mlops.jobs.local.steps.dependencies import calls_mlops, identity, source_hash

COMMANDS = {
    "prepare": "mlops data prepare --workload {} --out /x",
    "train": "mlops train --data /d --workload {} --out /x --auto-resume",
    "gate": "mlops gate --candidate /r --workload {} --out /v && mlops models register --verdict /v",
}


def reference(*changes: str) -> str:
    workload = load_workload("textile", changes)
    return shlex.quote(json.dumps(workload.model_dump(mode="json")))


@pytest.mark.parametrize(
    ("change", "affected"),
    [
        ("gate.min_accuracy=0.5", {"gate"}),
        ("training.epochs=9", {"train"}),
        ("model.image_size=64", {"train"}),
        ("data.split.seed=4", {"prepare", "train"}),
        ("name=other", {"prepare", "train"}),
        ("title=Other", {"train"}),
        ("serving.port=81", set()),
    ],
)
def test_a_changed_key_concerns_the_commands_that_read_it(change: str, affected: set[str]) -> None:
    found = {
        name
        for name, command in COMMANDS.items()
        if identity(command.format(reference())) != identity(command.format(reference(change)))
    }
    assert found == affected


def test_name_json_environment_and_default_mean_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = identity("mlops gate --workload textile --out /v")
    assert identity(f"mlops gate --workload {reference()} --out /v") == plain
    assert identity(f"mlops gate --workload={reference()} --out /v") == plain
    default = identity("mlops gate --out /v")
    monkeypatch.setenv("MLOPS_GATE__MIN_ACCURACY", "0.5")
    assert identity("mlops gate --out /v") != default, "the environment is laid over the workload"


@pytest.mark.parametrize(
    ("command", "ours"),
    [
        ("mlops train --data d", True),
        ("A=1 mlops train", True),
        ("python -m vision_mlops train", True),
        ("torchrun --nproc-per-node 2 -m vision_mlops train", True),
        ("cd x && mlops gate", True),
        ("echo mlops", False),
        ("python train.py --note 'mlops train'", False),
        ("echo 'a quote that is open", False),
    ],
)
def test_whose_command_it_is(command: str, ours: bool) -> None:
    assert calls_mlops(command) is ours


def test_a_workload_that_does_not_exist() -> None:
    with pytest.raises(PipelineError, match="there is no workload 'textil'"):
        identity("mlops train --workload textil")


def test_sections_exist_and_others_are_read_whole() -> None:
    assert all(set(sections) <= set(Workload.model_fields) for sections in READS.values())
    assert sections_read(["evaluate", "--bundle"]) == tuple(Workload.model_fields)


def test_the_source_is_hashed(home: object) -> None:
    assert len(source_hash()) == 64
