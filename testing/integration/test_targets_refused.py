"""What Azure ML refuses, breaks or forgets while a model is deployed: named with what fixes it, and the state stays true."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from testing.support.bundles import make_bundle
from testing.support.places import Place

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.resources.datastore_addresses import datastore_path
from azureml_emulator.rest.faults import Faults
from vision_mlops.core.errors import AzureError
from vision_mlops.endpoints.azureml import long_running
from vision_mlops.endpoints.azureml.azureml_workspace import Workspace
from vision_mlops.endpoints.azureml.endpoint_calls import OnlineCalls
from vision_mlops.endpoints.azureml.managed_target import Managed
from vision_mlops.endpoints.contract import DeploymentOptions, DeploymentRequest, Endpoint, EndpointStatus
from vision_mlops.endpoints.scoring_client import score_file
from vision_mlops.registry import ModelVersion, open_registry

pytestmark = pytest.mark.slow

IMAGE = "example.azurecr.io/vision-mlops-inferencing:1"
DEPLOY = ("deploy", "--to", "managed", "--model", "colours:1")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "1")


@pytest.fixture
def version(place: Place, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> ModelVersion:
    monkeypatch.setenv("MLOPS_REGISTRY", "azure")
    monkeypatch.setenv("MLOPS_AZURE_INFERENCING_IMAGE", IMAGE)
    return open_registry().register(bundle, "colours")


def no_quota(cloud: EmulatedCloud) -> None:
    cloud.limits.cores = 4


def no_image(cloud: EmulatedCloud) -> None:
    cloud.limits.images = set()


def taken(cloud: EmulatedCloud) -> None:
    cloud.limits.taken = {"colours"}


def forbidden(cloud: EmulatedCloud) -> None:
    cloud.faults.fail("onlineEndpoints", status=403, code="AuthorizationFailed", method="PUT", retry_after=None)


def forbidden_deployment(cloud: EmulatedCloud) -> None:
    cloud.faults.fail("deployments", status=403, code="AuthorizationFailed", method="PUT", retry_after=None)


def busy(cloud: EmulatedCloud) -> None:
    cloud.faults.fail("deployments", status=409, code="Conflict", method="PUT", retry_after=None)


def broken_bundle(cloud: EmulatedCloud) -> None:
    """Change a byte of the graph where the service keeps it: the server does not start."""
    _rewrite(cloud, "model.onnx", lambda content: content[:-1] + bytes([content[-1] ^ 1]))


def other_answers(cloud: EmulatedCloud) -> None:
    """Let the bundle promise what the graph does not compute: the server never gets ready."""

    def change(content: bytes) -> bytes:
        manifest = json.loads(content)
        manifest["golden"][0]["probabilities"].reverse()
        return json.dumps(manifest).encode()

    _rewrite(cloud, "bundle.json", change)


def _rewrite(cloud: EmulatedCloud, file: str, change: Callable[[bytes], bytes]) -> None:
    model = cloud.store.get(f"{cloud.path()}/models/colours/versions/1")
    store, path = datastore_path(model.properties["modelUri"])
    container = cloud.container(store)
    name = next(item for item in cloud.blobs.names(container, path) if item.endswith(file))
    cloud.blobs.write(container, name, change(cloud.blobs.read(container, name)))


def nothing(cloud: EmulatedCloud) -> None:
    """The mistake is in the arguments."""


REFUSALS: dict[str, tuple[Callable[[EmulatedCloud], None], tuple[str, ...], str, str]] = {
    "quota": (no_quota, (), "usage/limit: 0/4", "ask for quota of this size"),
    "size": (
        nothing, ("--instance-type", "Standard_D3_v9", "--skip-checks"), "type Standard_D3_v9 is not supported",
        "such as Standard_DS3_v2",
    ),
    "image": (no_image, (), f"Unable to download the user container image '{IMAGE}'", "has the role AcrPull"),
    "taken": (taken, (), "'colours' is already taken", "choose another with --endpoint"),
    "forbidden": (forbidden, (), "HTTP 403 AuthorizationFailed", "ask for a role on the workspace"),
    "forbidden-deployment": (forbidden_deployment, (), "HTTP 403 AuthorizationFailed", "ask for a role"),
    "busy": (busy, (), "HTTP 409 Conflict", "another change is in progress"),
    "broken-bundle": (broken_bundle, (), "it ended with exit code 2", "its log says why"),
    "other-answers": (other_answers, (), "readiness probe failed: /health/ready returned HTTP 503", "mlops serve BUNDLE"),
    "wrong-port": (nothing, ("--env", "MLOPS_PORT=9000"), "connection refused on port 8000", "its log says why"),
    "crash": (nothing, ("--env", "MLOPS_SERVING__MAX_BODY_MB=many"), "it ended with exit code 2", "its log says why"),
}  # fmt: skip
LOGGED = {
    "image": "downloaded colours:1 to /var/azureml-app/azureml-models/colours/1/bundle",
    "broken-bundle": "model.onnx",
    "other-answers": "golden",
    "wrong-port": "serving colours",
    "crash": "max_body_mb",
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refused_deployment_leaves_nothing(place: Place, version: ModelVersion, run: Run, case: str) -> None:
    spoil, options, cause, fix = REFUSALS[case]
    spoil(place.loopback)
    code, out, said = run(*DEPLOY, *options)
    assert (code, out) == (2, "")
    assert cause in said
    assert fix in said.rpartition("->")[2]
    assert LOGGED.get(case, "colours") in said
    assert ("its log ends with" in said) == (case in LOGGED)
    assert "/health/" not in said.partition("its log ends with")[2]
    assert "still exists" not in said
    # Nothing is listed, and nothing is in the workspace.
    assert run("endpoint", "list", "--on", "managed", "--json")[1].strip() == "[]"
    assert list(place.client.online_endpoints.list()) == []


def listed() -> Endpoint:
    (found,) = Managed().endpoints()
    return found


def test_what_served_before_still_serves(place: Place, version: ModelVersion, bundle: Path, run: Run) -> None:
    assert run(*DEPLOY)[0] == 0
    image = bundle / "golden" / "red.png"

    # A further deployment that is refused goes again, and the endpoint stays.
    code, _, said = run(*DEPLOY, "--deployment", "other", "--env", "MLOPS_PORT=9000")
    assert (code, "connection refused" in said) == (2, True)
    assert [(item.name, item.state, item.traffic) for item in listed().deployments] == [
        ("version-1", EndpointStatus.READY, 100)
    ]

    # One that was there before stays, as what it is: failed, with the reason; so it does until it is fixed.
    code, _, said = run(*DEPLOY, "--env", "MLOPS_PORT=9000")
    assert (code, "connection refused" in said) == (2, True)
    (found,) = listed().deployments
    assert (found.state, found.traffic, "connection refused on port 8000" in found.problem) == (
        EndpointStatus.FAILED,
        100,
        True,
    )
    assert "connection refused" in run("endpoint", "show", "colours", "--on", "managed")[2]
    assert score_file(Managed().access("colours"), image).label == "red"
    assert run(*DEPLOY)[0] == 0
    assert [(item.state, item.problem) for item in listed().deployments] == [(EndpointStatus.READY, "")]
    assert place.client.online_endpoints.get("colours").tags == {"mlops.target": "managed"}

    # With traffic it cannot be deleted, whoever asks.
    with pytest.raises(AzureError, match=r"'version-1' has traffic.*HTTP 400") as refused:
        Managed().delete_deployment("colours", "version-1")
    assert refused.value.hint
    assert [item.state for item in listed().deployments] == [EndpointStatus.READY]

    # What somebody else has made in the same moment is not cleaned up with what was refused.
    request = DeploymentRequest("colours", "version-1", version, open_registry(), DeploymentOptions())
    calls, refusal = OnlineCalls(Workspace(), "managed"), AzureError("refused", "fix it", 409)
    raised = calls.endpoint_failed(refusal, "colours", print)
    assert (raised.message, raised.hint, raised.status) == ("refused", "fix it", 409)
    calls.deployment_failed(refusal, request, print, kept=False, new_endpoint=True)
    assert [(item.name, item.state) for item in listed().deployments] == [("version-1", EndpointStatus.READY)]

    # A version that the workspace does not have is refused by it.
    request = DeploymentRequest(
        "colours", "version-9", replace(version, version=9), open_registry(), DeploymentOptions()
    )
    with pytest.raises(AzureError, match=r"model colours:9 was not found"):
        Managed().deploy(request, lambda text: None)
    assert [item.name for item in listed().deployments] == ["version-1"]


def test_throttling_faults_and_lost_connections_are_outlived(
    place: Place, version: ModelVersion, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_running, "POLL_SECONDS", (0.05, 0.1))
    said: list[str] = []
    faults.throttle("onlineEndpoints", times=2)
    faults.fail("deployments", status=503)
    faults.drop("operations")
    request = DeploymentRequest("colours", "version-1", version, open_registry(), DeploymentOptions(score_script=True))
    target = Managed()
    assert [item.state for item in target.deploy(request, said.append).deployments] == [EndpointStatus.READY]
    assert faults.pending == 0

    # The SDK gives up on an operation after three retries; then the thing itself is looked at.
    faults.fail("operations", times=4, retry_after=0.01)
    place.loopback.operations.alone = 0.5
    target.set_tags("colours", {"a": "b"})
    assert faults.pending == 0
    assert (listed().state, listed().tags) == (EndpointStatus.READY, {"a": "b"})


def test_a_deployment_that_takes_too_long_is_shown_as_it_is(place: Place, version: ModelVersion, run: Run) -> None:
    assert run(*DEPLOY)[0] == 0
    place.loopback.operations.polls = 10_000
    code, _, said = run(*DEPLOY, "--deployment", "slow", "--timeout", "1")
    assert (code, "is still Creating after the time limit" in said) == (2, True)
    # The service does not delete what it is still making: the message says so, and how to do it later.
    assert "HTTP 409 Conflict" in said
    assert "mlops endpoint delete colours --deployment slow --on managed" in said
    states = {item.name: item.state for item in listed().deployments}
    assert states == {"slow": EndpointStatus.CHANGING, "version-1": EndpointStatus.READY}
    code, _, said = run(*DEPLOY, "--deployment", "slow")
    assert (code, "deployment 'slow' is Creating: another change is in progress" in said) == (2, True), said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (long_running.carry_out, "x does not exist yet; a request that was just sent may still create it."),
        (long_running.carry_out_removal, "x no longer exists: it is removed."),
    ],
)
def test_ctrl_c_before_something_exists_or_after_it_is_removed(change: Callable[..., None], words: str) -> None:
    def begin() -> None:
        raise KeyboardInterrupt

    def look() -> None:
        raise AzureError("not found", status=404)

    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        change(begin, look, "x", said.append)
    assert said == [words]


def test_ctrl_c_says_what_goes_on(
    place: Place, version: ModelVersion, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = place.loopback
    cloud.operations.polls = 1_000_000

    def press() -> None:
        deadline = time.monotonic() + 30
        while not cloud.seen("onlineEndpoints", "PUT") and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)  # until the command waits
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    code, _, said = run(*DEPLOY)
    presser.join()
    assert code == 130
    assert "endpoint 'colours' continues to change in Azure; it is Creating." in said
    assert "mlops endpoint show colours --on managed" in said
    assert "mlops endpoint delete colours --on managed" in said
    assert json.loads(run("endpoint", "list", "--on", "managed", "--json")[1])[0]["state"] == "changing"
    code, _, said = run(*DEPLOY)
    assert (code, "another change is in progress" in said, "mlops endpoint show colours" in said) == (2, True, True)
