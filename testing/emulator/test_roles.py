"""Who may do what in the loopback cloud: tokens, role assignments, and how it says no."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from testing.support.emulator_process import published_version

import azureml_emulator
from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.identity.loopback_tokens import LoopbackCredential, token
from azureml_emulator.identity.role_definitions import ROLES, role_of
from azureml_emulator.identity.sign_in_routes import SERVICE_PRINCIPALS, by_secret, object_id
from azureml_emulator.loopback import loopback_client
from azureml_emulator.resources.role_assignments import action_of

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

SOMEONE = "55555555-5555-4555-8555-555555555555"
_ML = "Microsoft.MachineLearningServices"
_HEAD = "/subscriptions/s/resourceGroups/g/providers"
_WS = f"{_HEAD}/{_ML}/workspaces/ws"


class Person:
    """Calls the resource manager under a name."""

    def __init__(self, cloud: EmulatedCloud, principal: str) -> None:
        self._cloud = cloud
        self._session = requests.Session()
        self._session.trust_env, self._session.verify = False, os.environ["REQUESTS_CA_BUNDLE"]
        self._session.headers["Authorization"] = f"Bearer {token(cloud.url, oid=principal)}"

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and body of an answer."""
        version = {"api-version": published_version(path.partition("?")[0])}
        found = self._session.request(method, self._cloud.url + path, json=body, params=version, timeout=30)
        return found.status_code, found.json() if found.content else None

    def close(self) -> None:
        """End the connections."""
        self._session.close()


@pytest.fixture
def people(cloud: EmulatedCloud) -> Iterator[dict[str, Person]]:
    """Who has which role; ``someone`` has none."""
    found = {role: Person(cloud, object_id(client)) for role, client in SERVICE_PRINCIPALS.items()}
    found["someone"] = Person(cloud, SOMEONE)
    yield found
    for person in found.values():
        person.close()


def _model(cloud: EmulatedCloud, number: int = 1) -> tuple[str, str, dict[str, Any]]:
    uri = "azureml://datastores/workspaceblobstore/paths/model"
    return "PUT", f"{cloud.path()}/models/eyes/versions/{number}", {"properties": {"modelUri": uri}}


def _compute(cloud: EmulatedCloud) -> tuple[str, str, dict[str, Any]]:
    size = {"vmSize": "Standard_DS3_v2", "scaleSettings": {"maxNodeCount": 1}}
    body = {"location": "westeurope", "properties": {"computeType": "AmlCompute", "properties": size}}
    return "PUT", f"{cloud.path()}/computes/another", body


def test_a_reader_reads_and_does_not_write(cloud: EmulatedCloud, people: dict[str, Person]) -> None:
    reader = people["Reader"]
    assert reader.call("GET", f"{cloud.path()}/models")[0] == 200
    status, body = reader.call(*_model(cloud))
    error = body["error"]
    assert (status, error["code"], error["target"], error["details"]) == (403, "AuthorizationFailed", None, [])
    who, action = object_id(SERVICE_PRINCIPALS["Reader"]), f"{_ML}/workspaces/models/versions/write"
    for part in (f"object id '{who}'", f"'{action}'", f"over scope '{cloud.path()}/models/eyes/versions/1'"):
        assert part in error["message"]
    assert people["Owner"].call("GET", f"{cloud.path()}/models/eyes/versions/1")[0] == 404  # nothing was written


@pytest.mark.parametrize(
    ("role", "models", "computes", "roles"),
    [
        ("Owner", 201, 201, 201),
        ("Contributor", 201, 201, 403),
        ("AzureML Data Scientist", 201, 403, 403),
        ("Reader", 403, 403, 403),
        ("someone", 403, 403, 403),
    ],
)
def test_each_role_may_do_its_part(
    cloud: EmulatedCloud, people: dict[str, Person], role: str, models: int, computes: int, roles: int
) -> None:
    person = people[role]
    path = f"{cloud.path()}/providers/Microsoft.Authorization/roleAssignments/{SOMEONE}"
    body = {"properties": {"roleDefinitionId": f"/x/{ROLES[0].id}", "principalId": SOMEONE}}
    assert person.call(*_model(cloud))[0] == models
    assert person.call(*_compute(cloud))[0] == computes
    assert person.call("PUT", path, body)[0] == roles
    assert person.call("GET", f"{cloud.path()}/computes")[0] == (200 if role != "someone" else 403)


