"""Accounts of Custom Vision: making, deleting and purging them, their keys, and who may call their APIs."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from testing.support.vision_accounts import VisionAccount, filled_project, manage

from azureml_emulator.custom_vision.vision_access import AUDIENCE
from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.identity.loopback_tokens import token

BODY: dict[str, Any] = {
    "kind": "CustomVision.Training", "sku": {"name": "F0"}, "location": "westeurope", "identity": {"type": "SystemAssigned"},
    "properties": {"customSubDomainName": "cv-a", "disableLocalAuth": True, "publicNetworkAccess": "Enabled"},
}  # fmt: skip


def refusal(cloud: EmulatedCloud, method: str, path: str, body: Any = None) -> tuple[int, str]:
    found = manage(cloud, method, path, body)
    return found.status_code, found.json()["error"]["code"]


def changed(**properties: Any) -> dict[str, Any]:
    return {**BODY, "properties": {**BODY["properties"], **properties}}


def test_an_account_is_made_deleted_and_purged(cloud: EmulatedCloud) -> None:
    made = manage(cloud, "PUT", "accounts/cv-a", BODY).json()
    assert made["properties"]["endpoint"].endswith("/cv-a/")
    assert made["identity"]["principalId"]
    assert [item["name"] for item in manage(cloud, "GET", "accounts").json()["value"]] == ["cv-a"]
    assert refusal(cloud, "POST", "accounts/cv-a/listKeys") == (400, "BadRequest")
    assert manage(cloud, "PATCH", "accounts/cv-a", {"properties": {"disableLocalAuth": False}}).status_code == 202
    keys = manage(cloud, "POST", "accounts/cv-a/listKeys").json()
    renewed = manage(cloud, "POST", "accounts/cv-a/regenerateKey", {"keyName": "Key2"}).json()
    assert keys["key1"] == renewed["key1"] != keys["key2"] != renewed["key2"]

    assert manage(cloud, "DELETE", "accounts/cv-a").status_code == 200
    assert refusal(cloud, "GET", "accounts/cv-a") == (404, "ResourceNotFound")
    assert refusal(cloud, "PUT", "accounts/cv-a", BODY) == (409, "FlagMustBeSetForRestore")
    assert refusal(cloud, "PUT", "accounts/cv-b", BODY) == (409, "CustomDomainInUse")
    assert manage(cloud, "PUT", "accounts/cv-a", changed(restore=True)).status_code == 201
    manage(cloud, "DELETE", "accounts/cv-a")
    provider = f"/subscriptions/{cloud.subscription}/providers/Microsoft.CognitiveServices"
    (gone,) = manage(cloud, "GET", f"{provider}/deletedAccounts").json()["value"]
    assert gone["id"].endswith("/resourceGroups/rg/deletedAccounts/cv-a")
    assert manage(cloud, "DELETE", gone["id"]).status_code == 200
    assert manage(cloud, "PUT", "accounts/cv-b", BODY).status_code == 201


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({**BODY, "kind": "OpenAI"}, 400, "InvalidApiSetId"),
        ({**changed(customSubDomainName="cv-c"), "sku": {"name": "S9"}}, 400, "InvalidSkuId"),
        ({**BODY, "location": ""}, 400, "LocationRequired"),
        (changed(customSubDomainName="-cv"), 400, "BadRequest"),
        (changed(disableLocalAuth="yes"), 400, "BadRequest"),
        (changed(customSubDomainName="cv-other"), 409, "CanNotCreateMultipleFreeAccounts"),
    ],
)
def test_what_is_no_account_is_refused(cloud: EmulatedCloud, body: Any, status: int, code: str) -> None:
    manage(cloud, "PUT", "accounts/cv-a", BODY)
    assert refusal(cloud, "PUT", "accounts/cv-new", body) == (status, code)
    assert refusal(cloud, "GET", "accounts/cv-new")[0] == 404


def test_each_api_takes_the_keys_of_its_own_account_only(cloud: EmulatedCloud) -> None:
    cloud.vision.limits["S0"].calls = None
    training, prediction = VisionAccount(cloud, "training"), VisionAccount(cloud, "prediction")
    other = VisionAccount(cloud, "training", name="cv-other")
    for key in ("", "wrong", prediction.key, other.key):
        assert training.refusal("GET", "/projects", headers={"Training-Key": key}) == (401, "401")
    assert training.refusal("GET", "/projects", headers={"Prediction-Key": training.key}) == (401, "401")
    path = f"/{uuid.uuid4()}/classify/iterations/live/image"
    assert prediction.refusal("POST", path, headers={"Prediction-Key": training.key}) == (401, "401")
    assert prediction.refusal("POST", path) == (404, "NotFoundProject")
    # The project of one account is not there for another, and the host of the region knows accounts by their keys.
    project = training.call("POST", "/projects", params={"name": "mine"})["id"]
    assert other.refusal("GET", f"/projects/{project}") == (404, "NotFoundProject")
    other.endpoint = f"{cloud.addresses.vision('')}/"
    assert other.call("GET", f"/projects/{project}", headers={"Training-Key": training.key})["name"] == "mine"
    bearer = {"Authorization": f"Bearer {token(AUDIENCE)}"}
    assert other.refusal("GET", "/projects", headers=bearer) == (400, "BadRequest")

    manage(cloud, "PATCH", "accounts/cv-training", {"properties": {"disableLocalAuth": True}})
    assert training.refusal("GET", "/projects") == (403, "AuthenticationTypeDisabled")
    assert training.call("GET", "/projects", headers=bearer)[0]["id"] == project


def test_a_token_needs_a_role_on_data(cloud: EmulatedCloud) -> None:
    cloud.vision.limits["S0"].calls = None
    training = VisionAccount(cloud, "training")
    project, tags = filled_project(training, 2)

    def allowed(role: str, method: str, path: str, **options: Any) -> bool:
        principal = str(uuid.uuid5(uuid.NAMESPACE_URL, role))
        cloud.roles.assign(principal, role, training.id)
        headers = {"Authorization": f"Bearer {token(AUDIENCE, oid=principal)}"}
        found = training.send(method, path, headers=headers, **options)
        assert found.ok or (found.status_code, found.json()["error"]["code"]) == (401, "PermissionDenied")
        return found.ok

    new_tag = {"params": {"name": "c"}}
    one, new = f"/projects/{project}", {"params": {"name": "new"}}
    assert not allowed("Owner", "GET", one)  # it allows nothing on data
    assert allowed("Cognitive Services Custom Vision Reader", "GET", one)
    assert not allowed("Cognitive Services Custom Vision Reader", "POST", f"{one}/tags", **new_tag)
    assert not allowed("Cognitive Services Custom Vision Deployment", "DELETE", f"{one}/tags/{tags['down']}")
    assert not allowed("Cognitive Services Custom Vision Trainer", "POST", "/projects", **new)
    assert not allowed("Cognitive Services Custom Vision Trainer", "DELETE", one)
    assert allowed("Cognitive Services Custom Vision Trainer", "POST", f"{one}/tags", **new_tag)
    assert allowed("Cognitive Services Custom Vision Contributor", "POST", "/projects", **new)
    assert allowed("Cognitive Services User", "DELETE", one)
    for audience in ("https://management.azure.com", cloud.url):
        headers = {"Authorization": f"Bearer {token(audience)}"}
        assert training.refusal("GET", "/projects", headers=headers) == (401, "401")
