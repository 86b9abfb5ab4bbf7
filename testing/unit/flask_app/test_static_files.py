"""Style sheet, scripts and icon: compressed, kept by browsers, and from one version."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from flask import Flask, render_template_string
from flask.testing import FlaskClient

from vision_mlops.flask_app import static_files

FOLDER = Path(static_files.__file__).with_name("static")


def client(folder: Path) -> FlaskClient:
    app = Flask("test", static_folder=None)
    static_files.serve_static_files(app, folder)
    return app.test_client()


def address(opened: FlaskClient, name: str) -> str:
    with opened.application.test_request_context():
        return render_template_string("{{ static(name) }}", name=name)


def test_a_file_is_compressed_for_those_who_take_that(tmp_path: Path) -> None:
    content = b"body { margin: 0 }\n" * 100
    (tmp_path / "a.css").write_bytes(content)
    opened = client(tmp_path)
    plain = opened.get(address(opened, "a.css"))
    assert plain.data == content
    assert plain.mimetype == "text/css"
    assert "Content-Encoding" not in plain.headers
    packed = opened.get(address(opened, "a.css"), headers={"Accept-Encoding": "br, gzip"})
    assert gzip.decompress(packed.data) == content
    assert packed.content_encoding == "gzip"
    assert len(packed.data) < len(content) / 10
    assert "Accept-Encoding" in packed.vary
    refused = opened.get(address(opened, "a.css"), headers={"Accept-Encoding": "gzip;q=0"})
    assert refused.data == content


def test_its_address_changes_when_any_file_does(tmp_path: Path) -> None:
    for name in ("a.js", "b.js"):
        (tmp_path / name).write_text(f"// {name}", encoding="utf-8")
    before = client(tmp_path)
    old = address(before, "a.js")
    assert before.get(old).headers["Cache-Control"] == "public, immutable, max-age=31536000"
    (tmp_path / "b.js").write_text("// another", encoding="utf-8")
    after = client(tmp_path)
    assert address(after, "a.js") != old
    served = after.get(old)  # a page of the version before asks this instance
    assert (served.status_code, served.headers["Cache-Control"]) == (200, "no-store")


@pytest.mark.parametrize("name", ["b.css", "../app.py", "..%2fapp.py", "sub/a.css", "."])
def test_nothing_else_is_served(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.css").write_text("", encoding="utf-8")
    opened = client(tmp_path)
    assert opened.get(address(opened, "a.css").replace("a.css", name)).status_code == 404


def test_scripts_import_scripts_that_are_there() -> None:
    named = {
        (path.name, other)
        for path in FOLDER.glob("*.js")
        for other in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8"))
    }
    assert ("classify.js", "card.js") in named
    assert [pair for pair in named if not (FOLDER / pair[1]).is_file()] == []
