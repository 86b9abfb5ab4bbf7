"""The look that a project gives the web frontend: what is checked, and what pages show of it."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from testing.unit.flask_app.conftest import OpenApp
from typer.testing import CliRunner

from vision_mlops.cli.main import app
from vision_mlops.core.errors import ConfigError
from vision_mlops.flask_app import static_files
from vision_mlops.flask_app.brand import LEAST_CONTRAST, SURFACES, Accent, contrast, load_brand

CSS = Path(static_files.__file__).with_name("static") / "app.css"
LOGO = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0h9v9z"/></svg>'


def write(folder: Path, text: str, logo: str = "") -> Path:
    (folder / "brand.yml").write_text(text, encoding="utf-8")
    if logo:
        (folder / "logo.svg").write_text(logo, encoding="utf-8")
    return folder


def test_pages_show_it(open_app: OpenApp, tmp_path: Path) -> None:
    text = 'title: Bird <watch>\nlead: Which bird?\nfoot: Ask the team.\naccent: {light: "#7a1f5c"}\n'
    page = (client := open_app(BRAND=str(write(tmp_path, text, LOGO)))).get("/").text
    assert "Bird &lt;watch&gt;</title>" in page
    assert '<p class="lead">Which bird?</p>' in page
    assert "<span>Ask the team.</span>" in page
    styles = client.get(re.findall(r'href="(/static/[^"]+/brand\.css)"', page)[0])
    assert "--accent: light-dark(#7a1f5c, #62d3b4);" in styles.text
    logo = client.get(re.findall(r'<img src="(/static/[^"]+/logo\.svg)"', page)[0])
    assert (logo.text, logo.mimetype) == (LOGO, "image/svg+xml")
    assert "default-src 'none'" in logo.headers["Content-Security-Policy"]


def test_nothing_changes_without_one(open_app: OpenApp) -> None:
    page = open_app(TITLE="Ours").get("/").text
    assert "brand.css" not in page
    assert "logo.svg" not in page


def test_a_title_of_the_environment_wins(open_app: OpenApp, tmp_path: Path) -> None:
    assert "Ours</title>" in open_app(TITLE="Ours", BRAND=str(write(tmp_path, "title: Theirs\n"))).get("/").text


def test_colours_are_those_of_the_style_sheet() -> None:
    css = CSS.read_text(encoding="utf-8")
    for name, place in (("ground", 0), ("panel", 1)):
        light, dark = re.findall(rf"--{name}: light-dark\((#\w+), (#\w+)\)", css)[0]
        whole = "#" + "".join(2 * sign for sign in light[1:]) if len(light) == 4 else light
        assert (whole, dark) == (SURFACES["light"][place], SURFACES["dark"][place])
    ours = Accent()
    assert f"--accent: light-dark({ours.light}, {ours.dark})" in css


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize(("theme", "colour"), [("light", "#ff7700"), ("dark", "#114433"), ("light", "#ffffff")])
def test_too_little_contrast_is_refused_with_a_colour_that_has_enough(theme: str, colour: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"accent.{theme}: {colour} has a contrast of") as raised:
        load_brand(write(tmp_path, f'accent: {{{theme}: "{colour}"}}\n'))
    better = raised.value.hint.split()[0]
    load_brand(write(tmp_path, f'accent: {{{theme}: "{better}"}}\n'))
    assert min(contrast(better, surface) for surface in SURFACES[theme]) >= LEAST_CONTRAST


WRONG = {
    "unknown key": ("titel: x\n", "", "unknown key 'titel'", "title"),
    "unknown theme": ('accent: {lihgt: "#000000"}\n', "", "unknown key 'accent.lihgt'", "light"),
    "no colour": ("accent: {light: red}\n", "", "accent.light: 'red' is not a colour", "web_app.md"),
    "long": (f"title: {'x' * 81}\n", "", "title", "web_app.md"),
    "no mapping": ("- a\n", "", "brand.yml", "web_app.md"),
    "no yaml": ("title: [\n", "", "cannot be read", "web_app.md"),
    "no svg": ("", "PNG", "logo.svg is not an SVG image", "SVG"),
    "script": ("", LOGO.replace("<path", "<script>x</script><path"), "'<script'", "plain SVG"),
    "handler": ("", LOGO.replace("<path", '<path onload="x()"'), "'onload='", "plain SVG"),
    "loads": (
        "",
        LOGO.replace("<path", '<image href="https://example.org/a.png"/><path'),
        "load nothing|loads nothing",
        "SVG",
    ),
    "large": ("", LOGO.replace("<path", f"<!--{'x' * 100_000}--><path"), "more than 100,000", "simplify"),
}


@pytest.mark.parametrize(("text", "logo", "message", "hint"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(text: str, logo: str, message: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        load_brand(write(tmp_path, text, logo))
    assert hint in raised.value.hint


def test_the_look_of_the_project_in_the_current_folder_goes_into_the_zip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app").mkdir()
    write(tmp_path / "app", "title: Ours\n", LOGO)
    assert CliRunner().invoke(app, ["app", "package", "--out", "app.zip"]).exit_code == 0
    with zipfile.ZipFile("app.zip") as archive:
        assert archive.read("brand/brand.yml") == b"title: Ours\n"
    write(tmp_path / "app", "titel: Ours\n")
    refused = CliRunner().invoke(app, ["app", "package", "--out", "other.zip"])
    assert isinstance(refused.exception, ConfigError)
    assert not (tmp_path / "other.zip").exists()
