"""Errors of requests, which pages show in words and /api returns as JSON."""

from __future__ import annotations


class AppError(Exception):
    """A request that cannot be fulfilled.

    Args:
        status: HTTP status.
        code: Short and stable, such as ``endpoint_down``.
        message: A sentence for people.
        retry_after_s: Seconds after which another attempt makes sense, if known.
    """

    def __init__(self, status: int, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s

    def to_dict(self) -> dict[str, str]:
        """Return code and message."""
        return {"code": self.code, "message": self.message}


class EndpointError(AppError):
    """The scoring endpoint did not fulfil a request.

    Args:
        status, code, message, retry_after_s: The same as of :class:`AppError`.
        outage: Whether the endpoint itself has a problem, whatever was sent: it counts for the circuit breaker.
        retriable: Whether the same request may succeed at once.
    """

    def __init__(
        self, status: int, code: str, message: str, retry_after_s: float | None = None, *,
        outage: bool = False, retriable: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(status, code, message, retry_after_s)
        self.outage = outage
        self.retriable = retriable
