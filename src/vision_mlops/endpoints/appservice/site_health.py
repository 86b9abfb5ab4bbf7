"""What a web app says about itself at its public address: its health, and one page that people see."""

from __future__ import annotations

from vision_mlops.endpoints.appservice.site_definition import HEALTH

_SECONDS = 20.0
_SHOWN = 200


def problem_of(url: str, release: str) -> str:
    """What is wrong with a web app; empty where it is healthy, runs a release and shows its first page.

    Args:
        url: Such as ``https://NAME.azurewebsites.net``.
        release: That it must run; empty for any.
    """
    import requests

    try:
        health = requests.get(f"{url}{HEALTH}", timeout=_SECONDS, allow_redirects=False)
        if health.status_code != 200:
            return f"{HEALTH} answers {health.status_code}"
        content = health.json()
        runs = str(content.get("release", "")) if isinstance(content, dict) else ""
        if release and runs != release:
            return f"it still runs {f'release {runs}' if runs else 'another release'}"
        page = requests.get(url, timeout=_SECONDS)
    except requests.exceptions.JSONDecodeError:
        return f"{HEALTH} does not answer as the web frontend does"
    except requests.exceptions.RequestException as error:
        return f"{url} is not reached from here: {type(error).__name__}: {str(error)[:_SHOWN]}"
    if page.status_code != 200 or not page.headers.get("Content-Type", "").startswith("text/html"):
        return f"its first page answers {page.status_code}"
    return ""
