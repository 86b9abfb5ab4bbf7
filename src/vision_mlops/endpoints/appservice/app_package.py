"""The zip of the web frontend: the folders of the package that it may import, its requirements, and its start script.

The same content gives the same bytes: names are sorted, and every file has the same date and permissions.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.core.errors import DeploymentError
from vision_mlops.core.paths import repository

ROOMS = ("azure", "config", "core", "flask_app", "storage")
"""Folders of this package that the web frontend may import, including its own."""
STARTUP = "sh startup.sh"
SAMPLES = "samples"
BRAND = "brand"
_REQUIREMENTS = "requirements/app-azure.txt"
_PACKAGE = Path(__file__).parents[2]
_KINDS = frozenset({".css", ".html", ".ico", ".js", ".json", ".png", ".py", ".svg", ".txt", ".typed", ".webp", ".yml"})
_IMAGES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
_BRAND_KINDS = frozenset({".svg", ".yml"})
_DATE = (2020, 1, 1, 0, 0, 0)
_SECRET = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|AccountKey=[A-Za-z0-9+/]{40}|[?&]sig=[A-Za-z0-9%]{20}")
_SCRIPT = """\
#!/bin/sh
# The startup command of the web app is: {startup}
cd "$(dirname "$0")"
export PYTHONPATH="$PWD"
if [ -d {samples} ]; then export MLOPS_APP_SAMPLES="${{MLOPS_APP_SAMPLES:-$PWD/{samples}}}"; fi
if [ -d {brand} ]; then export MLOPS_APP_BRAND="${{MLOPS_APP_BRAND:-$PWD/{brand}}}"; fi
exec gunicorn --config python:vision_mlops.flask_app.gunicorn_settings \\
    --bind "${{MLOPS_HOST:-0.0.0.0}}:${{PORT:-8000}}" "vision_mlops.flask_app.app:create_app()"
"""


@dataclass(frozen=True)
class AppPackage:
    """A zip that App Service runs.

    Attributes:
        content: The zip.
        digest: Its SHA-256.
        names: Names of the files in it.
    """

    content: bytes
    digest: str
    names: tuple[str, ...]


def build_package(samples: Path | None = None, brand: Path | None = None) -> AppPackage:
    """Build the zip.

    Args:
        samples: Folder with images of the gallery.
        brand: Folder with the branding of a project.

    Raises:
        DeploymentError: a file looks like a secret, or the folder of samples has no image.
    """
    files = {"requirements.txt": _requirements(repository() / _REQUIREMENTS).encode()}
    files["startup.sh"] = _SCRIPT.format(startup=STARTUP, samples=SAMPLES, brand=BRAND).encode()
    for path in _sources():
        files[f"{_PACKAGE.name}/{path.relative_to(_PACKAGE).as_posix()}"] = path.read_bytes()
    if samples is not None:
        files |= _samples(samples)
    if brand is not None:
        files |= {
            f"{BRAND}/{path.name}": path.read_bytes() for path in sorted(brand.iterdir()) if path.suffix in _BRAND_KINDS
        }
    for name, content in files.items():
        if _SECRET.search(content):
            raise DeploymentError(f"{name} seems to contain a key, so it is not packed", "remove the key from the file")
    return _zipped(files)


def read_package(file: Path) -> AppPackage:
    """Read a zip that was built before. Raises DeploymentError if it is not one of the web frontend."""
    try:
        content = file.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = tuple(archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise DeploymentError(
            f"{file} cannot be read: {error}", "create it with: mlops app package --out app.zip"
        ) from error
    hidden = [name for name in names if Path(name).name.startswith(".env")]
    if "requirements.txt" not in names or hidden:
        problem = f"holds {hidden[0]}" if hidden else "has no requirements.txt at its top"
        raise DeploymentError(f"{file} {problem}", "create it with: mlops app package --out app.zip")
    return AppPackage(content, hashlib.sha256(content).hexdigest(), names)


def _sources() -> Iterator[Path]:
    """Yield files of the folders, and the package's own ``__init__.py``, without hidden files and bytecode."""
    yield _PACKAGE / "__init__.py"
    for room in ROOMS:
        for path in sorted((_PACKAGE / room).rglob("*")):
            parts = path.relative_to(_PACKAGE).parts
            if not path.is_file() or "__pycache__" in parts or any(part.startswith(".") for part in parts):
                continue
            if path.suffix not in _KINDS:
                raise DeploymentError(f"{path} does not belong in the web app", "move the file out of the package")
            yield path


def _samples(folder: Path) -> Mapping[str, bytes]:
    found = [path for path in sorted(folder.glob("*")) if path.suffix.lower() in _IMAGES and path.name[0] != "."]
    if not found:
        problem = "has no images" if folder.exists() else "does not exist"
        raise DeploymentError(f"{folder} {problem}", f"give a folder with {', '.join(sorted(_IMAGES))} files")
    return {f"{SAMPLES}/{path.name}": path.read_bytes() for path in found}


def _requirements(pins: Path) -> str:
    """Return all pins of a file and of the files that it includes, sorted."""
    found, waiting = set[str](), [pins]
    while waiting:
        file = waiting.pop()
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("-r "):
                waiting.append(file.parent / line.removeprefix("-r ").strip())
            elif line.strip() and not line.startswith("#"):
                found.add(line.strip())
    return "".join(f"{line}\n" for line in sorted(found, key=str.lower))


def _zipped(files: Mapping[str, bytes]) -> AppPackage:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # independent of the system that builds it
            entry.external_attr = (0o755 if name.endswith(".sh") else 0o644) << 16
            archive.writestr(entry, files[name])
    content = stream.getvalue()
    return AppPackage(content, hashlib.sha256(content).hexdigest(), tuple(sorted(files)))
