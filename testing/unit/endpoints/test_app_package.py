"""The zip of the web frontend: what is in it, that it is the same each time, and what it refuses to hold."""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from testing.support.archives import picture, zip_of

from vision_mlops.core.errors import DeploymentError
from vision_mlops.core.import_graph import ImportGraph
from vision_mlops.endpoints.appservice import app_package
from vision_mlops.endpoints.appservice.app_package import ROOMS, build_package, read_package

_PACKAGE = Path(app_package.__file__).parents[2]


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that may be changed."""
    folder = tmp_path / "src" / "vision_mlops"
    ignored = shutil.ignore_patterns("__pycache__")
    for room in ROOMS:
        shutil.copytree(_PACKAGE / room, folder / room, ignore=ignored)
    shutil.copyfile(_PACKAGE / "__init__.py", folder / "__init__.py")
    monkeypatch.setattr(app_package, "_PACKAGE", folder)
    return folder


def files(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_it_holds_all_that_the_web_frontend_can_reach_and_no_other_room() -> None:
    made = build_package()
    rooms = {name.split("/")[1] for name in made.names if name.startswith("vision_mlops/") and name.count("/") > 1}
    assert rooms == set(ROOMS)
    reached = ImportGraph(_PACKAGE).reached(["vision_mlops.flask_app.app", "vision_mlops.flask_app.gunicorn_settings"])
    assert {f"vision_mlops/{path.as_posix()}" for path in reached} <= set(made.names)
    for kind in ("static", "templates"):
        there = {path.relative_to(_PACKAGE.parent).as_posix() for path in (_PACKAGE / "flask_app" / kind).rglob("*.*")}
        assert there
        assert there <= set(made.names)
    assert len(made.content) < 400_000


def test_it_pins_what_it_needs_and_nothing_heavy() -> None:
    pins = files(build_package().content)["requirements.txt"].decode().splitlines()
    names = {re.split("[=;]", line)[0].lower() for line in pins}
    assert {"flask", "gunicorn", "httpx", "azure-identity", "azure-storage-blob", "pydantic"} <= names
    assert not {"torch", "openvino", "mlflow", "azure-ai-ml", "azure-mgmt-web"} & names
    assert all("==" in line for line in pins)
    assert pins == sorted(pins, key=str.lower)


def test_the_same_content_makes_the_same_bytes(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_package()
    for path in copied.rglob("*.py"):
        path.touch()
        path.chmod(0o600)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    (copied / "core" / "__pycache__").mkdir()
    (copied / "core" / "__pycache__" / "x.pyc").write_bytes(b"bytecode")
    assert build_package().content == first.content
    (copied / "__init__.py").write_text('__version__ = "0.2.0"\n')
    assert build_package().digest != first.digest


def test_hidden_files_are_left_out(copied: Path) -> None:
    for name in (".env", ".env.local", "static/.env"):
        (copied / "flask_app" / name).write_text("MLOPS_APP_ENDPOINT_KEY=secret\n")
    assert not [name for name in build_package().names if ".env" in name]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("flask_app/key.pem", "x", "does not belong in the web app"),
        ("core/app.db", "x", "does not belong in the web app"),
        ("flask_app/note.txt", "-----BEGIN RSA PRIVATE KEY-----", "seems to contain a key"),
        ("config/place.yml", f"x: DefaultEndpointsProtocol=https;AccountKey={'A' * 44}==", "seems to contain a key"),
        ("storage/place.py", f"URL = 'https://a/b?sv=1&sig={'a' * 30}'", "seems to contain a key"),
    ],
)
def test_what_is_or_holds_a_secret_is_refused(copied: Path, name: str, text: str, told: str) -> None:
    (copied / name).write_text(text)
    with pytest.raises(DeploymentError, match=told) as caught:
        build_package()
    assert name in str(caught.value)


def test_samples_come_along(tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    with pytest.raises(DeploymentError, match="has no images"):
        build_package(folder)
    (folder / "a.jpg").write_bytes(picture(1))
    (folder / "notes.md").write_text("not an image")
    assert [name for name in build_package(folder).names if name.startswith("samples/")] == ["samples/a.jpg"]


def test_it_holds_the_look_of_a_project(tmp_path: Path) -> None:
    for name in ("brand.yml", "logo.svg", "notes.txt"):
        (tmp_path / name).write_text(name)
    made = build_package(brand=tmp_path)
    assert {name for name in made.names if name.startswith("brand/")} == {"brand/brand.yml", "brand/logo.svg"}
    assert "MLOPS_APP_BRAND" in files(made.content)["startup.sh"].decode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"not a zip", "cannot be read"),
        (zip_of({"app.py": b""}), "has no requirements.txt"),
        (zip_of({"requirements.txt": b"", "deep/.env": b"KEY=1"}), "holds deep/.env"),
    ],
)
def test_a_zip_of_something_else_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "app.zip"
    file.write_bytes(content)
    with pytest.raises(DeploymentError, match=told):
        read_package(file)
