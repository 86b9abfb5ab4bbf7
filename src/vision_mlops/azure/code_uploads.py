"""Uploads of code of jobs and deployments if the workspace's storage accepts no account keys.

The SDK (1.35.2) uploads data, models and environments to a datastore as the datastore requires, with our own identity if it
has no key. It uploads code to a place that the service names, with a signature that the service creates with the account's
key. If the account accepts no keys, that upload fails, so code is uploaded like data.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

IDENTITY_ONLY = frozenset({"NoneCredentialConfiguration", "AadCredentialConfiguration"})
"""Credentials of a datastore whose users sign in with a token."""


def opened_by_identity(datastore: Any) -> bool:
    """Return whether a datastore has neither a key nor a signature."""
    return type(datastore.credentials).__name__ in IDENTITY_ONLY


def let_code_follow_data(client: MLClient) -> None:
    """Let a client upload code to the default datastore if that is opened by identity.

    This replaces one method of one object inside the client. It names no place, so the SDK uses the datastore, as for data.
    Nothing is sent before code is uploaded.
    """
    from azure.ai.ml.entities._datastore._constants import WORKSPACE_BLOB_STORE

    versions: Any = client._code._service_client.code_versions
    start = versions.create_or_get_start_pending_upload
    no_place = SimpleNamespace(
        blob_reference_for_consumption=SimpleNamespace(credential=SimpleNamespace(sas_uri=None), blob_uri=None)
    )

    @cache
    def by_identity() -> bool:
        return opened_by_identity(client.datastores.get(WORKSPACE_BLOB_STORE))

    def place(*words: Any, **named: Any) -> Any:
        return no_place if by_identity() else start(*words, **named)

    versions.create_or_get_start_pending_upload = place
