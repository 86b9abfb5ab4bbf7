"""Code of jobs and deployments where the workspace's storage takes no account keys.

The SDK (1.35.2) puts data, models and environments into a datastore as the datastore wants it, by our own identity where it
has no key. Code it puts where the service says, with a signature that the service makes with the account's key; where the
account takes no keys, that upload fails. There, code goes the way of the data.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

IDENTITY_ONLY = frozenset({"NoneCredentialConfiguration", "AadCredentialConfiguration"})
"""Credentials of a datastore that mean: whoever comes, comes with a token."""


def opened_by_identity(datastore: Any) -> bool:
    """Whether a datastore has neither key nor signature of its own."""
    return type(datastore.credentials).__name__ in IDENTITY_ONLY


def let_code_follow_data(client: MLClient) -> None:
    """Make a client upload code into the default datastore where that is opened by identity.

    This changes one method of one object inside the client: asked for a place, it names none, and the SDK then takes the
    datastore, as it does with data. Nothing is asked before code is uploaded.
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
