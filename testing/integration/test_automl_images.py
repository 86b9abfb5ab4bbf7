"""The contestant automl-images over HTTP, on the emulator; with MLOPS_LIVE_AZURE=1 in the workspace that AZURE_* name.

A live run trains on the cluster that MLOPS_AZURE_GPU_CLUSTER names, for as long as AutoML takes. It was never run live.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from testing.support.places import LIVE, Place
from testing.support.prepared_data import make_prepared
from testing.support.rehearsal import Rehearsal

from azureml_emulator.jobs.job_executor import CommandExecutor
from vision_mlops.benchmark.automl.automl_contestant import AutomlImages
from vision_mlops.benchmark.automl.kept_training import KeptTraining
from vision_mlops.benchmark.contestant import Contestant, Task
from vision_mlops.config.workload_files import load_workload
from vision_mlops.core.errors import AzureError, ConfigError, DataError
from vision_mlops.data.folder_contents import describe
from vision_mlops.data.manifest import Manifest, write_manifest
from vision_mlops.jobs.azureml.data_assets import find_or_create

GPU = "gpu-cluster"


@pytest.fixture
def workspace(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The workspace, with a setting for the cluster; jobs really run."""
    if place.cloud is not None:
        place.cloud.executor = CommandExecutor()
        monkeypatch.setenv("MLOPS_AZURE_GPU_CLUSTER", GPU)
        monkeypatch.setenv("MLOPS_AZURE_AUTOML_MODEL", "mobilenetv2")
    return place


class Attempt:
    """Prepared data of three colours, and a run of the contestant with them."""

    def __init__(self, folder: Path, **counts: int) -> None:
        self.said: list[str] = []
        self.folder = folder
        self.data = folder / "data"
        self.manifest = make_prepared(self.data, **counts)
        (folder / "own").mkdir()

    def contestant(self) -> AutomlImages:
        task = Task(load_workload("textile"), self.data, self.manifest, self.folder / "own", self.said.append)
        return AutomlImages(task)

    def accuracy(self, contestant: Contestant) -> float:
        test = contestant.task.images("test")
        probabilities = contestant.predict(test.files)
        assert probabilities.shape == (len(test.files), len(self.manifest.classes))
        np.testing.assert_allclose(probabilities.sum(1), 1)
        return float((probabilities.argmax(1) == test.labels).mean())

    def shuffle(self) -> None:
        """Give the images labels that have nothing to do with them; those of the test images stay."""
        learnt = [image for image in self.manifest.images if image.split != "test"]
        labels = iter(np.random.default_rng(0).permutation([image.label for image in learnt]))
        images = [
            image if image.split == "test" else image.model_copy(update={"label": str(next(labels))})
            for image in self.manifest.images
        ]
        self.manifest = write_manifest(self.data, self.manifest.model_copy(update={"images": images}))


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    return Attempt(tmp_path)


def test_learns_predicts_and_cleans_up(workspace: Place, attempt: Attempt) -> None:
    contestant = attempt.contestant()
    contestant.fit()
    print("\n".join(attempt.said))
    assert attempt.accuracy(contestant) == 1
