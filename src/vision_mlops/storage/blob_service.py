"""The Blob service's protocol: each method is one request, made again while the service is busy or the network is down."""

from __future__ import annotations

import http.client
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape

from vision_mlops import __version__
from vision_mlops.core.files import is_clutter
from vision_mlops.storage.attempts import FileError, StorageRetryPolicy, UnsettledError
from vision_mlops.storage.blob_folder import BlobFolder
from vision_mlops.storage.blob_listing import PAGE, Blob, decode_md5, encode_md5, next_marker, read_page
from vision_mlops.storage.http_connections import Connections, StorageResponse
from vision_mlops.storage.md5 import md5
from vision_mlops.storage.service_errors import RefusalError, not_reached, refusal
from vision_mlops.storage.sign_in import AccountKey

API_VERSION = "2021-12-02"
BLOCK = 4 * 1024 * 1024
"""Files of more bytes go in parts of so many."""
_FIRST_ATTEMPTS = 3
_READ_ATTEMPTS = 3
_LIST = "restype=container&comp=list"


class TransferStoppedError(Exception):
    """The transfer was stopped; requests that are under way are abandoned."""


class BlobService:
    """Requests to one container. Threads share it.

    Args:
        place: The container; names below are whole names of blobs, its path included.
        patience: How requests are retried.
    """

    def __init__(self, place: BlobFolder, patience: StorageRetryPolicy | None = None) -> None:
        self.place = place
        self._patience = patience or StorageRetryPolicy()
        self._connections = Connections(place.account_url, self._patience.silence)
        self._base = f"{urlsplit(place.account_url).path.rstrip('/')}/{place.container}"
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._reached = False

    def blobs(self) -> Iterator[tuple[str, Blob]]:
        """Yield all blobs of the folder, by whole name.

        Raises:
            RefusalError: the container does not exist, may not be listed, or cannot be reached.
        """
        with ThreadPoolExecutor(1, "listing") as ahead:
            waiting: Future[bytes] | None = ahead.submit(self._page, "")
            while waiting is not None:
                content = waiting.result()
                marker = next_marker(content)
                waiting = ahead.submit(self._page, marker) if marker else None
                yield from read_page(content)

    def files(self) -> Iterator[tuple[str, Blob]]:
        """Yield all blobs of the folder by relative name, without what file browsers leave behind; see :meth:`blobs`."""
        start = len(self.place.prefix)
        return ((name[start:], blob) for name, blob in self.blobs() if not is_clutter(name[start:]))

    def _page(self, marker: str) -> bytes:
        query = f"{_LIST}&maxresults={PAGE}&include=metadata&prefix={quote(self.place.prefix, safe='')}"
        query += f"&marker={quote(marker, safe='')}" if marker else ""
        return self._call("GET", f"container {self.place.container!r}", "", query, {}, expected=(200,)).content

    def create_container(self) -> None:
        """Create the container; an existing one is fine. Raises AzureError."""
        what = f"container {self.place.container!r}"
        sign_in = self.place.sign_in
        if isinstance(sign_in, AccountKey):  # a signature of a container may not make it
            sign_in.make_container(self.place.account_url)
            return
        self._call("PUT", what, "", "restype=container", {}, expected=(201, 409))

    def put(self, name: str, content: bytes, digest: bytes, kind: str, known: Blob | None) -> None:
        """Write a blob with one request.

        Args:
            name: Name of the blob.
            content: The content.
            digest: Its MD5, which the service compares and keeps.
            kind: Its Content-Type.
            known: The blob to replace, as it was listed; None if there is none. It is not replaced if it was changed since.
        """
        text = encode_md5(digest)
        headers = {
            "x-ms-blob-type": "BlockBlob",
            "Content-MD5": text,
            "x-ms-blob-content-md5": text,
            "x-ms-blob-content-type": kind,
            **_unchanged(known),
        }
        self._call("PUT", name, name, "", headers, content, expected=(201,))

    def blocks(self, name: str) -> dict[str, int]:
        """Return the sizes of the blocks of a blob by name, including those that were sent but not committed yet."""
        response = self._call("GET", name, name, "comp=blocklist&blocklisttype=all", {}, expected=(200, 404))
        if response.status == 404:
            return {}
        root = ET.fromstring(response.content)
        # If a name is in both lists, the one that was sent last counts, as in a commit.
        found = [*root.iterfind("CommittedBlocks/Block"), *root.iterfind("UncommittedBlocks/Block")]
        return {item.findtext("Name") or "": int(item.findtext("Size") or -1) for item in found}

    def put_block(self, name: str, block: str, content: bytes, digest: bytes) -> None:
        """Send a block; the service compares its MD5."""
        query = f"comp=block&blockid={quote(block, safe='')}"
        self._call("PUT", name, name, query, {"Content-MD5": encode_md5(digest)}, content, expected=(201,))

    def commit(self, name: str, blocks: Sequence[str], digest: bytes, kind: str, known: Blob | None) -> None:
        """Commit blocks as a blob; the arguments are those of :meth:`put`, with the ``digest`` of the whole blob."""
        body = "".join(f"<Latest>{escape(block)}</Latest>" for block in blocks)
        content = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{body}</BlockList>'.encode()
        headers = {
            "x-ms-blob-content-md5": encode_md5(digest),
            "x-ms-blob-content-type": kind,
            **_unchanged(known),
        }
        self._call("PUT", name, name, "comp=blocklist", headers, content, expected=(201,))

    def find(self, name: str) -> Blob | None:
        """Return a blob as it is now; None if it does not exist."""
        response = self._call("HEAD", name, name, "", {}, expected=(200, 404))
        if response.status == 404:
            return None
        size, digest = int(response.headers["Content-Length"]), response.headers.get("Content-MD5") or ""
        return Blob(size, decode_md5(digest), response.headers.get("ETag") or "")

    def get(self, name: str, known: Blob, start: int = 0, size: int | None = None, *, check: bool = False) -> bytes:
        """Return the content of a blob, or a part of it, if it has not changed since it was listed.

        Args:
            name: Name of the blob.
            known: The blob as it was listed.
            start: First byte.
            size: Number of bytes; by default all.
            check: Ask the service for the MD5 of the part, which may have at most 4 MiB, and compare it.
        """
        wanted = known.size if size is None else size
        headers = {"If-Match": known.etag}
        if size is not None:
            headers["x-ms-range"] = f"bytes={start}-{start + size - 1}"
            if check:
                headers["x-ms-range-get-content-md5"] = "true"
        return self._call("GET", name, name, "", headers, expected=(200, 206), size=wanted, check=check).content

    def read(self, name: str, known: Blob, read: Callable[[Blob], None]) -> None:
        """Read a blob in several requests; if it was changed since it was listed, read it again as it is now.

        Args:
            name: Name of the blob.
            known: The blob as it was listed.
            read: Reads the given version.

        Raises:
            FileError: it was removed, keeps changing, or ``read`` raised it.
            RefusalError: what ``read`` raised for another reason.
        """

        def once() -> None:
            nonlocal known
            try:
                read(known)
            except RefusalError as error:
                if error.code not in ("ConditionNotMet", "BlobNotFound"):
                    raise
                found = self.find(name) if error.code == "ConditionNotMet" else None
                if found is None:
                    raise FileError("it was removed in storage in the meantime; run again") from error
                known = found
                raise UnsettledError("it keeps changing in storage; run again when nothing writes to it") from error

        self.settle(once)

    def fetch(self, name: str, blob: Blob, target: Path) -> None:
        """Write a blob of the folder to a file, in parts whose MD5 is compared, all of one version.

        Args:
            name: Name relative to the folder.
            blob: The blob as it was listed.
            target: The file.

        Raises:
            FileError: this blob is gone, keeps changing, or is refused.
            RefusalError: all other blobs would be refused, too.
            TransferStoppedError: see :meth:`stop`.
        """
        full = self.place.prefix + name

        def write(newest: Blob) -> None:
            with target.open("wb") as stream:
                for start in range(0, newest.size, BLOCK):
                    size = min(BLOCK, newest.size - start)
                    stream.write(self.get(full, newest, start, size, check=True))

        try:
            self.read(full, blob, write)
        except RefusalError as error:
            if error.transient:
                with self._lock:  # one thread is enough
                    self.require()  # raises an error if it is not about this blob
            if error.fatal:
                raise
            raise FileError(error.message) from error

    def settle(self, read: Callable[[], None]) -> None:
        """Read something, and read it again while it raises UnsettledError, a few times."""
        self._patience.repeat(read, lambda error: isinstance(error, UnsettledError), lambda: _READ_ATTEMPTS, self.rest)

    def delete(self, name: str, known: Blob) -> None:
        """Delete a blob if it has not changed since it was listed; it may be gone already."""
        self._call("DELETE", name, name, "", {"If-Match": known.etag}, expected=(202, 404))

    def require(self) -> None:
        """Raise RefusalError with ``fatal`` if the service does not respond at all, or refuses all our requests."""
        what = f"container {self.place.container!r}"
        query = f"{_LIST}&maxresults=1&prefix={quote(self.place.prefix, safe='')}"
        try:
            self._call("GET", what, "", query, {}, expected=(200,), attempts=2)
        except RefusalError as error:
            error.fatal = True
            raise

    def stop(self) -> None:
        """End all requests at once, including those waiting for another attempt: they raise TransferStoppedError."""
        self._stopping.set()
        self._connections.cut()

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()

    def rest(self, seconds: float) -> None:
        """Wait some seconds. Raises TransferStoppedError."""
        if self._stopping.wait(seconds):
            raise TransferStoppedError

    def _call(
        self,
        method: str,
        what: str,
        name: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        expected: tuple[int, ...],
        size: int | None = None,
        check: bool = False,
        attempts: int = 0,
    ) -> StorageResponse:
        """Make a request until the response is as expected.

        Raises:
            RefusalError: the service refuses, or cannot be reached after all attempts.
            TransferStoppedError: see :meth:`stop`.
        """

        def once() -> StorageResponse:
            if self._stopping.is_set():
                raise TransferStoppedError
            try:
                response = self._send(method, name, query, headers, body)
            except (OSError, http.client.HTTPException) as broken:
                if self._stopping.is_set():
                    raise TransferStoppedError from None
                # Nothing of the cause is shown: messages of others may hold addresses with signatures.
                host = urlsplit(self.place.account_url).netloc
                raise not_reached(what, host, broken, self._reached, self.place.sign_in.hide) from None
            self._reached = True
            error = self._check_response(what, response, expected, size, check)
            if error is None:
                return response
            if error.status == 401 and self.place.sign_in.renew():
                return once()
            raise error

        def limit() -> int:
            most = attempts or self._patience.attempts
            # Before the first response, a wrong address is more likely than a network that is down for a moment.
            return most if self._reached else min(most, _FIRST_ATTEMPTS)

        return self._patience.repeat(
            once, lambda error: isinstance(error, RefusalError) and error.transient, limit, self.rest
        )

    def _send(self, method: str, name: str, query: str, headers: Mapping[str, str], body: bytes) -> StorageResponse:
        sign_in = self.place.sign_in
        full = "&".join(part for part in (query, sign_in.query()) if part)
        target = f"{self._base}/{quote(name)}" if name else self._base
        common = {
            "x-ms-version": API_VERSION,
            "x-ms-date": formatdate(usegmt=True),
            "User-Agent": f"vision-mlops/{__version__}",
            **sign_in.headers(),
        }
        return self._connections.request(method, f"{target}?{full}" if full else target, {**common, **headers}, body)

    def _check_response(
        self, what: str, response: StorageResponse, expected: tuple[int, ...], size: int | None, check: bool
    ) -> RefusalError | None:
        """Return the error in a response; None if it is as expected."""
        if response.status not in expected or (response.status == 404 and _container_missing(response)):
            sign_in = self.place.sign_in
            error = refusal(what, response, sign_in.kind, sign_in.ended)
            error.message = sign_in.hide(error.message)
            return error
        if size is not None and len(response.content) != size:
            return RefusalError(
                f"{what}: received {len(response.content)} of {size} bytes", "try again", transient=True
            )
        if check:
            digest = md5(response.content).digest()
            if digest != decode_md5(response.headers.get("Content-MD5") or ""):
                return RefusalError(
                    f"{what}: the content that was received does not match its MD5", "try again", transient=True
                )
        return None


def _unchanged(known: Blob | None) -> dict[str, str]:
    return {"If-Match": known.etag} if known else {"If-None-Match": "*"}


def _container_missing(response: StorageResponse) -> bool:
    return (
        b"<Code>ContainerNotFound" in response.content or response.headers.get("x-ms-error-code") == "ContainerNotFound"
    )
