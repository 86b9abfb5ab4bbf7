"""Headers of all responses that keep a browser from doing what no page of the app needs."""

from __future__ import annotations

from flask import Flask, request
from werkzeug.wrappers import Response

_CONTENT_SECURITY_POLICY = "; ".join([
    "default-src 'none'", "img-src 'self' data: blob:", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
    "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'", "manifest-src 'self'",
])  # fmt: skip
HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STRICT_TRANSPORT = "max-age=31536000"


def add_headers(app: Flask) -> None:
    """Add the headers to all responses, including errors."""

    @app.after_request
    def add(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.is_secure:
            response.headers["Strict-Transport-Security"] = _STRICT_TRANSPORT
        if response.mimetype in ("text/html", "application/json"):
            response.headers.setdefault("Cache-Control", "no-store")
        return response
