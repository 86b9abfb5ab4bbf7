"""What a client asks before it makes anything: regions, providers, permissions, free names, resources, and metrics."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from testing.support.emulator_process import published_version

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.https_server import HttpsServer
from azureml_emulator.identity.loopback_tokens import OWNER, token
from azureml_emulator.identity.sign_in_routes import SERVICE_PRINCIPALS, object_id

Call = Callable[..., tuple[int, Any]]
READER = object_id(SERVICE_PRINCIPALS["Reader"])


@pytest.fixture
def call(cloud: EmulatedCloud) -> Iterator[Call]:
    """Call the resource manager below the subscription: status and body."""
    with requests.Session() as session:
        session.trust_env, session.verify = False, os.environ["REQUESTS_CA_BUNDLE"]

        def send(method: str, path: str, body: Any = None, *, who: str = OWNER) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {token(cloud.url, oid=who)}"}
            url = f"{cloud.url}/subscriptions/{cloud.subscription}{path}"
            version = {"api-version": published_version(url)}
            found = session.request(method, url, json=body, headers=headers, params=version, timeout=30)
            return found.status_code, found.json() if found.content else None

        yield send


def test_a_provider_that_is_not_registered_refuses_until_it_is(cloud: EmulatedCloud, call: Call) -> None:
    cloud.limits.unregistered = {"microsoft.web"}
    plan = "/resourceGroups/rg/providers/Microsoft.Web/serverfarms/plan"
    body = {"location": "westeurope", "kind": "linux", "sku": {"name": "B1"}, "properties": {"reserved": True}}
    status, answer = call("PUT", plan, body)
    assert (status, answer["error"]["code"]) == (409, "MissingSubscriptionRegistration")
    states = {item["namespace"]: item["registrationState"] for item in call("GET", "/providers")[1]["value"]}
    assert (states["Microsoft.Web"], states["Microsoft.Storage"]) == ("NotRegistered", "Registered")
    assert call("POST", "/providers/Microsoft.Web/register", who=READER)[0] == 403
    assert call("POST", "/providers/Microsoft.Web/register")[1]["registrationState"] == "Registered"
    assert call("PUT", plan, body)[0] in (200, 201, 202)
    assert call("GET", "/providers/Microsoft.Nothing")[0] == 404


def test_a_disabled_subscription_can_be_read_only(cloud: EmulatedCloud, call: Call) -> None:
    cloud.limits.subscription_state = "Disabled"
    assert call("GET", "")[1]["state"] == "Disabled"
    status, answer = call("PUT", "/resourceGroups/rg/providers/Microsoft.Web/serverfarms/plan", {})
    assert (status, answer["error"]["code"]) == (409, "ReadOnlyDisabledSubscription")


@pytest.mark.parametrize(
    ("provider", "kind", "name", "reason"),
    [
        ("Storage", "storageAccounts", "fresh1", None), ("Storage", "storageAccounts", "Fresh", "AccountNameInvalid"),
        ("Storage", "storageAccounts", "devstoreaccount1", "AlreadyExists"),
        ("KeyVault", "vaults", "taken", "AlreadyExists"),
        ("KeyVault", "vaults", "a--b", "AccountNameInvalid"), ("ContainerRegistry", "registries", "fresh1", None),
        ("ContainerRegistry", "registries", "abc", "AccountNameInvalid"),
    ],
)  # fmt: skip
def test_names(cloud: EmulatedCloud, call: Call, provider: str, kind: str, name: str, reason: str | None) -> None:
    cloud.limits.taken = {"taken"}
    body = {"name": name, "type": f"Microsoft.{provider}/{kind}"}
    status, answer = call("POST", f"/providers/Microsoft.{provider}/checkNameAvailability", body, who=READER)
    assert (status, answer["nameAvailable"], answer["reason"]) == (200, reason is None, reason)


def test_permissions_are_those_of_all_roles(cloud: EmulatedCloud, call: Call) -> None:
    path = "/resourceGroups/rg/providers/Microsoft.Authorization/permissions"
    assert [item["actions"] for item in call("GET", path, who=READER)[1]["value"]] == [["*/read"]]
    cloud.roles.assign(READER, "Contributor", f"/subscriptions/{cloud.subscription}/resourceGroups/rg")
    actions = [item["actions"] for item in call("GET", path, who=READER)[1]["value"]]
    assert sorted(actions) == [["*"], ["*/read"]]
    assert call("GET", "/providers/Microsoft.Authorization/permissions", who=READER)[1]["value"][0]["actions"] == [
        "*/read"
    ]


def test_what_is_in_the_resource_group_and_where(call: Call) -> None:
    found = {item["type"]: item["name"] for item in call("GET", "/resourceGroups/rg/resources")[1]["value"]}
    assert found["Microsoft.MachineLearningServices/workspaces"] == "ws"
    assert found["Microsoft.KeyVault/vaults"] == "emulator"
    assert found["Microsoft.ContainerRegistry/registries"] == "wsimages"
    assert not [kind for kind in found if kind.count("/") > 1 or "Authorization" in kind]
    assert [item["name"] for item in call("GET", "/locations")[1]["value"]] == ["westeurope"]


def test_metrics_that_are_not_counted_are_refused(cloud: EmulatedCloud, call: Call) -> None:
    scope = "/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws/onlineEndpoints/quiet"
    cloud.store.put(f"/subscriptions/{cloud.subscription}{scope}", {"properties": {}})
    metrics = f"{scope}/providers/Microsoft.Insights/metrics?interval=P1D"
    span = "timespan=2026-11-01T00:00:00Z/2026-11-03T00:00:00Z"
    status, answer = call("GET", f"{metrics}&metricnames=RequestsPerMinute&{span}")
    assert status == 200
    assert [point["total"] for point in answer["value"][0]["timeseries"][0]["data"]] == [0.0, 0.0, 0.0]
    assert call("GET", f"{metrics}&metricnames=RequestLatency&{span}")[0] == 400
    assert call("GET", f"{metrics}&metricnames=RequestsPerMinute&timespan=yesterday")[0] == 400


def test_a_registry_exchanges_tokens_for_who_may_pull(cloud: EmulatedCloud) -> None:
    server = HttpsServer(None)
    server.start(cloud.registry_sign_in())

    def exchange(who: str, host: str = "wsimages.azurecr.io") -> int:
        form = {"grant_type": "access_token", "service": host, "access_token": token(cloud.url, oid=who)}
        answer = requests.post(f"{server.url}/oauth2/exchange", data=form, headers={"Host": host}, timeout=30)
        return answer.status_code

    try:
        person = "66666666-6666-4666-8666-666666666666"
        assert (exchange(OWNER), exchange(person), exchange(OWNER, "other.azurecr.io")) == (200, 403, 404)
        cloud.roles.assign(person, "AcrPull", f"/subscriptions/{cloud.subscription}/resourceGroups/rg")
        assert exchange(person) == 200
        assert (
            requests.post(f"{server.url}/oauth2/exchange", data={"grant_type": "password"}, timeout=30).status_code
            == 400
        )
        challenged = requests.get(f"{server.url}/v2/", timeout=30)
        assert (challenged.status_code, "oauth2/token" in challenged.headers["WWW-Authenticate"]) == (401, True)
    finally:
        server.stop()
