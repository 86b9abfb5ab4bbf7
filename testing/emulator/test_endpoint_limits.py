"""What managed online endpoints refuse: names, numbers, large bodies, late answers, and too many requests at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.endpoints.managed_limits import BODY_BYTES, late, timeout_of
from azureml_emulator.identity.loopback_tokens import token
from azureml_emulator.resources.rest_resources import RestResource

Put = Callable[[str, dict[str, Any]], tuple[int, Any]]


class SlowScorer:
    """Answers when it is told to, and says who is waiting."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.waiting = threading.Semaphore(0)

    def score(self, deployment: RestResource, body: dict[str, Any]) -> object:
        """Wait, and answer with what came in."""
        self.waiting.release()
        if not self.go.wait(20):
            raise late(deployment)
        return body

    def log(self, deployment: RestResource) -> str:
        """Nothing."""
        return ""


@pytest.fixture
def session(running_cloud: tuple[EmulatedCloud, Any], cloud: EmulatedCloud) -> Iterator[requests.Session]:
    """Connections that trust the cloud."""
    with requests.Session() as session:
        session.params = {"api-version": "2024-04-01"}
        session.trust_env, session.verify = False, str(running_cloud[1])
        session.headers["Authorization"] = f"Bearer {token(cloud.url)}"
        yield session


@pytest.fixture
def put(cloud: EmulatedCloud, session: requests.Session) -> Put:
    """Makes something in the workspace, and waits for it; the workspace has an environment, code, and an endpoint."""

    def put(path: str, properties: dict[str, Any]) -> tuple[int, Any]:
        sku = properties.pop("sku", {"name": "Default", "capacity": 1})
        body = {"location": "westeurope", "sku": sku, "properties": properties}
        found = session.put(f"{cloud.url}{cloud.path()}/{path}", json=body, timeout=30)
        while "azure-asyncoperation" in found.headers:
            if session.get(found.headers["azure-asyncoperation"], timeout=30).json()["status"] != "InProgress":
                break
        return found.status_code, found.json()

    assert put("environments/train/versions/1", {"image": "python:3.11"})[0] == 201
    assert put("codes/score/versions/1", {"codeUri": "https://nowhere.invalid/code"})[0] == 201
    assert put("onlineEndpoints/live", {"authMode": "Key"})[0] == 201
    return put


def _deployment(cloud: EmulatedCloud, **settings: Any) -> dict[str, Any]:
    return {
        "endpointComputeType": "Managed",
        "instanceType": "Standard_DS3_v2",
        "environmentId": f"{cloud.path()}/environments/train/versions/1",
        "codeConfiguration": {"codeId": f"{cloud.path()}/codes/score/versions/1", "scoringScript": "score.py"},
        **settings,
    }


@pytest.mark.parametrize("kind", ["onlineEndpoints", "batchEndpoints", "onlineEndpoints/live/deployments"])
@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("abc", True),
        ("a" * 32, True),
        ("ab", False),
        ("a" * 33, False),
        ("1ab", False),
        ("ab-", False),
        ("a_bc", False),
    ],
)
def test_names_have_a_form(cloud: EmulatedCloud, put: Put, kind: str, name: str, good: bool) -> None:
    modes = {"onlineEndpoints": {"authMode": "Key"}, "batchEndpoints": {"authMode": "AADToken"}}
    status, body = put(f"{kind}/{name}", dict(modes.get(kind) or _deployment(cloud)))
    assert status == (201 if good else 400), body
    assert good or (body["error"]["code"], body["error"]["target"]) == ("BadArgument", "name")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sku": {"name": "Default", "capacity": 51}}, "1 to 50 instances, not 51"),
        ({"sku": {"name": "Default", "capacity": 0}}, "1 to 50 instances, not 0"),
        ({"requestSettings": {"requestTimeout": "PT3M1S"}}, "at most 180 s, not 181 s"),
        ({"requestSettings": {"requestTimeout": "3 minutes"}}, "not a duration"),
    ],
)
def test_numbers_of_a_deployment_have_limits(
    cloud: EmulatedCloud, put: Put, settings: dict[str, Any], message: str
) -> None:
    cloud.limits.cores = 10_000
    status, body = put("onlineEndpoints/live/deployments/blue", _deployment(cloud, **settings))
    assert status == 400
    assert message in body["error"]["message"]


