"""Uses a web frontend that is deployed somewhere in a real browser: its page, one image, and what is said of it.

Usage: `make smoke-app URL=https://HOST`, or `python -m testing.support.app_smoke URL [IMAGE]`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import requests
from playwright.sync_api import Error, expect, sync_playwright

_IMAGE = Path("data/examples/nominal.jpg")
_SECONDS = 60


def smoke(url: str, image: Path) -> str:
    """Have one image classified on the page.

    Args:
        url: Of the web frontend.
        image: To choose there.

    Returns:
        What the page says of the image.

    Raises:
        AssertionError: the page does not show it, or a script of it failed.
        requests.RequestException: the frontend is not reached, or its certificate is not valid.
    """
    requests.get(f"{url}/health", timeout=_SECONDS).raise_for_status()
    found = shutil.which("chromium")
    if found is None:
        raise AssertionError("chromium is not installed")
    faults: list[str] = []
    through = os.environ.get("HTTPS_PROXY", "")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found,
            args=["--no-sandbox"] if os.geteuid() == 0 else [],
            proxy={"server": through, "bypass": "127.0.0.1,localhost"} if through else None,
        )
        # A browser does not read the variables that name an authority of one's own. The request above did, and checked it.
        page = browser.new_page(ignore_https_errors=bool(os.environ.get("NODE_EXTRA_CA_CERTS")))
        page.set_default_timeout(_SECONDS * 1000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(url)
        page.set_input_files("#files", image)
        expect(page.locator("#results .done:visible, #results .failed:visible").first).to_be_visible(
            timeout=_SECONDS * 1000
        )
        failed = page.locator("#results .failed:visible")
        if failed.count():
            raise AssertionError(failed.first.inner_text())
        winner = page.locator(".winner .label")
        said = f"{winner.inner_text()}, by {page.locator('.details .model').inner_text()}"
        browser.close()
    assert not faults, "; ".join(faults)
    return said


def main(words: list[str]) -> None:
    """Run it, and end with exit code 1 and one line where it fails."""
    if not words or not words[0].startswith(("http://", "https://")):
        sys.exit("the address of the web frontend is missing: make smoke-app URL=https://HOST")
    url, image = words[0].rstrip("/"), Path(words[1]) if len(words) > 1 and words[1] else _IMAGE
    if not image.is_file():
        sys.exit(f"{image} does not exist: make smoke-app URL={url} IMAGE=FILE")
    try:
        print(f"{url}: {image.name} is {smoke(url, image)}")
    except (AssertionError, Error, requests.RequestException) as error:
        lines = str(error).strip().splitlines()
        sys.exit(f"{url}: {' '.join(' '.join(lines[:4]).split())}")


if __name__ == "__main__":
    main(sys.argv[1:])
