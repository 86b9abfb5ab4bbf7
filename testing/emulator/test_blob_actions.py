"""What requests to Blob Storage need, in the words of roles."""

from __future__ import annotations

import pytest

from azureml_emulator.storage.blob_actions import actions_of, below_account


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "wanted"),
    [
        ("GET", "/", "comp=list", {}, ["containers/read"]),
        ("POST", "/", "restype=service&comp=userdelegationkey", {}, ["generateUserDelegationKey/action"]),
        ("GET", "/c", "restype=container", {}, ["containers/read"]),
        ("DELETE", "/c", "restype=container", {}, ["containers/delete"]),
        ("GET", "/c", "restype=container&comp=list", {}, ["containers/blobs/read data"]),
        ("HEAD", "/c/a/b", "", {}, ["containers/blobs/read data"]),
        ("PUT", "/c/a/b", "comp=block&blockid=x", {}, ["containers/blobs/write data"]),
        ("PUT", "/c/a", "", {"if-none-match": "*"}, ["containers/blobs/write or containers/blobs/add/action data"]),
        ("DELETE", "/c/a", "", {}, ["containers/blobs/delete data"]),
        ("PUT", "/c/a", "comp=tags", {}, ["containers/blobs/tags/write data"]),
        ("GET", "/name", "", {}, ["containers/blobs/read data"]),  # in the root container
        (
            "PUT", "/c/a", "", {"x-ms-copy-source": "https://x.blob.core.windows.net/d/b"},
            ["containers/blobs/write data", "containers/blobs/read data"],
        ),
        ("PUT", "/c/a", "", {"x-ms-copy-source": "https://x/d/b?sig=1"}, ["containers/blobs/write data"]),
    ],
)  # fmt: skip
def test_a_request_needs_actions(
    method: str, path: str, query: str, headers: dict[str, str], wanted: list[str]
) -> None:
    head = "Microsoft.Storage/storageAccounts/blobServices/"
    found = actions_of(method, path, query, headers)
    assert [
        " or ".join(action.removeprefix(head) for action in item.action) + (" data" if item.data else "")
        for item in found
    ] == wanted


def test_the_account_is_part_of_the_path_on_this_machine_only() -> None:
    assert below_account("127.0.0.1", "/account/c/a") == "/c/a"
    assert below_account("account.blob.core.windows.net", "/c/a") == "/c/a"
