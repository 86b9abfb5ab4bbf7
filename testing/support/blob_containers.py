"""What tests of transfers share: a container of Azurite, folders of files, and a comparison of both through the SDK."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from azure.storage.blob import BlobServiceClient, ContainerClient, generate_container_sas

from azureml_emulator.storage.azurite import ACCOUNT, KEY
from vision_mlops.storage import BlobFolder, locate
from vision_mlops.storage.attempts import StorageRetryPolicy

QUICK = StorageRetryPolicy(attempts=4, first=0.02, longest=0.1, silence=5)
"""Waits that a test can afford."""


@dataclass(frozen=True)
class Container:
    """A container of Azurite, which the SDK reads; ``account_url`` may be that of a proxy before it."""

    account_url: str
    name: str
    client: ContainerClient

    def url(self, path: str = "data") -> str:
        """Address of a folder in it."""
        return f"{self.account_url}/{self.name}/{path}".rstrip("/")

    def sas(self, permission: str = "racwdl", minutes: float = 60) -> str:
        """A signature for it."""
        expiry = datetime.now(UTC) + timedelta(minutes=minutes)
        start = expiry - timedelta(hours=2)
        return generate_container_sas(
            ACCOUNT, self.name, account_key=KEY, permission=permission, expiry=expiry, start=start
        )

    def place(self, path: str = "data", permission: str = "racwdl", minutes: float = 60) -> BlobFolder:
        """A folder in it, signed in to with a signature."""
        return locate(self.url(path), environ={"AZURE_STORAGE_SAS_TOKEN": self.sas(permission, minutes)})

    def through(self, account_url: str) -> Container:
        """The same container by another address."""
        return Container(account_url, self.name, self.client)

    def contents(self, path: str = "data") -> dict[str, bytes]:
        """What the SDK reads below a path, by name relative to it; each blob has the MD5 of its content."""
        prefix = f"{path}/" if path else ""
        found = {}
        for blob in self.client.list_blobs(name_starts_with=prefix):
            content = self.client.download_blob(blob.name).readall()
            kept = blob.content_settings.content_md5
            assert kept is not None
            assert bytes(kept) == hashlib.md5(content, usedforsecurity=False).digest(), blob.name
            found[blob.name.removeprefix(prefix)] = content
        return found


def connection_string(account_url: str) -> str:
    """As the portal shows it for an account."""
    return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={account_url};"


def make_container(account_url: str) -> Container:
    """A new one; the caller deletes it."""
    service = BlobServiceClient(account_url, credential=KEY)
    name = f"transfer-{uuid.uuid4().hex[:12]}"
    return Container(account_url, name, service.create_container(name))


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Content of the files below a folder, by relative name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def many(count: int, size: int, seed: int = 0) -> dict[str, bytes]:
    """Files of random bytes, some in each of ten folders."""
    data = os.urandom(size + count)
    return {f"{number % 10}/{number:05d}.bin": data[number : number + size] for number in range(seed, seed + count)}
