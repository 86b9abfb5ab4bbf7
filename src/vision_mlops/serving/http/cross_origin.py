"""Cross-origin resource sharing: which web pages of other origins may read responses. None, unless named."""

from __future__ import annotations

from collections.abc import Iterable

from vision_mlops.serving.http.http_messages import HeaderList, Request

_VARY: HeaderList = ((b"vary", b"origin"),)
_READABLE = (b"access-control-expose-headers", b"x-request-id, retry-after, azureml-model-deployment")
_PREFLIGHT: HeaderList = (
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"authorization, content-encoding, content-type, x-api-key, x-request-id,"
     b" traceparent, tracestate, azureml-model-deployment"),
    (b"access-control-max-age", b"600"),
)  # fmt: skip


class CrossOrigin:
    """The origins whose pages may read responses.

    Args:
        origins: Such as ``https://inspection.example.com``; ``*`` stands for every one.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def __bool__(self) -> bool:
        return bool(self._origins)

    def headers(self, request: Request) -> HeaderList:
        """Return the headers to add to the response. Administration is not for web pages."""
        origin = request.headers.get(b"origin")
        every = b"*" in self._origins
        if request.path.startswith("/admin/"):
            return ()
        if origin is None or not (every or origin in self._origins):
            return () if every else _VARY  # a cache must not give this answer to a page that may read it
        allowed: HeaderList = ((b"access-control-allow-origin", b"*" if every else origin), _READABLE)
        if request.method == "OPTIONS" and b"access-control-request-method" in request.headers:
            allowed += _PREFLIGHT
        return allowed if every else allowed + _VARY