def test_an_endpoint_has_at_most_20_deployments(cloud: EmulatedCloud, put: Put) -> None:
    cloud.limits.cores = 10_000
    for number in range(20):
        assert put(f"onlineEndpoints/live/deployments/d{number:02}", _deployment(cloud))[0] == 201
    status, body = put("onlineEndpoints/live/deployments/one-more", _deployment(cloud))
    assert (status, "has 20 deployments" in body["error"]["message"]) == (400, True)
    assert put("onlineEndpoints/live/deployments/d00", _deployment(cloud))[0] == 200  # a change is no further one


def test_the_reserve_for_upgrades_counts(cloud: EmulatedCloud, put: Put) -> None:
    cloud.limits.cores = 8  # two instances of 4 cores, and none left for the fifth that upgrades need
    two = {"sku": {"name": "Default", "capacity": 2}}
    status, body = put("onlineEndpoints/live/deployments/blue", _deployment(cloud, **two))
    assert (status, body["error"]["code"]) == (400, "OutOfQuota")
    cloud.limits.cores = 12
    assert put("onlineEndpoints/live/deployments/blue", _deployment(cloud, **two))[0] == 201


@pytest.fixture
def score(
    cloud: EmulatedCloud, session: requests.Session, put: Put
) -> Iterator[tuple[SlowScorer, Callable[[bytes], Any]]]:
    """A deployment of two instances that take one request each, and a call of it."""
    deployment = _deployment(cloud, requestSettings={"maxConcurrentRequestsPerInstance": 1, "requestTimeout": "PT30S"})
    assert put("onlineEndpoints/live/deployments/blue", {**deployment, "sku": {"name": "D", "capacity": 2}})[0] == 201
    assert put("onlineEndpoints/live", {"authMode": "Key", "traffic": {"blue": 100}})[0] == 200
    keys = session.post(f"{cloud.url}{cloud.path()}/onlineEndpoints/live/listKeys", timeout=30).json()
    cloud.scorer = slow = SlowScorer()

    def call(content: bytes) -> Any:
        headers = {"Authorization": f"Bearer {keys['primaryKey']}"}
        address = f"{cloud.url}/scoring/ws/live/score"
        return requests.post(address, content, headers=headers, verify=session.verify, timeout=60)

    yield slow, call
    slow.go.set()


def test_a_large_body_is_refused(score: tuple[SlowScorer, Callable[[bytes], Any]]) -> None:
    slow, call = score
    slow.go.set()
    fitting = b'{"a": "' + b"x" * (BODY_BYTES - 9) + b'"}'
    assert len(fitting) == BODY_BYTES
    assert call(fitting).status_code == 200
    assert call(fitting + b" ").status_code == 413


def test_more_requests_than_twice_what_runs_are_refused(score: tuple[SlowScorer, Callable[[bytes], Any]]) -> None:
    slow, call = score
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(call, b"{}") for _ in range(4)]
        for _ in answers:
            assert slow.waiting.acquire(timeout=20)
        refused = call(b"{}")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert "'blue' has 4 requests in progress" in refused.json()["error"]["message"]
        slow.go.set()
        assert [item.result().status_code for item in answers] == [200] * 4
    assert call(b"{}").status_code == 200  # there is room again


@pytest.mark.parametrize(("text", "seconds"), [(None, 5), ("PT1M30S", 90), ("PT0.5S", 0.5), ("PT1H", 3600)])
def test_durations_are_read(text: str | None, seconds: float) -> None:
    deployment = RestResource("/d", {"properties": {"requestSettings": {"requestTimeout": text}}}, 1)
    assert timeout_of(deployment) == seconds
