"""The other pages, and what holds for all of them: themes, phones, accessibility, weight."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Response, expect
from testing.e2e.web.conftest import Visit
from testing.support.web_app import EndpointFront

pytestmark = pytest.mark.slow

PAGES = ("/", "/history", "/model", "/status", "/use", "/no-such-page")
Picture = Callable[..., Path]

_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  window.shifts.push(...list.getEntries().filter((entry) => !entry.hadRecentInput).map((entry) => entry.value));
}).observe({ type: "layout-shift", buffered: true });
"""


def classified(page: Page, *files: Path) -> None:
    page.set_input_files("#files", list(files))
    expect(page.locator("#results .done:visible")).to_have_count(len(files))


def test_the_history_is_this_sessions_and_can_be_cleared(visit: Visit, app: str, picture: Picture) -> None:
    page = visit()
    classified(page, picture("blue"))
    page.set_input_files("#files", [picture("red")])
    expect(page.locator("#results .done:visible")).to_have_count(2)
    page.get_by_role("link", name="History").click()
    rows = page.locator("#history li")
    expect(rows).to_have_count(2)
    assert rows.locator(".label").all_inner_texts() == ["red", "blue"]
    assert rows.locator(".model").all_inner_texts() == ["colours", "colours"]
    for image in rows.locator("img").all():
        assert (image.get_attribute("src") or "").startswith("data:image/jpeg")
        expect(image).to_have_js_property("naturalWidth", 48)
    page.context.clear_cookies()
    page.reload()
    expect(page.get_by_text("Nothing here yet")).to_be_visible()  # another session
    page.goto(app)
    classified(page, picture("green"))
    page.get_by_role("link", name="History").click()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Clear the history").click()
    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    page.reload()
    expect(rows).to_have_count(0)


def test_the_theme_follows_the_system_until_it_is_chosen(visit: Visit) -> None:
    page = visit(color_scheme="dark")

    def is_dark() -> bool:
        colour = page.locator("body").evaluate("(body) => getComputedStyle(body).backgroundColor")
        return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) < 200

    button = page.get_by_role("button", name="Dark theme")
    assert is_dark()
    expect(button).to_have_attribute("aria-pressed", "true")
    button.click()
    assert not is_dark()
    expect(button).to_have_attribute("aria-pressed", "false")
    page.get_by_role("link", name="Status").click()
    page.wait_for_url("**/status")
    assert not is_dark()
    page.emulate_media(color_scheme="light")
    button.click()
    page.reload()
    assert is_dark()


@pytest.mark.parametrize("width", [320, 360, 680, 840])
def test_no_page_scrolls_sideways(width: int, visit: Visit, app: str, picture: Picture) -> None:
    phone = width < 400
    page = visit(viewport={"width": width, "height": 740}, has_touch=phone, is_mobile=phone)
    classified(page, picture("green", name="a_name_without_any_place_to_break_it_" * 3 + ".png"))
    widths = {"/ with a result": page.evaluate("() => document.documentElement.scrollWidth")}
    for path in PAGES:
        page.goto(app + path)
        widths[path] = page.evaluate("() => document.documentElement.scrollWidth")
    assert widths == dict.fromkeys(widths, width)


@pytest.mark.parametrize(
    "options",
    [{"color_scheme": "light"}, {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}}],
    ids=["light", "dark phone"],
)
def test_axe_finds_no_violation(
    options: dict[str, Any], visit: Visit, app: str, picture: Picture, tmp_path: Path
) -> None:
    page = visit(**options)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    page.set_input_files("#files", [picture("green"), broken])
    expect(page.locator("#results .done:visible, #results .failed:visible")).to_have_count(2)
    found = {"/ with results": violations(page)}
    for path in PAGES:
        page.goto(app + path)
        found[path] = violations(page)
    assert found == {path: [] for path in found}


def violations(page: Page) -> list[str]:
    results = Axe().run(page).response
    assert len(results["passes"]) > 10
    return [f"{item['id']}: {node['html'][:120]}" for item in results["violations"] for node in item["nodes"]]


def test_the_first_page_is_light_and_nothing_moves_on_it(visit: Visit, app: str, picture: Picture) -> None:
    page = visit("/health")
    page.add_init_script(_SHIFTS)
    loaded: list[Response] = []
    page.on("response", lambda response: loaded.append(response))
    page.goto(app, wait_until="networkidle")
    sizes = {}
    for response in loaded:
        taken = response.request.sizes()
        sizes[response.url] = taken["responseBodySize"] + taken["responseHeadersSize"]
    assert len(sizes) >= 12  # the page, its style, scripts and icon, six samples
    assert sum(sizes.values()) < 60_000, sizes
    page.get_by_role("link", name="Sample 3").click()
    expect(page.locator("#results .done")).to_be_visible()
    assert sum(page.evaluate("() => window.shifts")) < 0.02


def test_motion_is_reduced_where_that_is_wished(visit: Visit) -> None:
    page = visit(reduced_motion="reduce")
    durations = page.locator(".brackets, .samples img").evaluate_all(
        "(elements) => elements.map((element) => parseFloat(getComputedStyle(element).transitionDuration))"
    )
    assert len(durations) == 7
    assert max(durations) < 0.001


def test_what_the_api_page_copies_runs(visit: Visit, app: str, picture: Picture, tmp_path: Path) -> None:
    page = visit("/use", permissions=["clipboard-read", "clipboard-write"])
    picture("blue").rename(tmp_path / "image.jpg")
    answers = []
    for name, command in (("curl", ["bash", "-c"]), ("python", [sys.executable, "-c"])):
        page.locator(f"[data-copies={name}]").click()
        expect(page.locator(f"[data-copies={name}]")).to_have_text("Copied")
        code = page.evaluate("() => navigator.clipboard.readText()")
        ended = subprocess.run([*command, code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert ended.returncode == 0, ended.stderr
        answers.append(ended.stdout)
    assert '"label":"blue"' in answers[0].replace(" ", "")
    assert answers[1].splitlines()[0].endswith("%  blue")


def test_the_status_page_renews_itself(visit: Visit, front: EndpointFront) -> None:
    page = visit("/status")
    verdict = page.locator("#verdict")
    expect(verdict).to_have_text("The endpoint answers.")
    front.down = True
    expect(verdict).not_to_have_text("The endpoint answers.", timeout=20_000)
    front.down = False
    expect(verdict).to_have_text("The endpoint answers.", timeout=20_000)
    expect(page.locator(".stems")).to_have_attribute("d", re.compile("^M"))