@pytest.mark.parametrize("level", ["subscription", "group", "workspace", "resource", "other workspace"])
def test_an_assignment_holds_below_its_scope(cloud: EmulatedCloud, people: dict[str, Person], level: str) -> None:
    cloud.add_workspace("other")
    group = cloud.scope().split("/providers/")[0]
    scope = {
        "subscription": f"/subscriptions/{cloud.subscription}",
        "group": group,
        "workspace": cloud.path().upper(),  # case does not matter
        "resource": f"{cloud.path()}/models/eyes",
        "other workspace": cloud.path("other"),
    }[level]
    assert people["someone"].call(*_model(cloud))[0] == 403
    cloud.roles.assign(SOMEONE, "Contributor", scope)
    assert people["someone"].call(*_model(cloud))[0] == (403 if level == "other workspace" else 201)
    assert people["someone"].call("GET", f"{cloud.path()}/data")[0] == (
        200 if level in ("subscription", "group", "workspace") else 403
    )


def test_an_assignment_is_made_found_and_taken_away(cloud: EmulatedCloud, people: dict[str, Person]) -> None:
    owner, someone = people["Owner"], people["someone"]
    base = f"{cloud.path()}/providers/Microsoft.Authorization/roleAssignments"
    reader = f"/subscriptions/{cloud.subscription}/providers/Microsoft.Authorization/roleDefinitions/{ROLES[2].id}"
    body = {"properties": {"roleDefinitionId": reader, "principalId": SOMEONE}}
    path = f"{base}/66666666-6666-4666-8666-666666666666"

    assert owner.call("PUT", path, body)[0] == 201
    assert owner.call("PUT", path, body)[0] == 200
    assert owner.call("PUT", f"{base}/77777777-7777-4777-8777-777777777777", body)[1]["error"]["code"] == (
        "RoleAssignmentExists"
    )
    changed = {"properties": {"roleDefinitionId": f"/x/{ROLES[0].id}", "principalId": SOMEONE}}
    assert owner.call("PUT", path, changed)[1]["error"]["code"] == "RoleAssignmentUpdateNotPermitted"
    assert owner.call("GET", path)[1]["properties"] == {
        "roleDefinitionId": reader,
        "principalId": SOMEONE,
        "principalType": "ServicePrincipal",
        "scope": cloud.path(),
    }
    _, listed = owner.call("GET", f"{base}?$filter=principalId eq '{SOMEONE}'")
    assert [item["id"] for item in listed["value"]] == [path]
    _, everyone = owner.call("GET", base)
    assert (
        len(everyone["value"]) == len(SERVICE_PRINCIPALS) + 6
    )  # its own, those on vault, blobs and Custom Vision, and those of computes
    assert someone.call("GET", f"{cloud.path()}/data")[0] == 200
    assert owner.call("DELETE", path)[0] == 200
    assert owner.call("DELETE", path)[0] == 204
    assert owner.call("GET", path)[1]["error"]["code"] == "RoleAssignmentNotFound"
    assert someone.call("GET", f"{cloud.path()}/data")[0] == 403


@pytest.mark.parametrize(
    ("name", "properties", "code"),
    [
        ("not-a-guid", {"principalId": SOMEONE, "roleDefinitionId": ROLES[0].id}, "InvalidRoleAssignmentId"),
        (SOMEONE, {"principalId": "me", "roleDefinitionId": ROLES[0].id}, "InvalidRoleAssignmentId"),
        (SOMEONE, {"principalId": SOMEONE, "roleDefinitionId": SOMEONE}, "RoleDefinitionDoesNotExist"),
    ],
)
def test_a_wrong_assignment_is_refused(
    cloud: EmulatedCloud, people: dict[str, Person], name: str, properties: dict[str, str], code: str
) -> None:
    path = f"{cloud.path()}/providers/Microsoft.Authorization/roleAssignments/{name}"
    status, body = people["Owner"].call("PUT", path, {"properties": properties})
    assert (status, body["error"]["code"]) == (400, code)


def test_a_filter_that_is_not_known_is_refused(cloud: EmulatedCloud, people: dict[str, Person]) -> None:
    path = f"{cloud.path()}/providers/Microsoft.Authorization/roleAssignments?$filter=color eq 'red'"
    status, body = people["Owner"].call("GET", path)
    assert status == 400
    assert "color eq 'red'" in body["error"]["message"]


def test_role_definitions_are_listed_and_found(cloud: EmulatedCloud, people: dict[str, Person]) -> None:
    base = f"/subscriptions/{cloud.subscription}/providers/Microsoft.Authorization/roleDefinitions"
    _, found = people["Reader"].call("GET", f"{base}?$filter=roleName eq 'Reader'")
    assert [item["properties"]["permissions"][0]["actions"] for item in found["value"]] == [["*/read"]]
    assert people["Reader"].call("GET", f"{base}/{ROLES[2].id}")[1]["properties"]["roleName"] == "Reader"
    assert people["Reader"].call("GET", f"{base}/{SOMEONE}")[1]["error"]["code"] == "RoleDefinitionDoesNotExist"


