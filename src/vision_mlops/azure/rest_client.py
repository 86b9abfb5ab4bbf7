"""A client of a REST interface that no SDK covers: connections, retries, and errors that name the service.

A call is sent again after throttling, and if the service was never reached. A call that may be repeated is also sent again
after faults of the service and lost connections: a lost response says nothing about what was done.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from vision_mlops import __version__
from vision_mlops.azure.proxy_check import silent_proxy
from vision_mlops.azure.trusted_authorities import trusting_context
from vision_mlops.core.errors import AzureError
from vision_mlops.core.listening import is_on_this_machine
from vision_mlops.core.retry_after import wait_asked_for

T = TypeVar("T")

_LONGEST_PAUSE_S = 60.0
_LENGTH = 600
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)


class RetryableError(AzureError):
    """The same call may succeed a little later.

    Attributes:
        wait: How many seconds the service asks to wait; None if it does not say.
        was_refused: Whether the service has certainly not done what it was asked to do.
    """

    wait: float | None = None
    was_refused = False

    def with_wait(self, response: httpx.Response, *, was_refused: bool) -> Self:
        """Return the same error with what a response says about the next attempt."""
        self.wait = wait_asked_for(response.headers, _LONGEST_PAUSE_S)
        self.was_refused = was_refused
        return self


class RestClient:
    """Calls to one service, for one thread.

    Args:
        url: Address of the service; all calls are below it or go to hosts beside it.
        timeout: How long a call may take.
        sleep: Waits some seconds between attempts.
        told: Called with one message for each call that has to wait.
    """

    service: str
    """Name of the service in messages."""
    attempts: ClassVar[int] = 5
    error: ClassVar[type[AzureError]] = AzureError
    retryable: ClassVar[type[RetryableError]] = RetryableError
    unreached_hint = "check the address, the network and the proxy"

    def __init__(
        self,
        url: str,
        timeout: httpx.Timeout | float,
        sleep: Callable[[float], None] = time.sleep,
        told: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.url = url
        self._sleep, self._told = sleep, told
        self._http = httpx.Client(
            verify=trusting_context(url),
            timeout=timeout,
            headers={"Accept": "application/json", "User-Agent": f"vision-mlops/{__version__}"},
            follow_redirects=False,  # a sign-in page is no response to a program
            trust_env=not is_on_this_machine(url),
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _exchange(self, method: str, url: str, **sent: Any) -> httpx.Response:
        """Send one request. Raises an error of the client's kind if there is no response."""
        try:
            return self._http.request(method, url, **sent)
        except httpx.RequestError as error:
            raise self._lost(error) from error

    def _repeated(self, action: Callable[[], T], *, repeatable: bool) -> T:
        """Do something, and repeat it while its errors may pass.

        Args:
            action: Raises :class:`RetryableError` if it is worth another attempt.
            repeatable: Whether it may be done again if it is unknown whether it has been done.
        """

        def may_pass(error: BaseException) -> bool:
            return isinstance(error, RetryableError) and (repeatable or error.was_refused)

        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if state.attempt_number == 1 and isinstance(error, AzureError):
                self._told(f"{error.message}; trying again")

        attempts = Retrying(
            stop=stop_after_attempt(self.attempts),
            retry=retry_if_exception(may_pass),
            wait=_pause,
            sleep=self._sleep,
            before_sleep=tell,
            reraise=True,
        )
        return attempts(action)

    def _lost(self, error: httpx.RequestError) -> AzureError:
        """Make the error for a request without a response."""
        if self._http.trust_env and (fault := silent_proxy(urlsplit(self.url).hostname or "")) is not None:
            return self.error(f"{self.service} cannot be reached at {self.url}: {fault[0]}", fault[1])
        reason = str(error).rstrip(".") or type(error).__name__
        if not isinstance(error, _NEVER_SENT):
            message = f"the connection to {self.service} at {self.url} was lost: {reason}"
            return self.retryable(message, "run the same command again: it continues with what is missing")
        message = f"{self.service} cannot be reached at {self.url}: {reason}"
        # A name that is unknown, or refused by a proxy, or a certificate that is not trusted, stays so.
        refused = isinstance(error, httpx.ProxyError) and str(error).startswith("4")
        if refused or any(isinstance(item, socket.gaierror | ssl.SSLCertVerificationError) for item in _causes(error)):
            return self.error(message, self.unreached_hint)
        found = self.retryable(message, self.unreached_hint)
        found.was_refused = True
        return found


def json_of(response: httpx.Response) -> Any:
    """Return the JSON of a response; None if it has none."""
    try:
        return response.json() if response.content else None
    except ValueError:
        return None


def message_of(content: Any) -> str:
    """Return the message in the JSON of a refusal, on one line; empty if there is none."""
    return " ".join(str(content.get("message") or "").split())[:_LENGTH] if isinstance(content, dict) else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait if isinstance(error, RetryableError) else None
    return asked if asked is not None else min(_LONGEST_PAUSE_S, 2.0 ** (state.attempt_number - 1))
