"""What a request must be like before a view sees it: the host it names, how many came before it, and that a page of ours
sent it. Also the session's cookie, and which proxies are believed.
"""

from __future__ import annotations

import time

from flask import Flask, request
from flask.sessions import SecureCookieSessionInterface
from flask_limiter import Limiter, RequestLimit
from flask_wtf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix

from vision_mlops.flask_app.app_errors import AppError
from vision_mlops.flask_app.app_settings import AppSettings

HEALTH = "/health"


class _Sessions(SecureCookieSessionInterface):
    """The session's cookie: behind https it is bound to this host and never sent without TLS."""

    def get_cookie_name(self, app: Flask) -> str:
        return "__Host-session" if request.is_secure else "session"

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def check_requests(app: Flask, settings: AppSettings) -> None:
    """Check all requests; those that fail get an AppError or an HTTP error."""
    app.session_interface = _Sessions()
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    if settings.trust_proxy:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=settings.trust_proxy, x_proto=settings.trust_proxy, x_host=0, x_prefix=0
        )
    hosts = frozenset(name.lower() for name in settings.hosts)

    @app.before_request
    def check_host() -> None:
        # A health check names an address of the instance, whatever the app is called.
        if hosts and request.path != HEALTH and _host_name(request.host) not in hosts:
            raise AppError(400, "unknown_host", "This app does not respond to the host name in the address.")

    Limiter(
        _client_address,
        app=app,
        application_limits=[] if settings.rate_limit == "none" else [settings.rate_limit],
        application_limits_exempt_when=lambda: request.method != "POST",
        on_breach=_too_many,
        storage_uri="memory://",
    )
    # After the limit, as it reads the whole form.
    app.config["WTF_CSRF_TIME_LIMIT"] = None  # as long as the session: a page may stay open for days
    # The check of the referrer fails behind proxies that change the host; the cookie is bound to this one in any case.
    app.config["WTF_CSRF_SSL_STRICT"] = False
    CSRFProtect(app)


def _client_address() -> str:
    """Return the client's address without the port that Azure's front ends add: each connection has another one."""
    address = request.remote_addr or ""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def _too_many(limit: RequestLimit) -> None:
    wait = min(max(1.0, limit.reset_at - time.time()), limit.limit.get_expiry())
    allowed = f"{limit.limit.amount} per {limit.limit.GRANULARITY.name}"
    message = f"Too many images: {allowed} are allowed. Try again in {wait:.0f} s."
    raise AppError(429, "too_many_requests", message, wait)


def _host_name(host: str) -> str:
    """Return the name of a Host header, without its port and the brackets of IPv6."""
    name, colon, port = host.lower().rpartition(":")
    return (name if colon and port.isdigit() else host.lower()).strip("[]")
