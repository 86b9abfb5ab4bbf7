"""The page that images are dropped on, used as people use it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from testing.e2e.web.conftest import Visit
from testing.support.web_app import EndpointFront, Refusal

from vision_mlops.core.hashing import file_hash
from vision_mlops.flask_app.corrections.correction_store import open_store

pytestmark = pytest.mark.slow

Picture = Callable[..., Path]

_TRANSFER = """(files) => {
  const transfer = new DataTransfer();
  for (const [name, content] of files) {
    const bytes = Uint8Array.from(atob(content), (sign) => sign.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
  }
  return transfer;
}"""


def choose(page: Page, *files: Path) -> None:
    page.set_input_files("#files", list(files))


def card(page: Page, name: str) -> Locator:
    return page.locator("#results > li", has=page.locator(".file", has_text=name))


def transfer(page: Page, files: list[Path]) -> object:
    """What the browser hands over with a drop or from the clipboard."""
    return page.evaluate_handle(
        _TRANSFER, [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in files]
    )


def test_an_upload_shows_classes_probabilities_model_and_times(visit: Visit, picture: Picture) -> None:
    page = visit()
    choose(page, picture("green"))
    expect(page.locator(".winner .label")).to_have_text("green")
    rows = page.locator(".done .bars li")
    expect(rows).to_have_count(3)
    shares = [float(text.strip("<> %")) for text in rows.locator("span:last-of-type").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.4)
    widths = [float(bar.get_attribute("width") or 0) for bar in rows.locator("rect").all()]
    assert widths == pytest.approx(shares, abs=0.1)
    expect(page.locator(".details .model")).to_have_text("colours")
    for time in (".total", ".roundtrip"):
        assert int(page.locator(f".details {time}").inner_text().removesuffix(" ms")) >= 0
    expect(page.locator("#queue")).to_have_text("green.png: green, " + rows.locator("span").nth(1).inner_text() + ".")


def test_the_slider_sets_the_opacity_of_the_heat_map(visit: Visit, picture: Picture) -> None:
    page = visit()
    choose(page, picture("red", (90, 60)))
    heat = page.locator("#results .heat")
    expect(heat).to_have_attribute("opacity", "0.75")
    page.get_by_label("Heat map", exact=False).last.fill("30")
    expect(heat).to_have_attribute("opacity", "0.3")
    expect(page.locator("#results output")).to_have_text("30%")
    content = base64.b64decode((heat.get_attribute("href") or "").removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(content)).size == (32, 32)  # what the network saw
    placed = [heat.get_attribute(name) for name in ("x", "y", "width", "height")]
    assert placed == ["0", "0", "90", "60"]  # stretched over the image, as the network saw all of it


def test_without_the_heat_map_none_is_asked_for(visit: Visit, picture: Picture) -> None:
    page = visit()
    page.get_by_label("Show the heat map").uncheck()
    choose(page, picture("red"))
    expect(page.locator(".winner .label")).to_have_text("red")
    assert page.locator("#results .heat").get_attribute("href") is None
    expect(page.locator("#results .opacity")).to_be_hidden()


def test_several_images_are_dropped_at_once(visit: Visit, picture: Picture) -> None:
    page = visit()
    files = [picture(label) for label in ("blue", "green", "red")]
    handed = transfer(page, files)
    page.dispatch_event("#drop", "dragover", {"dataTransfer": handed})
    expect(page.locator("#drop")).to_have_class("drop brackets over")
    page.dispatch_event("#drop", "drop", {"dataTransfer": handed})
    for label in ("blue", "green", "red"):
        expect(card(page, label).locator(".label")).to_have_text(label)
    expect(page.locator("#queue")).to_contain_text("3 of 3 done.")
    assert page.locator("#results .file").all_inner_texts() == [path.name for path in files]


def test_an_image_is_pasted(visit: Visit, picture: Picture) -> None:
    page = visit()
    page.evaluate(
        "(data) => document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))",
        transfer(page, [picture("blue")]),
    )
    expect(page.locator(".winner .label")).to_have_text("blue")


def test_a_sample_is_tried(visit: Visit) -> None:
    page = visit()
    page.locator("[data-sample='local.jpg']").click()
    expect(card(page, "local.jpg").locator(".done")).to_be_visible()


def test_more_images_than_may_wait_are_left_out(visit: Visit, picture: Picture, front: EndpointFront) -> None:
    page = visit()
    path = picture("red")
    choose(page, *[path] * 53)
    expect(page.locator("#queue")).to_contain_text("3 were left out")
    expect(page.locator("#results > li")).to_have_count(50)
    expect(page.locator("#queue")).to_contain_text("50 of 50 done.", timeout=40_000)
    assert len(front.images) == 50


def test_a_large_image_is_scaled_down_in_the_browser_and_stays_upright(
    visit: Visit, front: EndpointFront, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    pixels = np.random.default_rng(0).normal((200, 50, 40), 12, (600, 800, 3))
    pixels[:, 400:] += (-160, 10, 160)  # as stored: red on the left, blue on the right
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: red is above
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=95, exif=exif)
    assert path.stat().st_size > 60_000
    page = visit()
    choose(page, path)
    expect(page.locator("#results .done")).to_be_visible()
    expect(page.locator("#results .size")).to_contain_text("600 × 800")
    expect(page.locator("#results .size")).to_contain_text("scaled down to")
    (sent,) = front.images
    assert len(sent) <= 60_000
    seen = Image.open(io.BytesIO(sent))
    assert seen.height > seen.width >= 100
    top, bottom = np.asarray(seen.resize((1, 2), Image.Resampling.BOX))[:, 0].astype(int)
    assert (top - (200, 50, 40) < 15).all()
    assert bottom[2] - bottom[0] > 100
    assert page.locator("#results svg").first.get_attribute("viewBox") == "0 0 600 800"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"%PDF-1.7 not a picture", "This file is not an image"),
        (b"", "The file is empty"),
        (b"\x89PNG\r\n\x1a\n", "not an image"),
    ],
    ids=["text", "empty", "head of a PNG"],
)
def test_what_is_no_image_is_named_beside_one_that_is(
    content: bytes, words: str, visit: Visit, picture: Picture, tmp_path: Path
) -> None:
    broken = tmp_path / "holiday.jpg"
    broken.write_bytes(content)
    page = visit()
    choose(page, broken, picture("green"))
    expect(card(page, "holiday").locator(".reason")).to_contain_text(words)
    expect(card(page, "green").locator(".label")).to_have_text("green")


def test_a_busy_endpoint_is_asked_again_after_the_time_that_it_names(
    visit: Visit, picture: Picture, front: EndpointFront
) -> None:
    front.refusals += [Refusal(429, "too_many_requests", {"Retry-After": "30"})]
    page = visit()
    page.clock.install()
    choose(page, picture("blue"))
    expect(page.locator("#results .step")).to_contain_text("Next attempt in 30 s")
    page.clock.run_for(12_000)
    expect(page.locator("#results .step")).to_contain_text("Next attempt in 18 s")
    assert len(front.images) == 1
    page.clock.run_for(18_000)
    expect(page.locator(".winner .label")).to_have_text("blue")
    assert len(front.images) == 2


def test_an_image_that_failed_is_tried_again(visit: Visit, picture: Picture, front: EndpointFront) -> None:
    front.refusals += [Refusal(400, "bad_request")]
    page = visit()
    choose(page, picture("blue"))
    expect(page.locator("#results .reason")).not_to_be_empty()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".winner .label")).to_have_text("blue")


def test_an_endpoint_that_is_down_is_named_and_its_images_follow_when_it_is_back(
    visit: Visit, picture: Picture, front: EndpointFront
) -> None:
    page = visit()
    expect(page.locator("#state")).to_contain_text("Ready")
    front.down = True
    choose(page, picture("green"))
    expect(page.locator("#results .reason")).to_contain_text(
        "sent again as soon as the endpoint answers", timeout=30_000
    )
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#state")).to_contain_text("Problem")
    for path, heading in (("/use", "curl"), ("/model", "colours"), ("/", "colours")):  # the pages stay usable
        expect(visit(path).get_by_role("heading", name=heading)).to_be_visible()
    front.down = False
    expect(page.locator(".winner .label")).to_have_text("green", timeout=30_000)
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#state")).to_contain_text("Ready")


def test_images_wait_for_the_server_of_the_page_itself(visit: Visit, picture: Picture) -> None:
    page = visit()
    page.route("**/api/**", lambda route: route.abort())
    choose(page, picture("red"))
    expect(page.get_by_role("alert")).to_contain_text("The server of this page does not respond")
    page.unroute("**/api/**")
    expect(page.locator(".winner .label")).to_have_text("red")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_file_that_is_too_large_to_send_stays_here(visit: Visit, front: EndpointFront, tmp_path: Path) -> None:
    path = tmp_path / "film.mov"
    path.write_bytes(bytes(21 * 2**20))
    page = visit()
    choose(page, path)
    expect(page.locator("#results .reason")).to_contain_text("The file has 21.0 MB")
    expect(page.locator("#results .reason")).to_contain_text("at most 20.0 MB")
    assert front.images == []


@pytest.mark.parametrize(("choice", "label"), [("red", "red"), ("none of these", None)])
def test_a_correction_is_kept_with_its_image(
    choice: str, label: str | None, visit: Visit, corrections: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"{choice}.png"
    Image.new("RGB", (40, 40), (50, 180 + len(choice), 60)).save(path)
    page = visit()
    choose(page, path)
    chosen = page.get_by_label("Wrong? The right class is")
    expect(chosen).to_be_visible()
    assert chosen.locator("option:enabled").all_inner_texts() == ["choose …", "blue", "red", "none of these"]
    chosen.select_option(choice)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#results .said")).to_contain_text("Thank you")
    (kept,) = [item for item in open_store(str(corrections)).list() if item.sha256 == file_hash(path)]
    assert (kept.label, kept.predicted, kept.model_name) == (label, "green", "colours")
    assert open_store(str(corrections)).image(kept) == path.read_bytes()
    other = "red" if choice == "blue" else "blue"
    chosen.select_option(other)
    page.get_by_role("button", name="Change").click()
    expect(page.locator("#results .said")).to_have_text(f"Thank you. Saved as “{other}”.")
    said = sorted(open_store(str(corrections)).list(), key=lambda item: item.at)
    assert [item.label for item in said if item.sha256 == kept.sha256] == [label, other], "the latest word counts"
    page.get_by_role("link", name="History").click()
    expect(page.locator("#history .file")).to_have_text(f"{path.name} · corrected to {other}")


def test_everything_works_by_keyboard(visit: Visit) -> None:
    page = visit()

    def tab_to(target: Locator) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if target.evaluate("(element) => element === document.activeElement"):
                return
        raise AssertionError("not within 40 stops")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    tab_to(page.locator("#files"))
    outline = page.locator(".button.main").first.evaluate("(element) => getComputedStyle(element).outlineStyle")
    assert outline == "solid"  # the hidden input's focus shows on its button
    tab_to(page.get_by_role("link", name="Sample 1"))
    page.keyboard.press("Enter")
    expect(page.locator("#results .done")).to_be_visible()
    tab_to(page.locator("#results [type=range]"))
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#results .heat")).to_have_attribute("opacity", "0.74")


def test_a_single_upload_needs_no_javascript(visit: Visit, picture: Picture) -> None:
    page = visit(java_script_enabled=False)
    expect(page.get_by_text("Drop images here")).to_be_hidden()
    page.get_by_label("Image", exact=True).set_input_files(picture("red", (90, 60)))
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#results .winner .label")).to_have_text("red")
    expect(page.locator("#results svg").first).to_have_attribute("viewBox", "0 0 90 60")
    for image in (".preview", ".heat"):
        assert (page.locator(f"#results {image}").get_attribute("href") or "").startswith("data:image/")
    expect(page.locator("#results .details .model")).to_have_text("colours")


def test_a_phone_offers_its_camera(visit: Visit) -> None:
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    expect(page.get_by_text("Take a photo")).to_be_visible()
    expect(page.locator("#camera")).to_have_attribute("capture", "environment")
