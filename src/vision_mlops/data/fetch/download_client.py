"""Downloads a file over http or https: resumes where it stopped, retries with patience, and verifies the result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vision_mlops.core.errors import DownloadError
from vision_mlops.core.retry_after import wait_asked_for
from vision_mlops.data.fetch.http_responses import (
    TEMPORARY,
    continues,
    phrase,
    remedy,
    shown,
    version_of,
)
from vision_mlops.data.fetch.http_sessions import CHUNK, RetryError, open_session, read_some, redirected, translated
from vision_mlops.data.fetch.partial_file import Part, Version
from vision_mlops.data.fetch.verification import ExpectedFile, check_length, check_space, not_written, too_long, verify

if TYPE_CHECKING:
    import requests
    from tenacity import RetryCallState

_REDIRECTS = 10

Progress = Callable[[int, int | None], None]
"""Called with the bytes so far, and the total if the server announces it."""


@dataclass(frozen=True, slots=True)
class DownloadRetryPolicy:
    """How often and how long to try. All times are in seconds.

    Attributes:
        attempts: Number of attempts in a row that bring less than a megabyte, before it gives up.
        pause: Pause before the second attempt; it doubles with each, less a random part, up to ``longest_pause``.
        longest_wait: The most that a server may ask for with ``Retry-After``.
        connect: Time until a connection has to be established.
        stall: Time without data after which a connection is considered dead.
    """

    attempts: int = 6
    pause: float = 1.0
    longest_pause: float = 60.0
    longest_wait: float = 300.0
    connect: float = 15.0
    stall: float = 60.0


class DownloadStoppedError(Exception):
    """The download was stopped by :meth:`DownloadClient.stop`; what was downloaded is kept."""


class DownloadClient:
    """Downloads files; may be used from several threads.

    Args:
        patience: How often and how long to try.
        say: Called with the reason whenever it tries again.
    """

    def __init__(
        self, patience: DownloadRetryPolicy | None = None, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self._patience = patience or DownloadRetryPolicy()
        self._say = say
        self._stop = threading.Event()
        self._local = threading.local()  # a session keeps connections, and is not for several threads
        self._open: set[requests.Response] = set()

    def stop(self) -> None:
        """End the downloads of all threads, including those that wait for a byte."""
        self._stop.set()
        for response in list(self._open):
            with suppress(OSError, ValueError, RuntimeError):  # it is just ending by itself
                response.raw.shutdown()

    def download(
        self,
        wanted: ExpectedFile,
        target: Path,
        *,
        known: Version | None = None,
        progress: Progress | None = None,
    ) -> Version | None:
        """Download a file to ``target``, whole or not at all, continuing what an interruption left.

        Args:
            wanted: Address, and what is known about the content.
            target: The file; its beginning is next to it as ``NAME.part``.
            known: Version of the caller's copy; the file is not sent again if it is the same.
            progress: Called with the progress.

        Returns:
            The version of the file; None if ``known`` is still what the server has.

        Raises:
            DownloadError: it cannot be downloaded, or is not what was wanted.
            DataError: the disk is full.
            DownloadStoppedError: :meth:`stop` was called.
            MissingExtraError: requests is not installed.
        """
        self._session()
        part = Part(target)
        try:
            version = self._insist(wanted, part, known, progress)
            if version is None:
                part.discard()
                return None
            verify(wanted, part)
        except BaseException:
            if not part.resumable(wanted.sha256):
                part.discard()  # a later rest could be of another content unnoticed
            raise
        part.finish()
        return version

    def _insist(
        self, wanted: ExpectedFile, part: Part, known: Version | None, progress: Progress | None
    ) -> Version | None:
        import tenacity as t

        patience, before = self._patience, part.size
        half, longest_half = patience.pause / 2, patience.longest_pause / 2
        backoff = t.wait_exponential(half, longest_half) + t.wait_random_exponential(half, longest_half)

        def count(state: RetryCallState) -> None:
            nonlocal before
            if part.size - before >= CHUNK:
                state.attempt_number = 1
            before = part.size

        def give_up(state: RetryCallState) -> NoReturn:
            again = _failure(state)
            raise _given_up(wanted, part, again, state.attempt_number) from again

        return t.Retrying(
            retry=t.retry_if_exception_type(RetryError),
            after=count,
            stop=t.stop_after_attempt(patience.attempts),
            wait=lambda state: max(_failure(state).wait, backoff(state)),
            before_sleep=lambda state: self._say(
                f"{shown(wanted.url)}: {_failure(state)}; trying again in {state.upcoming_sleep:.1f} s"
            ),
            sleep=self._sleep,
            retry_error_callback=give_up,
        )(self._try, wanted, part, known, progress)

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise DownloadStoppedError

    def _try(
        self, wanted: ExpectedFile, part: Part, known: Version | None, progress: Progress | None
    ) -> Version | None:
        """Make one request, and read its body to the end of the part."""
        if self._stop.is_set():
            raise DownloadStoppedError
        if part.size and part.size == wanted.size and part.resumable(wanted.sha256):
            return part.version  # it was killed between the last byte and the verification
        headers = _headers(wanted, part, known)
        with (
            translated(wanted.url, self._patience.connect, self._patience.stall),
            self._response(wanted.url, headers) as response,
        ):
            if response.status_code == 304 and known is not None:
                return None
            if response.status_code == 416 and "Range" in headers and part.size == part.version.length:
                return part.version
            if response.status_code in (206, 416) and "Range" in headers:
                version, start = _rest(wanted, part, response), part.size
            elif response.status_code == 200:
                version, start = _whole(wanted, part, response), 0
            else:
                _refuse(wanted.url, response, self._patience.longest_wait)
            check_space(part.target, (version.length or start) - start)
            self._receive(wanted, part, response, start, version.length, progress)
        return version

    @contextmanager
    def _response(self, url: str, headers: Mapping[str, str]) -> Iterator[requests.Response]:
        """Request an address and yield the response after redirects."""
        session = self._session()
        place = url
        for _ in range(_REDIRECTS + 1):
            timeout = (self._patience.connect, self._patience.stall)
            with session.get(place, headers=headers, stream=True, timeout=timeout) as response:
                if not response.is_redirect:
                    self._open.add(response)
                    try:
                        if self._stop.is_set():  # it came after stop had looked for it
                            raise DownloadStoppedError
                        yield response
                    finally:
                        self._open.discard(response)
                    return
            place = redirected(url, place, response)
        raise DownloadError(
            f"{shown(url)}: more than {_REDIRECTS} redirects", "check the address", response.status_code
        )

    def _receive(
        self,
        wanted: ExpectedFile,
        part: Part,
        response: requests.Response,
        start: int,
        length: int | None,
        progress: Progress | None,
    ) -> None:
        limit = wanted.size if wanted.size is not None else wanted.limit
        total = length if length is not None else wanted.size
        done = start
        while content := read_some(response, done, total):
            done += len(content)
            if limit is not None and done > limit:
                part.discard()
                raise too_long(wanted, f"more than {limit:,}", response.status_code)
            try:
                part.append(content)
            except OSError as error:
                raise not_written(part, error, total, part.resumable(wanted.sha256)) from error
            if progress is not None:
                progress(done, total)
            if self._stop.is_set():
                raise DownloadStoppedError
        if total is not None and done != total:
            if done > total:
                part.discard()
            raise RetryError(f"{done:,} of {total:,} bytes arrived", response.status_code)

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = open_session()
        found: requests.Session = self._local.session
        return found


def _headers(wanted: ExpectedFile, part: Part, known: Version | None) -> dict[str, str]:
    """Build the headers: bytes that are there need not be sent again, and nothing if the caller's copy is current."""
    headers: dict[str, str] = {}
    if part.size and part.resumable(wanted.sha256):
        headers["Range"] = f"bytes={part.size}-"
        if part.version.condition:
            headers["If-Range"] = part.version.condition
    if known is not None:
        conditions = {"If-None-Match": known.etag, "If-Modified-Since": known.modified}
        headers |= {key: value for key, value in conditions.items() if value}
    return headers


