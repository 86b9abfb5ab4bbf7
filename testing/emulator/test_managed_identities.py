"""Managed identities of the emulator: who may act as them, and what the service refuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import requests

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.identity.loopback_tokens import token
from azureml_emulator.resources.identity_routes import MOST_FEDERATIONS

Put = Callable[[str, Any], tuple[int, Any]]
ORIGIN = {
    "issuer": "https://vstoken.dev.azure.com/0",
    "subject": "sc://o/p/c",
    "audiences": ["api://AzureADTokenExchange"],
}


@pytest.fixture
def put(cloud: EmulatedCloud) -> Put:
    """Make something below the identities of the group."""

    def call(path: str, body: Any) -> tuple[int, Any]:
        group = cloud.scope().partition("/providers/")[0]
        found = requests.put(
            f"{cloud.url}{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{path}?api-version=2023-01-31",
            json=body,
            headers={"Authorization": f"Bearer {token(cloud.url)}"},
            verify=os.environ["REQUESTS_CA_BUNDLE"],
            timeout=30,
        )
        return found.status_code, found.json()

    return call


def test_an_identity_keeps_its_ids(put: Put) -> None:
    first, again = (
        put("id-one", {"location": "westeurope"}),
        put("id-one", {"location": "westeurope", "tags": {"a": "b"}}),
    )
    assert (first[0], again[0]) == (201, 200)
    assert first[1]["properties"] == again[1]["properties"]
    assert put("id-two", {"location": "westeurope"})[1]["properties"]["clientId"] != first[1]["properties"]["clientId"]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("id-one", {}, 400, "location"),
        ("i", {"location": "westeurope"}, 400, "3 to 128"),
        ("nobody/federatedIdentityCredentials/one", {"properties": ORIGIN}, 404, "nobody"),
        ("id-one/federatedIdentityCredentials/a b", {"properties": ORIGIN}, 400, "3 to 120"),
        ("id-one/federatedIdentityCredentials/two", {"properties": {**ORIGIN, "issuer": "http://a"}}, 400, "https"),
        ("id-one/federatedIdentityCredentials/two", {"properties": {**ORIGIN, "subject": ""}}, 400, "subject"),
        ("id-one/federatedIdentityCredentials/two", {"properties": {**ORIGIN, "audiences": []}}, 400, "audience"),
        ("id-one/federatedIdentityCredentials/two", {"properties": ORIGIN}, 409, "already exists"),
    ],
)
def test_what_the_service_does_not_take(put: Put, path: str, body: Any, status: int, words: str) -> None:
    put("id-one", {"location": "westeurope"})
    assert put("id-one/federatedIdentityCredentials/one", {"properties": ORIGIN})[0] == 201
    answer = put(path, body)
    assert answer[0] == status
    assert words in answer[1]["error"]["message"]


def test_an_identity_has_only_so_many_federations(put: Put) -> None:
    put("id-one", {"location": "westeurope"})
    made = [
        put(
            f"id-one/federatedIdentityCredentials/number-{each}", {"properties": {**ORIGIN, "subject": f"sc://{each}"}}
        )[0]
        for each in range(MOST_FEDERATIONS + 1)
    ]
    assert made == [201] * MOST_FEDERATIONS + [400]
