"""A model deployment on a batch endpoint: deployed, replaced, run for real by the loopback cloud, and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from testing.support.bundles import make_bundle
from testing.support.places import Place
from testing.support.rehearsal import Rehearsal

from vision_mlops.core.errors import AzureError, DeploymentError
from vision_mlops.endpoints.azureml.batch_jobs import score_on_azure
from vision_mlops.endpoints.azureml.batch_target import BatchTarget
from vision_mlops.endpoints.contract import EndpointStatus
from vision_mlops.registry import open_registry

pytestmark = pytest.mark.slow

DEPLOY = ("deploy", "--to", "batch", "--endpoint", "bulk")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return make_bundle(folder / "1"), make_bundle(folder / "2", swap=True)


@pytest.fixture
def registered(place: Place, bundles: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_REGISTRY", "azure")
    for bundle in bundles:
        open_registry().register(bundle, "colours")


@pytest.mark.usefixtures("registered")
def test_a_folder_is_scored_by_the_model_that_is_deployed(
    place: Place, bundles: tuple[Path, Path], run: Run, tmp_path: Path
) -> None:
    cloud = place.loopback
    cloud.executor = cloud.default_executor  # the job is really run
    code, _, said = run(*DEPLOY, "--model", "colours:1")
    assert code == 0, said
    assert "version-1 is the default deployment of bulk" in said
    writes = place.count("batchEndpoints", "PUT")
    assert run(*DEPLOY, "--model", "colours:1")[0] == 0
    assert place.count("batchEndpoints", "PUT") == writes

    # A further version takes the place of the first.
    code, _, said = run(*DEPLOY, "--model", "colours:2", "--compute", "cpu-cluster", "--instances", "2")
    assert (code, "removing version-1 (colours:1)" in said) == (0, True), said
    (endpoint,) = BatchTarget().endpoints()
    (found,) = endpoint.deployments
    assert (found.reference, found.state, found.traffic, found.instances) == ("colours:2", EndpointStatus.READY, 100, 2)

    lines: list[str] = []
    out = tmp_path / "scores.jsonl"
    scores = score_on_azure("bulk", str(bundles[0] / "golden"), out, on_line=lines.append, poll_seconds=(0.05, 0.2))
    assert (scores.job.status, scores.file) == ("Completed", out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    best = {Path(row["image"]).stem: row["predictions"][0]["label"] for row in rows}
    assert best == {"blue": "green", "green": "blue", "red": "red"}
    assert f"job {scores.job.name} scores {bundles[0] / 'golden'} with colours:2" in lines
    assert run("endpoint", "logs", "bulk", "--on", "batch")[1].startswith(f"job {scores.job.name}: Completed")
    with pytest.raises(DeploymentError, match=r"exists already\n  -> choose another"):
        score_on_azure("bulk", str(bundles[0] / "golden"), out)


@pytest.mark.usefixtures("registered")
def test_what_a_batch_endpoint_does_not_do_is_said(place: Place, run: Run, tmp_path: Path) -> None:
    faults = place.loopback.faults
    faults.fail("deployments", status=409, code="Conflict", method="PUT", retry_after=None)
    code, _, said = run(*DEPLOY, "--model", "colours:1")
    assert (code, "HTTP 409 Conflict" in said, "another change is in progress" in said) == (2, True, True)
    assert BatchTarget().endpoints() == []
    code, _, said = run(*DEPLOY, "--model", "colours:1", "--compute", "nowhere")
    assert (code, "compute 'nowhere'" in said) == (2, True)
    assert run(*DEPLOY, "--model", "colours:1")[0] == 0
    for words, problem in {
        ("endpoint", "test", "bulk", "--image", "x.jpg"): "scores folders, not single images",
        ("endpoint", "keys", "bulk", "--rotate", "primary"): "takes tokens of Microsoft Entra, no keys",
        ("endpoint", "traffic", "bulk", "version-1=100"): "an endpoint on batch has one deployment",
        ("endpoint", "logs", "bulk"): "'version-1' has run no job yet",
        (
            "deploy",
            "--to",
            "batch",
            "--model",
            "colours:1",
            "--image",
            "a/b:1",
        ): "--image: not available with --to batch",
    }.items():
        code, _, said = run(*words)
        assert (code, problem in said) == (2, True), said
    with pytest.raises(AzureError, match=r"'version-1' is the default deployment.*HTTP 400"):
        BatchTarget().delete_deployment("bulk", "version-1")
    assert [item.state for item in BatchTarget().endpoint("bulk").deployments] == [EndpointStatus.READY]
    with pytest.raises(DeploymentError, match="has no deployment 'other'"):
        score_on_azure("bulk", str(tmp_path), tmp_path / "out", deployment="other")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.txt").write_text("a")
    out = tmp_path / "out"
    started = score_on_azure("bulk", str(tmp_path / "images"), out, wait=False)
    assert (started.job.name.startswith("bulk-"), started.file) == (True, None)
    place.loopback.executor = Rehearsal(failing=("batchscoring",))
    with pytest.raises(
        AzureError, match=r"job 'bulk-\S+' of endpoint 'bulk' is Failed\n  -> see its log: mlops job logs bulk-"
    ):
        score_on_azure("bulk", str(tmp_path / "images"), out, poll_seconds=(0.05, 0.2))
    assert not out.exists()
    assert run("endpoint", "delete", "bulk")[0] == 0
    assert BatchTarget().endpoints() == []
