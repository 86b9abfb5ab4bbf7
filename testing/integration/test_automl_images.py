"""The contestant automl-images over HTTP, on the emulator; with MLOPS_LIVE_AZURE=1 in the workspace that AZURE_* name.

A live run trains on the cluster that MLOPS_AZURE_GPU_CLUSTER names, for as long as AutoML takes. It was never run live.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from testing.support.places import LIVE, Place
from testing.support.prepared_data import make_prepared
from testing.support.rehearsal import Rehearsal
from testing.support.submissions import finished

from azureml_emulator.jobs.automl_translation import TRIAL
from azureml_emulator.jobs.job_executor import CommandExecutor
from vision_mlops.benchmark.automl.automl_contestant import AutomlImages, KeptTraining
from vision_mlops.benchmark.contestant import Task, Usage
from vision_mlops.config.workload_files import load_workload
from vision_mlops.core.errors import AzureError, ConfigError, DataError, MlopsError
from vision_mlops.data.folder_contents import describe
from vision_mlops.data.manifest import Manifest, read_manifest, write_manifest
from vision_mlops.jobs.azureml import azure_jobs
from vision_mlops.jobs.azureml.data_assets import find_or_create

GPU, SIZE = "gpu-cluster", "Standard_NC4as_T4_v3"
# Read here, before each test takes the machine's variables away.
CLUSTER = os.environ.get("MLOPS_AZURE_GPU_CLUSTER", GPU) if LIVE else GPU
# The same in another process, which is told where the SDK is to upload to.
CLIENT = """
import sys
from pathlib import Path
from azure.ai.ml.constants import _common
from testing.integration.test_automl_images import Attempt

if sys.argv[2]:
    _common.STORAGE_ACCOUNT_URLS["AzureBlob"] = sys.argv[2]
