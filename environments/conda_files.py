"""Writes environments/conda/*.yml from the pins in requirements/; ``--check`` fails if one of them is out of date.

Azure ML sends a conda file alone, so each one lists all packages itself, and installs this package from its tag.
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(__file__).with_name("conda")
_HEADER = """\
# Generated from the pins {pins} by `make environments` in the repository of vision-mlops: change the pins, not this file.
# {purpose}
"""


@dataclass(frozen=True)
class CondaFile:
    """One of the files: its name without the suffix, the file of its pins, and its purpose."""

    name: str
    requirements: str
    purpose: str


FILES = (
    CondaFile("dev", "dev.txt", "Everything for notebooks and for work on the code, here or on a compute instance."),
    CondaFile("train", "azure-train.txt", "The steps of jobs on Azure ML: training, evaluation, gate, registration."),
    CondaFile("deploy", "azmlinfsrv.txt", "Online deployments with Azure ML's inference server and an entry script."),
)


def pinned(path: Path) -> dict[str, str]:
    """Return the requirement of each package in a pip file and in all files that it includes.

    Raises:
        ValueError: two of the files pin one package differently.
    """
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("-r "):
            more = pinned(path.parent / text.removeprefix("-r ").strip())
        else:
            more = {canonicalize_name(Requirement(text).name): text}
        for name, requirement in more.items():
            if found.setdefault(name, requirement) != requirement:
                raise ValueError(f"{path}: {requirement} contradicts {found[name]}")
    return found


def content(file: CondaFile) -> str:
    """Return the content of one of the files."""
    pins = pinned(ROOT / "requirements" / file.requirements)
    environment = {
        "name": f"vision-mlops-{file.name}",
        "channels": ["conda-forge"],
        # pip installs the package with git, which the base image may lack.
        "dependencies": ["python=3.11", "git", "pip", {"pip": [*(pins[name] for name in sorted(pins)), _package()]}],
    }
    header = _HEADER.format(pins=file.requirements, purpose=file.purpose)
    return header + yaml.safe_dump(environment, sort_keys=False, width=200)


def _package() -> str:
    """Return the requirement for this package from the repository, at the tag of its version."""
    from vision_mlops import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"{project['name']} @ git+{project['urls']['Repository']}@v{__version__}"


def main() -> int:
    """Write the files, or compare them."""
    stale = []
    for file in FILES:
        path, text = FOLDER / f"{file.name}.yml", content(file)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.relative_to(ROOT).as_posix())
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.stderr.write(f"{', '.join(stale)}: out of date with requirements/: run `make environments`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