def test_the_sdk_hears_the_refusal(client: MLClient, cloud: EmulatedCloud) -> None:
    from azure.ai.ml.entities import Environment
    from azure.core.exceptions import HttpResponseError

    reader = loopback_client(cloud, LoopbackCredential(principal=object_id(SERVICE_PRINCIPALS["Reader"])))
    assert [item.name for item in reader.compute.list()] == ["cpu-cluster"]
    environment = Environment(name="train", version="1", image="python:3.11")
    with pytest.raises(HttpResponseError, match="AuthorizationFailed") as raised:
        reader.environments.create_or_update(environment)
    assert raised.value.status_code == 403
    client.environments.create_or_update(environment)


def test_a_service_principal_signs_in_with_its_role(cloud: EmulatedCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.core.exceptions import HttpResponseError
    from azure.identity import EnvironmentCredential

    for name, value in by_secret("Reader").items():
        monkeypatch.setenv(name, value)
    with EnvironmentCredential(disable_instance_discovery=True) as credential:
        reader = loopback_client(cloud, credential)
        assert reader.workspaces.get("ws").name == "ws"
        with pytest.raises(HttpResponseError, match=object_id(SERVICE_PRINCIPALS["Reader"])):
            reader.jobs.begin_cancel("job")


def test_secrets_need_a_role_on_data(cloud: EmulatedCloud) -> None:
    from azure.core.exceptions import HttpResponseError
    from azure.keyvault.secrets import SecretClient

    def vault(principal: str) -> SecretClient:
        credential: Any = LoopbackCredential(principal=principal)
        return SecretClient(cloud.url, credential, retry_total=0)

    with vault(object_id(SERVICE_PRINCIPALS["Owner"])) as owner:
        owner.set_secret("word", "value")
    with vault(object_id(SERVICE_PRINCIPALS["Reader"])) as reader:
        with pytest.raises(HttpResponseError, match="getSecret"):
            reader.get_secret("word")
        cloud.roles.assign(
            object_id(SERVICE_PRINCIPALS["Reader"]), "Key Vault Secrets User", f"/subscriptions/{cloud.subscription}"
        )
        assert reader.get_secret("word").value == "value"
        with pytest.raises(HttpResponseError, match="setSecret"):
            reader.set_secret("word", "other")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/subscriptions/99999999-9999-9999-9999-999999999999/resourceGroups/rg/x", "SubscriptionNotFound"),
        ("/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/other/x", "ResourceGroupNotFound"),
        ("/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/No.Such/things/a", ""),
    ],
)
def test_what_is_elsewhere_is_not_found(cloud: EmulatedCloud, people: dict[str, Person], path: str, code: str) -> None:
    status, body = people["Owner"].call("GET", path)
    assert (status, body["error"]["code"]) == (404, code or "NoRegisteredProviderFound")


def test_a_refused_token_is_told_where_to_sign_in(cloud: EmulatedCloud) -> None:
    found = requests.get(
        f"{cloud.url}{cloud.path()}?api-version=2024-04-01", verify=os.environ["REQUESTS_CA_BUNDLE"], timeout=30
    )
    assert found.status_code == 401
    assert found.headers["WWW-Authenticate"].startswith('Bearer authorization_uri="https://login.windows.net/')
    assert found.json()["error"]["code"] == "AuthenticationFailed"


@pytest.mark.parametrize(
    ("method", "path", "action", "scope"),
    [
        ("GET", _WS, f"{_ML}/workspaces/read", _WS),
        ("PUT", f"{_WS}/jobs/j", f"{_ML}/workspaces/jobs/write", f"{_WS}/jobs/j"),
        ("GET", f"{_WS}/jobs", f"{_ML}/workspaces/jobs/read", _WS),
        ("GET", f"{_HEAD}/{_ML}/workspaces", f"{_ML}/workspaces/read", "/subscriptions/s/resourceGroups/g"),
        ("POST", f"{_WS}/jobs/j/cancel", f"{_ML}/workspaces/jobs/cancel/action", f"{_WS}/jobs/j"),
        ("GET", "/subscriptions/s", "Microsoft.Resources/subscriptions/read", "/subscriptions/s"),
        ("POST", f"/history/v1.0{_WS}/rundata", f"{_ML}/workspaces/experiments/runs/read", _WS),
        ("PATCH", f"/history/v1.0{_WS}/runs/r", f"{_ML}/workspaces/experiments/runs/write", _WS),
        ("GET", "/operations/1", "", ""),
    ],
)  # fmt: skip
def test_a_call_is_an_action_on_a_scope(method: str, path: str, action: str, scope: str) -> None:
    assert action_of(method, path) == (action, scope)


