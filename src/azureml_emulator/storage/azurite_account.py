"""The workspace's storage account: containers, folders of blobs, signed addresses."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from azureml_emulator.rest.cloud_addresses import CloudAddresses
from azureml_emulator.rest.rest_calls import ServiceRefusalError
from azureml_emulator.storage.azurite import ACCOUNT, KEY, Azurite
from azureml_emulator.storage.shared_key_gate import SharedKeyGate

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient, ContainerClient


class AzuriteAccount:
    """Blobs as folders and files.

    Args:
        azurite: The running storage.
        addresses: Knows the name of the account in responses.
        authority: Certificate authority to trust if Azurite is reached by https.

    Attributes:
        gate: The account's rule about its keys; it applies to clients that use ``front``.
        front: Address of the front end that clients should use; empty if they use Azurite itself.
    """

    def __init__(
        self, azurite: Azurite, addresses: Callable[[], CloudAddresses], authority: Path | None = None
    ) -> None:
        self._azurite = azurite
        self._addresses = addresses
        self._authority = authority
        self._lock = threading.Lock()
        self.gate = SharedKeyGate()
        self.front = ""
        self._client: BlobServiceClient | None = None
        self._containers: list[str] = []

    @property
    def account_url(self) -> str:
        """Return the address of the storage account that clients get."""
        if self._addresses().public:
            return self._public
        return f"{self.front}/{ACCOUNT}" if self.front else self._azurite.account_url

    @property
    def _public(self) -> str:
        return f"https://{ACCOUNT}.blob.{self._addresses().storage_suffix}"

    def make_container(self, prefix: str) -> str:
        """Create a container whose name starts with the prefix."""
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        self._service().create_container(name)
        self._containers.append(name)
        return name

    def url(self, container: str, path: str = "") -> str:
        """Return the address of a blob or container, without a signature."""
        return f"{self.account_url}/{container}" + (f"/{path}" if path else "")

    def signature(self, container: str, *, write: bool = False) -> str:
        """Return a shared access signature for a container."""
        from azure.storage.blob import generate_container_sas

        expiry = datetime.now(UTC) + timedelta(hours=1)
        permission = "racwdl" if write else "rl"
        return generate_container_sas(ACCOUNT, container, account_key=KEY, permission=permission, expiry=expiry)

    def signed(self, container: str, path: str = "", *, write: bool = False) -> str:
        """Return an address of a blob or container that everyone can use."""
        return f"{self.url(container, path)}?{self.signature(container, write=write)}"

    def public_url(self, container: str, path: str) -> str:
        """Return the address of a blob in the form that it has on Azure, which the SDK parses; nobody need respond there."""
        return f"{self._public}/{container}/{path}"

    def owns(self, url: str) -> bool:
        """Return whether an address is in this account."""
        return url.startswith(tuple(f"{form}/" for form in self._forms()))

    def split(self, url: str) -> tuple[str, str]:
        """Return container and path of an address in this account, in either form.

        Raises:
            ServiceRefusalError: 400, it is not in this account.
        """
        own = urlsplit(next((form for form in self._forms() if url.startswith(f"{form}/")), self.account_url))
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.netloc != own.netloc or not path.startswith(f"{own.path}/"):
            raise ServiceRefusalError(
                400, "UserError", f"{url.split('?')[0]} is not in the storage account of the workspace"
            )
        container, _, rest = path.removeprefix(f"{own.path}/").partition("/")
        return container, rest

    def names(self, container: str, prefix: str = "") -> list[str]:
        """Return the blobs whose name starts with a prefix."""
        return sorted(self._container(container).list_blob_names(name_starts_with=prefix))

    def read(self, container: str, path: str) -> bytes:
        """Return the content of a blob."""
        return self._container(container).download_blob(path).readall()

    def write(self, container: str, path: str, content: bytes) -> None:
        """Write a blob, replacing an older one."""
        self._container(container).upload_blob(path, content, overwrite=True)

    def download(self, container: str, path: str, target: Path) -> Path:
        """Download a blob as a file, or everything below a path as a folder.

        Args:
            container: Its container.
            path: Blob or folder.
            target: File or folder to create.

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
        """Upload a file, or a folder with everything in it."""
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
            with contextlib.suppress(ResourceNotFoundError):  # a repeated call may already have deleted it
                self._service().delete_container(self._containers[-1])
            self._containers.pop()

    def _forms(self) -> list[str]:
        """Return all forms of the account's address. The SDK only keeps scheme and host when it uploads code."""
        found = [self.account_url, self._azurite.account_url, self._public]
        return [*found, self.front] if self.front else found

    def _container(self, name: str) -> ContainerClient:
        return self._service().get_container_client(name)

    def _service(self) -> BlobServiceClient:
        from azure.storage.blob import BlobServiceClient

        with self._lock:
            if self._client is None:
                trust: str | bool = str(self._authority) if self._authority else True
                self._client = BlobServiceClient(self._azurite.account_url, credential=KEY, connection_verify=trust)
            return self._client
