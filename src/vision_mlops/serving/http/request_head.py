"""Checks the head of a request beyond its syntax, which the parser checks: RFC 9112 on framing, host and target.

Whatever is wrong is answered with a 4xx, also where RFC 9112 would rather have 501 or 505: those would look like failures
of the server in its metrics.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import httptools

from vision_mlops.serving.http.http_messages import Request, Response

HEAD_BYTES = 64 * 1024
"""Most bytes of a head, its target and the trailers of its body together."""
KEPT = frozenset(
    (b"content-type", b"content-length", b"content-encoding", b"transfer-encoding", b"authorization", b"x-api-key",
     b"x-request-id", b"traceparent", b"tracestate", b"expect", b"host", b"origin", b"access-control-request-method",
     b"connection", b"azureml-model-deployment")
)  # fmt: skip
"""Headers that are looked at."""
JOINED = frozenset((b"traceparent", b"tracestate", b"transfer-encoding", b"content-encoding", b"expect", b"host",
                    b"connection"))  # fmt: skip
"""Those of which a repeated one counts: the values are joined, which makes two hosts or two parents of a trace invalid."""
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")


def check_head(request: Request, version: str) -> Response | None:
    """Return the response to a head after which nothing on the connection can be trusted; None for a good one.

    Args:
        request: The request, with method, address and headers. Its ``http_1_0``, ``keep_alive`` and ``expects`` are set.
        version: Version of HTTP, such as ``1.1``.
    """
    headers = request.headers
    if version != "1.1":
        if version != "1.0":
            return _bad(f"HTTP/{version} is not supported: send HTTP/1.1")
        request.http_1_0 = True
        options = headers.get(b"connection", b"").lower().split(b",")
        request.keep_alive &= b"close" not in map(bytes.strip, options)  # of 1.0 the parser sees keep-alive alone
    coding = headers.get(b"transfer-encoding")
    if coding is not None and (request.http_1_0 or coding.strip().lower() != b"chunked"):
        return _bad("chunked is the only supported transfer coding, and needs HTTP/1.1")
    host = headers.get(b"host")
    if host is None:
        if not request.http_1_0:
            return _bad("the header Host is missing")
    elif not _HOST.fullmatch(host.strip()):
        return _bad("the header Host must occur once and name a host")
    if request.method == "CONNECT":
        allowed = ((b"allow", b"GET, HEAD, POST, OPTIONS"),)
        return Response.error(
            405, "method_not_allowed", "CONNECT is for proxies, and this server is not a proxy", allowed
        )
    if not request.path.startswith("/") and (request.path != "*" or request.method != "OPTIONS"):
        return _bad("the target must be a path, such as /score, or a whole address")
    expected = headers.get(b"expect")
    if expected is not None and not request.http_1_0:
        if expected.strip().lower() != b"100-continue":
            return Response.error(417, "expectation_failed", "100-continue is the only supported expectation")
        request.expects = True
    return None


def split_target(url: bytes) -> tuple[str, str]:
    """Return the decoded path, and the query as it was sent. The address may be a whole one, as proxies send it."""
    if url[:1] != b"/":
        try:
            parsed = httptools.parse_url(url)
            path, query = (parsed.path or b"/") if parsed.host else url, parsed.query or b""
        except (httptools.HttpParserInvalidURLError, ValueError):
            path, query = url, b""
    else:
        path, _, query = url.partition(b"?")
        query = query.partition(b"#")[0]
    text = path.decode("latin-1")
    return (unquote(text, errors="replace") if "%" in text else text), query.decode("latin-1")


def _bad(message: str) -> Response:
    return Response.error(400, "bad_request", message)
