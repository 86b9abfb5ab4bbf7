"""The health of a web app at its public address, and of the first page that people see."""

from __future__ import annotations

from vision_mlops.endpoints.appservice.site_definition import HEALTH

_SECONDS = 20.0
_SHOWN = 200


def problem_of(url: str, release: str) -> str:
    """Return what is wrong with a web app; empty if it is healthy, runs the release and shows its first page.

    Args:
        url: Such as ``https://NAME.azurewebsites.net``.
        release: Release that it must run; empty for any.
    """
    import requests

    try:
        health = requests.get(f"{url}{HEALTH}", timeout=_SECONDS, allow_redirects=False)
        if health.status_code != 200:
            return f"{HEALTH} responds with HTTP {health.status_code}"
        content = health.json()
        runs = str(content.get("release", "")) if isinstance(content, dict) else ""
        if release and runs != release:
            return f"it still runs {f'release {runs}' if runs else 'another release'}"
        page = requests.get(url, timeout=_SECONDS)
    except requests.exceptions.JSONDecodeError:
        return f"{HEALTH} does not respond like the web frontend"
    except requests.exceptions.RequestException as error:
        return f"{url} cannot be reached from here: {type(error).__name__}: {str(error)[:_SHOWN]}"
    if page.status_code != 200 or not page.headers.get("Content-Type", "").startswith("text/html"):
        return f"its first page responds with HTTP {page.status_code}"
    return ""
