"""The site of the documentation, built as `make site` does: complete, and readable where there is no network."""

from __future__ import annotations

import base64
import functools
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
# In these the address of a host is the name of a namespace, or stands in a licence; nothing is loaded from it.
NAMESPACE = re.compile(r"https?://(www\.w3\.org|fontawesome\.com)\b")
# Not after a letter or a backslash: "//" also ends a regular expression.
ADDRESS = re.compile(r"(?:https?:|(?<![^\s\"'`(=,]))//[\w-]+(?:\.[\w-]+)+")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site() -> Path:
    """Folder of the built site. The environment that builds it is made beside that of the tests, unless it is there."""
    done = subprocess.run(
        ["make", "--no-print-directory", "site", f"VENV={sys.prefix}"],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / done.stdout.strip().splitlines()[-1].removesuffix("/index.html")


class Loaded(HTMLParser):
    """What a browser fetches for a page by itself, and its scripts and styles. Links to click are neither."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.code: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        for name, value in attrs:
            fetched = name in ("src", "srcset", "poster", "data", "background", "action", "xlink:href")
            if fetched or (name == "href" and tag in ("link", "base", "use", "image")):
                self.addresses.append(value or "")
            elif name == "style" or name.startswith("on"):
                self.code.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style"):
            self.code.append(data)


def remote(text: str) -> list[str]:
    return [found[0] for found in ADDRESS.finditer(text) if not NAMESPACE.match(found[0])]


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    """Also no script and no style does, whatever a page makes it do."""
    pages = sorted(site.rglob("*.html"))
    scripts = [path for path in site.rglob("*") if path.suffix in (".js", ".css")]
    assert len(pages) > 50
    assert {path.suffix for path in scripts} == {".js", ".css"}
    for page in pages:
        loaded = Loaded(page.read_text(encoding="utf-8"))
        assert not remote("\n".join([*loaded.addresses, *loaded.code])), page
    for path in scripts:
        # Comments and messages of mermaid name pages of its documentation; the search index holds the text of ours.
        if path not in (site / "assets" / "mermaid.js", site / "search.js"):
            assert not remote(path.read_text(encoding="utf-8")), path


def test_what_would_load_from_elsewhere_is_found() -> None:
    page = """<link href="//a.example/x.css"><script src="https://b.example/y.js"></script>
    <a href="https://c.example">c</a> <script>load("https://d.example/z")</script>
    <img srcset="https://e.example/1.png 2x"><p style="background:url(//f.example/)">"""
    loaded = Loaded(page)
    found = remote("\n".join([*loaded.addresses, *loaded.code]))
    assert [re.sub(r".*//", "", address)[0] for address in found] == ["a", "b", "e", "d", "f"]


def test_every_document_is_in_the_navigation(site: Path) -> None:
    """In the order of the first page, as far as that names them."""
    page = (site / "index.html").read_text(encoding="utf-8")
    shown = list(dict.fromkeys(re.findall(r'<a href="(?:\./)?([^"#]+\.html)" class="md-nav__link', page)))
    documents = {str(path.relative_to(DOCS).with_suffix(".html")) for path in DOCS.rglob("*.md")}
    assert documents <= set(shown)
    first = (DOCS / "index.md").read_text(encoding="utf-8")
    read = [f"how_to/{name}.html" for name in dict.fromkeys(re.findall(r"\]\(how_to/(\w+)\.md", first))]
    assert [name for name in shown if name in read] == read


@pytest.fixture(params=["files", "server"])
def address(site: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The site as a folder that is opened, and behind a web server."""
    if request.param == "files":
        yield site.as_uri()
        return
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(site))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page of a browser that reaches nothing but the site; in the end it has asked for nothing else and has no error."""
    context = browser.new_context(color_scheme="dark", viewport={"width": 1300, "height": 900})
    page = context.new_page()
    faults: list[str] = []

    def seen(request: Request) -> None:
        if not request.url.startswith((address, "blob:", "data:")):
            faults.append(request.url)

    context.set_offline(address.startswith("file:"))
    page.on("request", seen)
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    context.close()
    assert not faults


def test_search_finds_pages(page: Page, address: str) -> None:
    page.goto(f"{address}/how_to/data.html")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("combobox", name="Search").fill("champion")
    results = page.get_by_role("option")
    expect(results.filter(has_text="mlops models promote").first).to_be_visible()
    results.first.click()
    expect(page).to_have_url(re.compile(re.escape(address) + r"/.*\.html"))
    assert "data.html" not in page.url
    expect(page.locator("article")).to_contain_text("champion")


def test_diagrams_are_drawn_and_colours_follow_the_system(page: Page, address: str) -> None:
    page.goto(f"{address}/architecture.html")
    expect(page.locator("pre.mermaid")).to_have_count(0)  # replaced once it is drawn
    drawn = page.locator("div.mermaid").bounding_box()
    assert drawn is not None
    assert drawn["height"] > 300
    assert page.locator("body").get_attribute("data-md-color-scheme") == "slate"
    page.emulate_media(color_scheme="light")
    expect(page.locator("body")).to_have_attribute("data-md-color-scheme", "default")
    assert page.get_by_title(re.compile("edit", re.IGNORECASE)).count() == 0


def build(folder: Path, text: str, **files: str) -> subprocess.CompletedProcess[str]:
    """Build the site of a small repository whose first page has a text."""
    docs = folder / "docs"
    docs.mkdir()
    for name in ("documentation_site.py", "zensical.toml"):
        shutil.copy(DOCS / name, docs)
    for name in ("cli", "configuration", "lint_rules", "architecture", "contributing", "other"):
        (docs / f"{name}.md").write_text(f"# {name}\n")
    (docs / "index.md").write_text(f"# First\n\n{text}\n")
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    command = [f"{sys.prefix}-docs/bin/python", str(docs / "documentation_site.py")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_a_document_links_to_becomes_a_page(site: Path, tmp_path: Path) -> None:
    """A file of the repository, and a notebook with what it has shown."""
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    outputs = [{"text": ["epoch \u001b[1m1\u001b[0m\n"]}, {"data": {"image/png": [dot], "text/plain": ["<Figure>"]}}]
    cells = [
        {"cell_type": "markdown", "source": ["# Learn\n", "[settings](settings.yml)"]},
        {"cell_type": "code", "source": ["print('hello')"], "outputs": outputs},
    ]
    done = build(
        tmp_path, "Read:\n- [it](../learn.ipynb)", settings__yml="seed: 1\n", learn__ipynb=json.dumps({"cells": cells})
    )
    assert done.returncode == 0, done.stderr
    built = tmp_path / "outputs" / "docs" / "site"
    first, page = ((built / name).read_text() for name in ("index.html", "repository/learn.ipynb.html"))
    assert re.search(r'<li><a href="repository/learn\.ipynb\.html">it</a></li>', first), "a list, as on GitHub"
    assert '<a href="settings.yml.html">settings</a>' in page
    assert "epoch 1" in page
    assert 'alt="&lt;Figure&gt;"' in page
    assert (built / "repository" / "learn_1_1.png").read_bytes() == base64.b64decode(dot)
    assert "seed" in (built / "repository" / "settings.yml.html").read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a](how_to/nowhere.md)", "docs/index.md links to how_to/nowhere.md, which does not exist"),
        ("[a](other.md#nowhere)", "anchor does not exist"),
        ("[a](../../elsewhere.md)", "docs/index.md links to ../../elsewhere.md, which does not exist"),
    ],
)
def test_a_dead_link_is_refused(site: Path, tmp_path: Path, text: str, told: str) -> None:
    done = build(tmp_path, text)
    assert done.returncode == 1
    assert told in done.stderr
    assert not (tmp_path / "outputs" / "docs" / "site" / "index.html").exists()
