"""Calls to one account of Custom Vision: sign-in, rate limit, and errors on one line."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx

from vision_mlops.azure.rest_client import RestClient
from vision_mlops.benchmark.custom_vision.call_limiter import CallLimiter
from vision_mlops.benchmark.custom_vision.service_account import ServiceAccount
from vision_mlops.benchmark.custom_vision.service_errors import (
    NOT_UNIQUE,
    RETIRED,
    BusyError,
    GaveUpError,
    VisionError,
    refusal,
)

T = TypeVar("T")
Query = Mapping[str, str]

_TIMEOUT = httpx.Timeout(60.0, connect=10.0, write=300.0, read=300.0)
"""A batch of 64 images takes its time, both to be sent and to be processed."""


class VisionClient(RestClient):
    """Calls to one account, for one thread.

    Args:
        account: Address and sign-in.
        limiter: Keeps within the calls a second that the account allows.
        say: Gets one message for each call that has to wait.
    """

    service = "Custom Vision"
    attempts = 6
    error = VisionError
    retryable = BusyError

    def __init__(self, account: ServiceAccount, limiter: CallLimiter, say: Callable[[str], None]) -> None:
        super().__init__(account.endpoint, _TIMEOUT, told=say)
        self._account, self._limiter = account, limiter
        self.unreached_hint = (
            f"check {account.variable('ENDPOINT')}, the network and the proxy; the service ends on {RETIRED}"
        )
        weakref.finalize(self, self._http.close)  # a contestant is not told when it is done

    def call(
        self, method: str, path: str, *, query: Query | None = None, body: Any = None, repeatable: bool = True
    ) -> Any:
        """Return the JSON of the response to a call; None if it has none.

        Args:
            method: Such as ``GET``.
            path: Path below the address of the service.
            query: Parameters.
            body: Sent as JSON; bytes are sent as they are.
            repeatable: Whether it may be repeated; otherwise it is sent again only if it was certainly not done.

        Raises:
            VisionError: refused, not signed in, or not reached; :class:`GaveUpError` if repeating it did not help, and
                :class:`BusyError` if it must not be repeated and may have been done.
        """
        return self._content(self._repeated(lambda: self._once(method, path, query, body), repeatable=repeatable))

    def timed_call(self, method: str, path: str, body: bytes) -> tuple[Any, float]:
        """Return the same, and the milliseconds from the request to the end of its response, without waits before it."""
        response = self._repeated(lambda: self._once(method, path, None, body), repeatable=True)
        return self._content(response), response.elapsed.total_seconds() * 1000

    def found_or_made(self, find: Callable[[], T | None], make: Callable[[], T]) -> T:
        """Find something, or create it.

        It is looked for again after a lost response, and if someone else has created it in the meantime, so that it is never
        created twice.

        Args:
            find: Looks for it with :meth:`call`.
            make: Creates it with :meth:`call`, not repeatable.

        Raises:
            VisionError: as :meth:`call`.
        """

        def once() -> T:
            if (found := find()) is not None:
                return found
            try:
                return make()
            except VisionError as error:
                if error.code in NOT_UNIQUE and (found := find()) is not None:
                    return found
                raise

        return self._repeated(once, repeatable=True)

    def _repeated(self, action: Callable[[], T], *, repeatable: bool) -> T:
        try:
            return super()._repeated(action, repeatable=repeatable)
        except BusyError as error:
            if not repeatable and not error.was_refused:
                raise  # the caller has to find out whether it was done
            raise GaveUpError(error.message, error.hint, error.status, error.code) from error

    def _once(self, method: str, path: str, query: Query | None, body: Any) -> httpx.Response:
        """Send one request, and return its response if it is a success."""
        sent: dict[str, Any] = {"json": body} if body is not None else {}
        headers = self._account.headers()
        if isinstance(body, bytes):
            sent = {"content": body}
            headers["Content-Type"] = "application/octet-stream"
        with self._limiter.call():
            response = self._exchange(method, f"{self._account.url}/{path}", params=query, headers=headers, **sent)
        if not response.is_success:
            raise refusal(self._account, response)
        return response

    def _content(self, response: httpx.Response) -> Any:
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise VisionError(
                f"the response of {self._account.endpoint} is not one of Custom Vision",
                f"check {self._account.variable('ENDPOINT')}",
                response.status_code,
            ) from error
