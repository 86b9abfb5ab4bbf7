"""A real browser on the real app with a real scoring server behind it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from testing.support.bundles import make_bundle
from testing.support.prepared_data import COLOURS
from testing.support.scoring_servers import serving
from testing.support.web_app import EndpointFront, endpoint_front, example_images, web_app

expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of this machine; without one the tests are skipped, except where REQUIRE_BROWSER is set."""
    found = shutil.which("chromium")
    if found is None:
        (pytest.fail if "REQUIRE_BROWSER" in os.environ else pytest.skip)("chromium is not on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointFront]:
    bundle = make_bundle(tmp_path_factory.mktemp("bundle") / "b")
    with serving(bundle, "--workers", "1") as server, endpoint_front(server.port) as front:
        yield front


@pytest.fixture(scope="module")
def corrections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that the app keeps them in."""
    return tmp_path_factory.mktemp("corrections")


@pytest.fixture(scope="module")
def app(front: EndpointFront, corrections: Path) -> Iterator[str]:
    """The address of the app; it collects corrections, and sends images of up to 60 kB."""
    limit = str(60_000 / 2**20)
    with web_app(front.url, SAMPLES=str(example_images()), CORRECTIONS=str(corrections), MAX_IMAGE_MB=limit) as url:
        yield url


Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, app: str, front: EndpointFront) -> Iterator[Visit]:
    """Open a page in a browser session of its own, with options of Playwright; in the end no script may have failed."""
    front.down = False
    front.refusals.clear()
    front.images.clear()
    faults: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # The browser itself writes down each response with an error's status.
        if message.type == "error" and "Failed to load resource" not in message.text:
            faults.append(message.text)

    with contextlib.ExitStack() as stack:

        def open_page(path: str = "/", **options: object) -> Page:
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})  # type: ignore[arg-type]
            stack.callback(context.close)
            page = context.new_page()
            page.on("console", note)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(app + path)
            return page

        yield open_page
    assert faults == []


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """Write an image of one of the classes."""

    def write(label: str, size: tuple[int, int] = (48, 48), name: str = "") -> Path:
        path = tmp_path / (name or f"{label}.png")
        Image.new("RGB", size, COLOURS[label]).save(path)
        return path

    return write
