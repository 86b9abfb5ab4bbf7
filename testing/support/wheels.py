"""Packages of tests: wheels that are made on the spot, so that pip installs without a registry."""

from __future__ import annotations

import zipfile
from pathlib import Path


def write_wheel(folder: Path, name: str, version: str, module: str, requires: str = "") -> Path:
    """A wheel with one module of the same name; ``module`` is its text."""
    folder.mkdir(parents=True, exist_ok=True)
    file, facts = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    contents = {
        f"{name}.py": module,
        f"{facts}/METADATA": metadata + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{facts}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{facts}/entry_points.txt": f"[console_scripts]\n{name}-command = {name}:main\n",
    }
    record = "".join(f"{path},,\n" for path in [*contents, f"{facts}/RECORD"])
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in {**contents, f"{facts}/RECORD": record}.items():
            archive.writestr(path, text)
    return file


def write_project(folder: Path, backend: str) -> None:
    """A project that builds its wheel by code of its own, without setuptools."""
    folder.mkdir(parents=True, exist_ok=True)
    text = '[build-system]\nrequires = []\nbuild-backend = "own_backend"\nbackend-path = ["."]\n'
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    (folder / "own_backend.py").write_text(backend, encoding="utf-8")