@pytest.mark.parametrize(
    ("role", "action", "allowed"),
    [
        ("AzureML Data Scientist", f"{_ML}/workspaces/read", True),
        ("AzureML Data Scientist", f"{_ML}/workspaces/write", False),
        ("AzureML Data Scientist", f"{_ML}/workspaces/computes/write", False),
        ("AzureML Data Scientist", f"{_ML}/workspaces/computes/start/action", True),
        ("AzureML Data Scientist", f"{_ML}/workspaces/jobs/write", True),
        ("AzureML Data Scientist", "Microsoft.Web/sites/read", False),
        ("AzureML Compute Operator", f"{_ML}/workspaces/computes/write", True),
        ("AzureML Compute Operator", f"{_ML}/workspaces/jobs/write", False),
        ("Contributor", "microsoft.authorization/roleassignments/write", False),
        ("User Access Administrator", "Microsoft.Authorization/roleAssignments/write", True),
        ("Reader", f"{_ML}/workspaces/onlineEndpoints/score/action", False),
    ],
)
def test_wildcards_of_roles(role: str, action: str, allowed: bool) -> None:
    found = role_of(role)
    assert found is not None
    assert found.allows(action) is allowed


def test_the_readme_names_the_service_principals() -> None:
    text = (Path(azureml_emulator.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert (
        dict(re.findall(r"^\| ([\w ]+?)(?:, used .*)? \| `(3{8}-[\d-]+)` \|$", text, re.MULTILINE))
        == SERVICE_PRINCIPALS
    )


def test_each_role_stands_once() -> None:
    assert len({role.id for role in ROLES}) == len({role.name for role in ROLES}) == len(ROLES)


@pytest.mark.parametrize(
    ("path", "version", "code"),
    [
        ("/subscriptions", "", "MissingApiVersionParameter"),
        ("{scope}/workspaces", "", "MissingApiVersionParameter"),
        ("{scope}/workspaces/ws/jobs", "2024-04-02", "NoRegisteredProviderFound"),
        ("{scope}/workspaces/ws/jobs", "latest", "NoRegisteredProviderFound"),
        ("{scope}/workspaces/ws/jobs", "2999-01-01", "NoRegisteredProviderFound"),
        ("/SUBSCRIPTIONS", "2016-06-32", "InvalidApiVersionParameter"),
    ],
)
def test_a_version_that_was_never_published_is_refused(
    cloud: EmulatedCloud, path: str, version: str, code: str
) -> None:
    address = cloud.url + path.format(scope=cloud.scope())
    asked = {"api-version": version} if version else {}
    found = requests.get(address, params=asked, verify=os.environ["REQUESTS_CA_BUNDLE"], timeout=30)
    assert (found.status_code, found.json()["error"]["code"]) == (400, code)


def test_words_of_paths_are_taken_in_any_case(cloud: EmulatedCloud, people: dict[str, Person]) -> None:
    owner, (method, path, body) = people["Owner"], _model(cloud)
    for word in ("/resourceGroups/", "/providers/", "/Microsoft.MachineLearningServices/", "/models/", "/versions/"):
        path = path.replace(word, word.upper())
    shouted, path = path, _model(cloud)[1]
    assert owner.call(method, shouted.replace("/workspaces/", "/WorkSpaces/"), body)[0] == 201
    status, found = owner.call("GET", path)
    assert (status, found["id"]) == (200, path)
    assert owner.call("GET", f"{cloud.path()}/JOBS")[0] == 200
    assert people["Reader"].call(method, shouted, body)[0] == 403


def test_tokens_are_given_for_known_services_only(cloud: EmulatedCloud) -> None:
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import ClientSecretCredential

    variables = by_secret("Reader")
    with ClientSecretCredential(
        variables["AZURE_TENANT_ID"],
        variables["AZURE_CLIENT_ID"],
        variables["AZURE_CLIENT_SECRET"],
        authority=cloud.url,
        disable_instance_discovery=True,
    ) as credential:
        for known in ("https://management.azure.com/", "https://some.blob.core.windows.net", cloud.url):
            assert credential.get_token(f"{known}/.default").token
        with pytest.raises(ClientAuthenticationError, match=r"AADSTS500011.*https://nobody\.example was not found"):
            credential.get_token("https://nobody.example/.default")
