"""A folder in Blob Storage, and the way to sign in to it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from vision_mlops.storage.sign_in import SignIn


@dataclass(frozen=True)
class BlobFolder:
    """A folder in a container.

    Attributes:
        account_url: Address of the storage account.
        container: Name of the container.
        path: Folder in it, without slashes at its ends; empty for the container itself.
        sign_in: How requests are authorised; shows nothing of what it holds.
        datastore: Name of the datastore that it was found through, or empty.
    """

    account_url: str
    container: str
    path: str
    sign_in: SignIn
    datastore: str = ""

    @property
    def url(self) -> str:
        """Address of the folder, without a signature."""
        return "/".join(part for part in (self.account_url, self.container, quote(self.path)) if part)

    @property
    def prefix(self) -> str:
        """What the names of all blobs in the folder begin with."""
        return f"{self.path}/" if self.path else ""
