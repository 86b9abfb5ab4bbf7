"""The HTTP library: sessions, redirects, bodies, and its many errors as the two that matter: retry, or give up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from vision_mlops import __version__
from vision_mlops.core.errors import DownloadError, require
from vision_mlops.data.fetch.http_responses import shown

if TYPE_CHECKING:
    import requests

CHUNK = 2**20
"""Most bytes that are read at once."""


class RetryError(Exception):
    """An attempt that failed in a way that the next one may not.

    Args:
        reason: Reason for the message, if it is the last attempt.
        status: Status of the response; 0 if there is none.
        wait: Seconds that the server asked for.
    """

    def __init__(self, reason: str, status: int = 0, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.status = status
        self.wait = wait


def open_session() -> requests.Session:
    """Open a session that leaves redirects and retries to its caller.

    Raises:
        MissingExtraError: requests is not installed.
    """
    require("requests")
    import requests

    class Session(requests.Session):
        """Ignores redirects: it would read their bodies, however large or slow, even if it does not follow them."""

        def get_redirect_target(self, resp: requests.Response) -> None:
            return None

    session = Session()
    session.headers.update({"User-Agent": f"vision-mlops/{__version__}", "Accept-Encoding": "identity"})
    return session


def redirected(url: str, place: str, response: requests.Response) -> str:
    """Return where a response redirects; never from https to http, where anyone on the way could change the content."""
    location = response.headers["Location"]
    with suppress(UnicodeError):  # headers are read as latin-1, and what servers write is UTF-8
        location = location.encode("latin-1").decode()
    try:
        target = urljoin(place, location)
        schemes = urlsplit(place).scheme.lower(), urlsplit(target).scheme.lower()
    except ValueError:
        target, schemes = location, ("", "")
    if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
        raise DownloadError(
            f"{shown(url)}: the server redirects to {shown(target)}, which is less secure",
            "check the address, or download the file in a browser and pass its path",
            response.status_code,
        )
    return target


def read_some(response: requests.Response, done: int, total: int | None) -> bytes:
    """Read what has arrived, at most a chunk; empty at the end.

    Not iter_content: it would undo a Content-Encoding, which some servers declare for .tar.gz files. And not read: it
    returns nothing before a whole chunk is there, and loses what has arrived if the connection breaks.
    """
    from urllib3.exceptions import ProtocolError, SSLError

    try:
        content: bytes = response.raw.read1(CHUNK, decode_content=False)
    except (ProtocolError, SSLError) as error:
        reason = "the response ended too early" if total is None else f"{done:,} of {total:,} bytes arrived"
        raise RetryError(reason, response.status_code) from error
    return content


@contextmanager
def translated(url: str, connect: float, stall: float) -> Iterator[None]:
    """Turn the many errors of the libraries into the two that matter: try again, or give up."""
    import requests
    import urllib3

    try:
        yield
    except (requests.exceptions.SSLError, requests.exceptions.ProxyError) as error:
        raise DownloadError(
            f"{shown(url)} cannot be downloaded: {_reason(error)}", "check the certificate, or HTTPS_PROXY"
        ) from error
    except (requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError) as error:
        raise RetryError(f"no connection after {connect:g} s") from error
    except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise RetryError(f"no data arrived for {stall:g} s") from error
    except requests.ConnectionError as error:
        raise RetryError(_reason(error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
        raise DownloadError(f"{shown(url)} cannot be downloaded: {_reason(error)}", "check the address") from error


def _reason(error: BaseException) -> str:
    """Return what the system said, below all that the libraries wrap around it."""
    found, seen = "", [error, *(each for each in error.args if isinstance(each, BaseException))]
    for each in seen:
        found = getattr(each, "strerror", None) or found
        seen += [
            other
            for other in (each.__cause__, each.__context__, getattr(each, "reason", None))
            if isinstance(other, BaseException) and other not in seen
        ]
    return found or str(error)
