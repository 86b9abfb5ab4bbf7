"""Writes docs/images/web_*.png, the web frontend with a real bundle behind it, and emulator_job.png, in Debian's chromium.

The text is set in Inter where that is installed (Debian's fonts-inter-variable). Usage: `make screenshots`, or
`python -m docs.screenshots BUNDLE`; `python -m docs.screenshots emulator` takes that one only.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from testing.support.scoring_servers import serving
from testing.support.shown_cloud import fill
from testing.support.web_app import example_images, web_app

from azureml_emulator.loopback import start_cloud
from azureml_emulator.storage.azurite import Azurite

TARGET = Path(__file__).with_name("images")
DESKTOP = {"width": 1200, "height": 860}
PHONE = {"width": 390, "height": 844}


def main(bundle: Path | None) -> None:
    """Take all pictures, or without a bundle only that of the emulator."""
    found = shutil.which("chromium")
    if found is None:
        sys.exit("chromium is not installed: apt-get install chromium fonts-inter-variable")
    options: dict[str, Any] = {"executable_path": found, "args": ["--no-sandbox"] if os.geteuid() == 0 else []}
    with sync_playwright() as playwright:
        _take_emulator(playwright.chromium.launch(**options))
    if bundle is not None:
        _take_web(bundle, options)


def _take_emulator(browser: Browser) -> None:
    """Take the page of a job of the emulator, with made-up jobs."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Azurite() as azurite,
        start_cloud(azurite, Path(folder)) as (cloud, _),
    ):
        cloud.reset()
        fill(cloud, Path(folder))
        page = _open(browser, f"{cloud.url}/workspaces/ws/jobs/wide-sky-3", ignore_https_errors=True)
        _save(page, "emulator_job")
        cloud.stop()
    browser.close()


def _take_web(bundle: Path, options: dict[str, Any]) -> None:
    with (
        tempfile.TemporaryDirectory() as corrections,
        serving(bundle, "--workers", "1", "--version", "3") as server,
        web_app(f"http://127.0.0.1:{server.port}", SAMPLES=str(example_images()), CORRECTIONS=corrections) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(**options)
        _take_all(browser, url)
        browser.close()


def _take_all(browser: Browser, url: str) -> None:
    page = _open(browser, url)
    _classify(page, "local")
    page.evaluate("() => scrollTo(0, 0)")
    _save(page, "web_classify")
    for name in ("nominal", "global", "local_2", "nominal_2", "global_2"):
        _classify(page, name)
    page.goto(f"{url}/history")
    _save(page, "web_history")
    page.goto(f"{url}/model")
    _save(page, "web_model", full_page=True)
    page.goto(url)
    for _ in range(36):  # for a chart of a minute
        _classify(page, "nominal")
        page.wait_for_timeout(1000)
    page.goto(f"{url}/status")
    _save(page, "web_status")
    page.goto(f"{url}/use")
    _save(page, "web_api")
    dark = _open(browser, url, color_scheme="dark")
    _classify(dark, "local")
    dark.evaluate("() => scrollTo(0, 0)")
    _save(dark, "web_dark")
    phone = _open(browser, url, viewport=PHONE, is_mobile=True, has_touch=True)
    _classify(phone, "local")
    phone.locator("#results .card").evaluate("(card) => card.scrollIntoView({ block: 'start' })")
    _save(phone, "web_phone")


def _open(browser: Browser, url: str, **options: Any) -> Page:
    page = browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options}).new_page()
    page.goto(url)
    return page


def _classify(page: Page, name: str) -> None:
    page.set_input_files("#files", example_images() / f"{name}.jpg")
    expect(page.locator("#results > li").first.locator(".file")).to_have_text(f"{name}.jpg")
    expect(page.locator("#results > li").first.locator(".done")).to_be_visible()


def _save(page: Page, name: str, *, full_page: bool = False) -> None:
    """Return a PNG with 192 colours, a third of the size of one with all colours."""
    taken = Image.open(io.BytesIO(page.screenshot(full_page=full_page))).convert("RGB")
    few = taken.quantize(192, Image.Quantize.MEDIANCUT, kmeans=2)
    few.save(TARGET / f"{name}.png", optimize=True)


if __name__ == "__main__":
    asked = sys.argv[1] if len(sys.argv) > 1 else "outputs/bundles/textile"
    main(None if asked == "emulator" else Path(asked))
