"""Calls of the REST interfaces of Azure DevOps and GitHub, whose refusals become one clear line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from vision_mlops import __version__
from vision_mlops.azure.proxy_check import silent_proxy
from vision_mlops.core.errors import AzureError, ConfigError, MissingExtraError
from vision_mlops.core.listening import LOOPBACK

_SECONDS = (10.0, 60.0)
_RETRIES = 5
_LENGTH = 600


def checked_address(text: str, what: str) -> str:
    """An address that a token may be sent to: https, or a service of this machine. Raises ConfigError."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        usable = usable and bool(parts.hostname) and not (parts.username or parts.password)
        _ = parts.port  # raises ValueError where it is not a number
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise ConfigError(f"{what}: {text!r} is not an https address", "write it as https://HOST/PATH")
    return text


def call(
    method: str, url: str, token: str, body: Mapping[str, Any] | None = None, *, what: str, hints: Mapping[int, str]
) -> dict[str, Any]:
    """Send one request, and read its answer.

    It is sent again where it was not taken: no connection, too many calls, or a service that is down. It is not sent again
    after it may have been taken, since that could start a second run.

    Args:
        method: Such as ``POST``.
        url: Checked by :func:`checked_address`.
        token: Goes into the header ``Authorization``.
        body: Sent as JSON.
        what: What is being done; begins the message of an error.
        hints: What to do, by the status of the answer.

    Returns:
        The JSON object of the answer; empty where there is none.

    Raises:
        AzureError: the service refuses, or is not reached.
        MissingExtraError: requests is not installed.
    """
    try:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry
    except ImportError as error:
        raise MissingExtraError("requests", "azure") from error
    retry = Retry(
        total=_RETRIES,
        read=0,
        status_forcelist=(429, 503),
        allowed_methods=None,
        backoff_factor=0.5,
        raise_on_status=False,
    )
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/json",
        "User-Agent": f"vision-mlops/{__version__}",
    }
    with requests.Session() as session:
        session.auth = _keep_header  # else a .netrc of this machine would replace the token
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        try:
            answer = session.request(method, url, json=body, headers=headers, timeout=_SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            host = urlsplit(url).netloc
            if (fault := silent_proxy(urlsplit(url).hostname or "")) is not None:
                raise AzureError(f"{what}: {host} is not reached: {fault[0]}", fault[1]) from error
            raise AzureError(
                f"{what}: {host} is not reached ({type(error).__name__})",
                "check the address, the network and the proxy",
            ) from error
    # Azure DevOps answers 203 or 302, with a page to sign in on, where it does not take the token.
    status = 401 if answer.status_code in (203, 302) else answer.status_code
    if status >= 300:
        hint = hints.get(status) or ("try again in a minute" if status >= 500 or status == 429 else "")
        raise AzureError(f"{what}: {_reason(answer)} (HTTP {answer.status_code})", hint, status)
    try:
        content = answer.json() if answer.content else {}
    except ValueError as error:
        raise AzureError(f"{what}: the answer of {urlsplit(url).netloc} is not JSON", "check the address") from error
    return content if isinstance(content, dict) else {"value": content}


def _keep_header(request: Any) -> Any:
    return request


def _reason(answer: Any) -> str:
    """The message of the service, on one line."""
    try:
        content = answer.json()
    except ValueError:
        content = None
    message = content.get("message") if isinstance(content, dict) else ""
    text = " ".join(str(message or "").split()) or (
        answer.reason if answer.status_code >= 400 else "it asks for a sign-in"
    )
    return text[:_LENGTH]