attempt = Attempt(Path(sys.argv[1]))
attempt.say = lambda text: print(text, flush=True)
attempt.contestant().fit()
"""


class Attempt:
    """A run of the contestant with prepared data, which are made where there are none; ``said`` is what it told."""

    def __init__(self, folder: Path, **counts: int) -> None:
        self.said: list[str] = []
        self.say = self.said.append
        self.folder, self.data = folder, folder / "data"
        if not self.data.is_dir():
            make_prepared(self.data, **counts)
        self.manifest: Manifest = read_manifest(self.data)
        (folder / "own").mkdir(exist_ok=True)

    def contestant(self) -> AutomlImages:
        task = Task(load_workload("textile"), self.data, self.manifest, self.folder / "own", self.say)
        return AutomlImages(task)

    def kept(self) -> KeptTraining:
        found = KeptTraining.read(self.folder / "own")
        assert found is not None
        return found


@pytest.fixture
def workspace(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The workspace, and settings for the cluster and a small network."""
    monkeypatch.setattr(AutomlImages, "poll_seconds", (0.5, 2.0))
    monkeypatch.setenv("MLOPS_AZURE_AUTOML_MODEL", "mobilenetv2")
    monkeypatch.setenv("MLOPS_AZURE_GPU_CLUSTER", CLUSTER)
    return place


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    return Attempt(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7200 if LIVE else 300)
def test_a_killed_run_goes_on_with_its_job(workspace: Place, attempt: Attempt, tmp_path: Path) -> None:
    storage = ""
    if workspace.cloud is not None:
        workspace.cloud.executor = CommandExecutor()
        storage = workspace.cloud.blobs.account_url
    words = [sys.executable, "-c", CLIENT, str(tmp_path), storage]
    # The SDK sets this one itself, and reads it while it is imported.
    environment = {key: value for key, value in os.environ.items() if key != "AZUREML_CURRENT_CLOUD"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as client:
        assert client.stdout is not None
        said = []
        for line in client.stdout:
            said.append(line)
            if line.startswith("job ") and " trains mobilenetv2 on " in line:
                client.send_signal(signal.SIGKILL)
    assert client.returncode == -signal.SIGKILL, said
    job = attempt.kept().job
    contestant = attempt.contestant()
    contestant.fit()
    assert f"continuing with the job {job}" in attempt.said
    assert f"job {job}: Completed" in attempt.said
    assert not [line for line in attempt.said if "uploaded" in line]
    test = contestant.task.images("test")
    probabilities = contestant.predict(test.files)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (probabilities.argmax(1) == test.labels).all()
    assert contestant.size_bytes() == (tmp_path / "own" / "model" / "model.onnx").stat().st_size
    usage, seconds = contestant.usage(), contestant.training_seconds()
    assert seconds is not None
    assert seconds > 0
    assert usage == Usage(training={f"vm_hour.{attempt.kept().machine}": seconds / 3600})
    if workspace.cloud is not None:
        assert "[trial_0] 24 training and 12 validation images, 3 classes" in attempt.said
        assert workspace.count(f"/jobs/{job}", "PUT") == 1
        stored = workspace.cloud.blobs.names(workspace.cloud.container("workspaceblobstore"), "mlops/automl/")
        hashes = {record.sha256 for record in attempt.manifest.images if record.split != "test"}
        assert {Path(name).stem for name in stored if "/images/" in name} == hashes
        requests = workspace.count("/")
        attempt.contestant().fit()  # all is on this machine
        assert workspace.count("/") == requests
    assert 0 < azure_jobs.tracked(workspace.client, workspace.settings, job).metrics["accuracy"] <= 1
    contestant.clean_up()
    found = workspace.client.jobs.get(job)
    assert (type(found).__name__, found.training_parameters.model_name) == ("ImageClassificationJob", "mobilenetv2")
    assert (found.tags["mlops.made-by"], found.tags["mlops.workload"]) == ("mlops", "textile")
    assert job not in [item.name for item in workspace.client.jobs.list()]
    if workspace.cloud is not None:
        assert not workspace.cloud.blobs.names(workspace.cloud.container("workspaceblobstore"), "mlops/automl/")
    contestant.clean_up()  # finds nothing, and is content
    if workspace.cloud is not None:
        (tmp_path / "own").rename(tmp_path / "before")
        anew = Attempt(tmp_path)
        anew.contestant().fit()
        trained = finished(workspace.cloud, anew.kept().job).state.steps[TRIAL]
        assert not trained.reused, "AutoML reuses nothing of an earlier job on the same images"


@pytest.mark.slow
def test_shuffled_labels_are_what_is_learnt(workspace: Place, tmp_path: Path) -> None:
    """Numbers come from the images and labels that were sent: with labels by chance, they are by chance."""
    workspace.loopback.executor = CommandExecutor()
    attempt = Attempt(tmp_path, train=20, val=10, test=10)
    images = attempt.manifest.images
    learnt = [image.label for image in images if image.split != "test"]
    labels = iter(np.random.default_rng(0).permutation(learnt))
    changed = [
        image if image.split == "test" else image.model_copy(update={"label": str(next(labels))}) for image in images
    ]
    attempt.manifest = write_manifest(attempt.data, attempt.manifest.model_copy(update={"images": changed}))
    contestant = attempt.contestant()
    contestant.fit()
    test = contestant.task.images("test")
    probabilities = contestant.predict(test.files)
    assert (probabilities.argmax(1) == test.labels).mean() < 0.7
    assert probabilities.max(1).mean() < 0.7


@pytest.mark.slow
def test_data_that_are_registered_are_not_uploaded_again(workspace: Place, attempt: Attempt) -> None:
    """The rehearsed job makes no network; what it was given is looked at."""
    cloud = workspace.loopback
    version, _ = find_or_create(workspace.client, workspace.settings, describe(attempt.data), "textile")
    with pytest.raises(AzureError, match=r"left no labels\.json"):
        attempt.contestant().fit()
    assert "the images are those of azureml:textile:1" in attempt.said
    container = cloud.container("workspaceblobstore")
    names = cloud.blobs.names(container, "mlops/automl/")
    files = [name.split("/", 4)[-1] for name in names]
    assert files == ["training/MLTable", "training/images.jsonl", "validation/MLTable", "validation/images.jsonl"]
    lines = cloud.blobs.read(container, names[1]).decode().splitlines()
    assert len(lines) == 24
    assert f'"image_url": "{version.path.rstrip("/")}/train/blue/000.png", "label": "blue"' in lines[0]


@pytest.mark.slow
def test_a_job_that_was_named_is_submitted_once(workspace: Place, attempt: Attempt) -> None:
    """As after a kill between the two: its name was written down, and nobody has sent it."""
    chosen, name = workspace.settings, "automl-textile-1"
    place = f"{chosen.subscription_id}/{chosen.resource_group}/{chosen.workspace_name}"
    KeptTraining(workspace=place, job=name, jobs=[name]).write(attempt.folder / "own")
    for _ in range(2):
        with pytest.raises(AzureError, match=r"left no labels\.json"):
            attempt.contestant().fit()
        assert workspace.count("/jobs/", "PUT") == workspace.count(f"/jobs/{name}", "PUT") == 1
    assert attempt.kept().jobs == [name]


@pytest.mark.slow
def test_what_runs_is_cancelled_by_the_clean_up(workspace: Place, attempt: Attempt) -> None:
    workspace.loopback.executor = Rehearsal(held=True)

    def interrupt(text: str) -> None:
        attempt.said.append(text)
        if text.endswith(": Running"):
            raise KeyboardInterrupt

    attempt.say = interrupt
    with pytest.raises(KeyboardInterrupt):
        attempt.contestant().fit()
    job = attempt.kept().job
    assert attempt.said[-1] == f"job {job} continues; to cancel it: mlops job cancel {job} --on azure"
    assert workspace.client.jobs.get(job).status == "Running"
    attempt.contestant().clean_up()
    assert workspace.client.jobs.get(job).status == "Canceled"
    assert [item.name for item in workspace.client.jobs.list()] == []


@pytest.mark.slow
def test_a_failed_job_says_why_and_is_not_gone_on_with(workspace: Place, attempt: Attempt) -> None:
    workspace.loopback.add_compute(GPU)  # without graphics processors
    message = r"is Failed: AutoML for images needs machines with graphics processors: 'gpu-cluster' has Standard_DS3_v2"
    for number in (1, 2):
        with pytest.raises(AzureError, match=message) as raised:
            attempt.contestant().fit()
        assert "/runs/automl-textile-" in raised.value.hint
        assert (attempt.kept().job, len(attempt.kept().jobs)) == ("", number)
    attempt.contestant().clean_up()
    assert [item.name for item in workspace.client.jobs.list()] == []


def test_without_a_cluster_with_graphics_processors(
    workspace: Place, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = workspace.loopback
    monkeypatch.delenv("MLOPS_AZURE_GPU_CLUSTER")
    with pytest.raises(ConfigError, match="the workspace has no cluster 'gpu-cluster'") as raised:
        attempt.contestant().fit()
    assert "MLOPS_AZURE_GPU_CLUSTER" in raised.value.hint
    monkeypatch.setenv("MLOPS_AZURE_GPU_SKU", SIZE)
    cloud.limits.family_cores = 0
    with pytest.raises(AzureError, match=r"compute cluster 'gpu-cluster' .*quota") as refused:
        attempt.contestant().fit()
    assert "MLOPS_AZURE_GPU_SKU" in refused.value.hint
    assert workspace.count("/jobs/", "PUT") == 0
    attempt.contestant().clean_up()


def test_settings(workspace: Place, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempt.contestant().settings()["model"] == "mobilenetv2"
    with pytest.raises(MlopsError, match="is not trained yet"):
        attempt.contestant().predict([])
    monkeypatch.setenv("MLOPS_AZURE_AUTOML_MODEL", "resnet17")
    with pytest.raises(ConfigError, match="MLOPS_AZURE_AUTOML_MODEL"):
        attempt.contestant()
    monkeypatch.delenv("MLOPS_AZURE_AUTOML_MODEL")
    monkeypatch.delenv("AZUREML_WORKSPACE_NAME")
    with pytest.raises(ConfigError, match="AZUREML_WORKSPACE_NAME"):
        attempt.contestant()


def test_what_automl_refuses_is_refused_before_anything_is_sent(workspace: Place, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the data has only 9 training images of 3 classes"):
        Attempt(tmp_path, train=3).contestant().fit()
    assert not (tmp_path / "own" / "automl.json").exists()


def test_begun_in_another_workspace(workspace: Place, attempt: Attempt) -> None:
    KeptTraining(workspace="sub/rg/elsewhere", uploads="azureml://datastores/a/paths/b").write(attempt.folder / "own")
    for call in (attempt.contestant().fit, attempt.contestant().clean_up):
        with pytest.raises(ConfigError, match="was begun in the workspace 'elsewhere'"):
            call()
    (attempt.folder / "own" / "automl.json").write_text("{")
    with pytest.raises(DataError, match=r"automl\.json is damaged"):
        attempt.contestant().fit()
