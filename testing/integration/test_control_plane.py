"""The loopback cloud and the real SDK: who may call, what is missing, and what breaks on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from testing.fakes.client import loopback_client
from testing.fakes.cloud import Cloud
from testing.fakes.credential import LoopbackCredential

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


def test_a_workspace_is_found(client: MLClient, cloud: Cloud) -> None:
    found = client.workspaces.get(cloud.workspace)
    assert (found.name, found.location) == ("ws", "westeurope")


def test_a_missing_workspace_is_named(cloud: Cloud) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    with pytest.raises(ResourceNotFoundError, match="workspaces/other") as raised:
        loopback_client(cloud, workspace_name="other").compute.get("cpu-cluster")
    assert raised.value.status_code == 404


@pytest.mark.parametrize(
    ("credential", "code"),
    [
        (LoopbackCredential(audience="https://elsewhere"), "InvalidAuthenticationTokenAudience"),
        (LoopbackCredential(seconds=-60), "ExpiredAuthenticationToken"),
    ],
)
def test_a_bad_token_is_refused(cloud: Cloud, credential: LoopbackCredential, code: str) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    with pytest.raises(ClientAuthenticationError, match=code):
        loopback_client(cloud, credential).workspaces.get(cloud.workspace)
