"""The workspace's storage account: containers, folders of blobs, signed addresses."""

from __future__ import annotations

import contextlib
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from azureml_emulator.rest.rest_calls import ServiceRefusalError
from azureml_emulator.storage.azurite import ACCOUNT, KEY, Azurite

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient, ContainerClient

STORAGE_SUFFIX = "core.loopback"
_PUBLIC = f"https://{ACCOUNT}.blob.{STORAGE_SUFFIX}"


class AzuriteAccount:
    """Blobs as folders and files."""

    def __init__(self, azurite: Azurite) -> None:
        self._azurite = azurite
        self._client: BlobServiceClient | None = None
        self._containers: list[str] = []

    @property
    def account_url(self) -> str:
        """Address of the storage account."""
        return self._azurite.account_url

    def make_container(self, prefix: str) -> str:
        """A new container; its name starts with the prefix."""
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        self._service().create_container(name)
        self._containers.append(name)
        return name

    def url(self, container: str, path: str = "") -> str:
        """Address of a blob or container, without a signature."""
        return f"{self.account_url}/{container}" + (f"/{path}" if path else "")

    def signature(self, container: str, *, write: bool = False) -> str:
        """A shared access signature for a container."""
        from azure.storage.blob import generate_container_sas

        expiry = datetime.now(UTC) + timedelta(hours=1)
        permission = "racwdl" if write else "rl"
        return generate_container_sas(ACCOUNT, container, account_key=KEY, permission=permission, expiry=expiry)

    def signed(self, container: str, path: str = "", *, write: bool = False) -> str:
        """Address of a blob or container that everyone can use."""
        return f"{self.url(container, path)}?{self.signature(container, write=write)}"

    def public_url(self, container: str, path: str) -> str:
        """Address of a blob in the form that it has on Azure, which the SDK takes apart; nobody answers there."""
        return f"{_PUBLIC}/{container}/{path}"

    def owns(self, url: str) -> bool:
        """Whether an address is in this account."""
        return url.startswith((f"{self.account_url}/", f"{_PUBLIC}/"))

    def split(self, url: str) -> tuple[str, str]:
        """Container and path of an address in this account, in either form.

        Raises:
            ServiceRefusalError: 400, it is not in this account.
        """
        own = urlsplit(_PUBLIC if url.startswith(_PUBLIC) else self.account_url)
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.netloc != own.netloc or not path.startswith(f"{own.path}/"):
            raise ServiceRefusalError(
                400, "UserError", f"{url.split('?')[0]} is not in the storage account of the workspace"
            )
        container, _, rest = path.removeprefix(f"{own.path}/").partition("/")
        return container, rest

    def names(self, container: str, prefix: str = "") -> list[str]:
        """Blobs whose name starts with a prefix."""
        return sorted(self._container(container).list_blob_names(name_starts_with=prefix))

    def read(self, container: str, path: str) -> bytes:
        """Content of a blob."""
        return self._container(container).download_blob(path).readall()

    def write(self, container: str, path: str, content: bytes) -> None:
        """Write a blob, over an older one too."""
        self._container(container).upload_blob(path, content, overwrite=True)

    def download(self, container: str, path: str, target: Path) -> Path:
        """Download a blob as a file, or what is below a path as a folder.

        Args:
            container: Its container.
            path: Blob or folder.
            target: The folder or file that shall exist afterwards.

        Raises:
            ServiceRefusalError: 404, there is nothing at the path.
        """
        path = path.rstrip("/")
        below = self.names(container, f"{path}/" if path else "")
        if not below:
            if path not in self.names(container, path):
                raise ServiceRefusalError(404, "BlobNotFound", f"there is nothing at {container}/{path}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.read(container, path))
            return target
        for name in below:
            file = target / PurePosixPath(name).relative_to(path or ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.read(container, name))
        return target

    def upload(self, source: Path, container: str, path: str) -> None:
        """Upload a file, or a folder with all that is in it."""
        source = source.resolve()  # outputs of jobs are links
        if source.is_file():
            self.write(container, path.rstrip("/"), source.read_bytes())
            return
        for file in sorted(item for item in source.rglob("*") if item.is_file()):
            self.write(container, f"{path.rstrip('/')}/{file.relative_to(source).as_posix()}", file.read_bytes())

    def copy(self, container: str, path: str, to_container: str, to_path: str) -> None:
        """Copy a blob, or all blobs below a path."""
        path = path.rstrip("/")
        for name in self.names(container, path):
            rest = name.removeprefix(path)
            if rest == "" or rest.startswith("/"):
                self.write(to_container, to_path.rstrip("/") + rest, self.read(container, name))

    def clear(self) -> None:
        """Delete all containers."""
        from azure.core.exceptions import ResourceNotFoundError

        while self._containers:
            with contextlib.suppress(ResourceNotFoundError):  # a call that is repeated may have deleted it before
                self._service().delete_container(self._containers[-1])
            self._containers.pop()

    def _container(self, name: str) -> ContainerClient:
        return self._service().get_container_client(name)

    def _service(self) -> BlobServiceClient:
        from azure.storage.blob import BlobServiceClient

        if self._client is None:
            self._client = BlobServiceClient(self.account_url, credential=KEY)
        return self._client
