"""The emulator's pages in a real browser: accessible, dark where that is wished, and whole on a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml.entities import ComputeInstance
from playwright.sync_api import Browser, Page, Request, expect
from testing.e2e.web.test_web_pages import violations
from testing.support.shown_cloud import fill

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.loopback import environment, loopback_client, start_cloud
from azureml_emulator.storage.azurite import Azurite

pytestmark = pytest.mark.slow

WORKSPACE = "/workspaces/ws"
PAGES = (
    "/",
    WORKSPACE,
    f"{WORKSPACE}/jobs/loud-sun-1",
    f"{WORKSPACE}/jobs/calm-sea-2",
    f"{WORKSPACE}/jobs/wide-sky-3",
    f"{WORKSPACE}/jobs/loud-sun-1/log",
    f"{WORKSPACE}/jobs/loud-sun-1/steps/train/log",
    f"{WORKSPACE}/endpoints/online/textile",
    f"{WORKSPACE}/computes/cpu-cluster",
    f"{WORKSPACE}/computes/dev",
    f"{WORKSPACE}/jobs/nobody",
)
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedCloud]:
    """A cloud with something to see."""
    folder = tmp_path_factory.mktemp("cloud")
    with (
        Azurite() as azurite,
        start_cloud(azurite, folder) as (cloud, certificate),
        pytest.MonkeyPatch.context() as patch,
    ):
        cloud.reset()
        fill(cloud, folder)
        for name, value in environment(cloud, certificate).items():
            patch.setenv(name, value)
        instance = ComputeInstance(name="dev", size="Standard_DS3_v2")
        loopback_client(cloud).compute.begin_create_or_update(instance).result()
        yield cloud


@pytest.fixture
def look(browser: Browser, shown: EmulatedCloud) -> Iterator[Open]:
    """Open a page with options of Playwright; in the end nothing was asked of any other server."""
    elsewhere: list[str] = []
    contexts = []

    def note(request: Request) -> None:
        if not request.url.startswith(shown.url + "/"):
            elsewhere.append(request.url)

    def open_page(path: str = "/", **options: Any) -> Page:
        context = browser.new_context(ignore_https_errors=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", note)
        page.goto(shown.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert elsewhere == []


@pytest.mark.parametrize(
    "options",
    [{"color_scheme": "light"}, {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}}],
    ids=["light", "dark phone"],
)
def test_axe_finds_no_violation(options: dict[str, Any], look: Open, shown: EmulatedCloud) -> None:
    page = look(**options)
    found = {}
    for path in PAGES:
        page.goto(shown.url + path)
        found[path] = violations(page)
    assert found == {path: [] for path in PAGES}


def test_no_page_scrolls_sideways(look: Open, shown: EmulatedCloud) -> None:
    page = look(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    widths = {}
    for path in PAGES:
        page.goto(shown.url + path)
        widths[path] = page.evaluate("() => document.documentElement.scrollWidth")
    assert widths == dict.fromkeys(PAGES, 360)


def test_from_the_first_page_to_the_log_of_a_step(look: Open) -> None:
    page = look(java_script_enabled=False)
    page.get_by_role("link", name="ws", exact=True).click()
    page.locator("tr", has_text="calm-sea-2").get_by_role("link").click()
    expect(page.get_by_role("img", name="Graph of 5 steps")).to_be_visible()
    expect(page.locator("tr", has_text="evaluate").first).to_contain_text("prepare, train")
    page.get_by_role("link", name="Log of train").click()
    expect(page.get_by_role("region", name="std_log.txt")).to_contain_text("epoch 79: accuracy 0.979, <loss> 0.1")
    page.get_by_role("link", name="calm-sea-2").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("calm-sea-2")


def test_boxes_of_the_graph_do_not_touch(look: Open, tmp_path: Path) -> None:
    page = look(f"{WORKSPACE}/jobs/loud-sun-1")
    boxes = [box for item in page.locator("svg rect").all() if (box := item.bounding_box()) is not None]
    assert len(boxes) == 5
    for number, one in enumerate(boxes):
        for other in boxes[number + 1 :]:
            apart = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
            assert apart or one["y"] + one["height"] < other["y"] or other["y"] + other["height"] < one["y"]
    for text, box in zip(page.locator("svg .name").all(), boxes, strict=True):
        drawn = text.bounding_box()
        assert drawn is not None
        assert drawn["x"] + drawn["width"] <= box["x"] + box["width"]


def test_the_night_is_dark(look: Open) -> None:
    for scheme, dark in (("light", False), ("dark", True)):
        colour = look(color_scheme=scheme).evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) < 200) is dark