def _rest(wanted: ExpectedFile, part: Part, response: requests.Response) -> Version:
    """Return the version that continues the part; if none does, discard the part and ask for all of it."""
    if response.status_code == 416 or not continues(response.headers, part.size, part.version, wanted.size):
        part.discard()
        raise RetryError("the server sent a different range than requested", response.status_code)
    return part.version


def _whole(wanted: ExpectedFile, part: Part, response: requests.Response) -> Version:
    """Return the version that is sent from its first byte."""
    version = version_of(response.headers)
    check_length(wanted, version.length)
    check_space(part.target, version.length or 0)
    part.begin(version)
    return version


def _refuse(url: str, response: requests.Response, longest_wait: float) -> NoReturn:
    said = f"the server responded with {phrase(response.status_code)}"
    if response.status_code in TEMPORARY:
        wait = wait_asked_for(response.headers) or 0.0
        if wait > longest_wait:
            message = f"{shown(url)}: {said}, and asks to wait {wait:,.0f} s"
            raise DownloadError(message, "try again after that time", response.status_code)
        raise RetryError(said, response.status_code, wait)
    raise DownloadError(f"{shown(url)}: {said}", remedy(response.status_code), response.status_code)


def _failure(state: RetryCallState) -> RetryError:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, RetryError), "only of a try that failed so"
    return error


def _given_up(wanted: ExpectedFile, part: Part, again: RetryError, failures: int) -> DownloadError:
    tries = f" ({failures} tries)" if failures > 1 else ""
    if again.status == 0:
        message = f"{shown(wanted.url)} cannot be downloaded: {again}{tries}"
        hint = "check the address and the network"
    else:
        message, hint = f"{shown(wanted.url)}: {again}{tries}", remedy(again.status)
        if again.status < 300:
            hint = "try again"
    if part.size and part.resumable(wanted.sha256):
        hint += f"; {part.size:,} bytes are kept and not downloaded again"
    return DownloadError(message, hint, again.status)
