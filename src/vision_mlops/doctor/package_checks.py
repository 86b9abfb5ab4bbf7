"""Which packages are installed, compared with what the extras of this package require; nothing is imported."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from vision_mlops.doctor.check_results import Diagnosis, failure, ok, warning

PACKAGE = "vision-mlops"
Installed = Callable[[str], str | None]
"""Version of an installed package by its name; None where it is not installed."""
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[^]]*\])?\s*(?P<versions>[^;]*)(?:;\s*(?P<marker>.*))?")
_EXTRA = re.compile(r"extra == [\"']([\w-]+)[\"']")
_NVIDIA = Path("/proc/driver/nvidia/version")


def installed_version(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def check_packages(
    requirements: Sequence[str] | None = None, installed: Installed = installed_version, nvidia: Path = _NVIDIA
) -> Iterator[Diagnosis]:
    """Check the base and the extras, and which build of torch is installed.

    Args:
        requirements: As the metadata of this package has them; its own where not given.
        installed: Looks a package up.
        nvidia: A file that is there where the driver of a graphics processor is.
    """
    if requirements is None:
        try:
            requirements = metadata.requires(PACKAGE) or []
        except metadata.PackageNotFoundError:
            yield warning(
                "packages", f"{PACKAGE} runs from its source and is not installed", "pip install --editable ."
            )
            return
    groups = _by_extra(requirements)
    base = _problems(groups.pop("", []), installed)
    if base:
        yield failure("packages", "; ".join(base), f"pip install --upgrade {PACKAGE}")
    whole: list[str] = []
    missing: list[str] = []
    for extra, needed in sorted(groups.items()):
        problems = _problems(needed, installed)
        if not problems:
            whole.append(extra)
        elif len(problems) == len(needed) or all(item.endswith("is not installed") for item in problems):
            missing.append(extra)
        else:
            yield warning(f"extra {extra}", "; ".join(problems), f"pip install --upgrade '{PACKAGE}[{extra}]'")
    if not base:
        has = f"extras {', '.join(whole)}" if whole else "no extra"
        lacks = f"; not installed: {', '.join(missing)} (pip install '{PACKAGE}[{missing[0]}]')" if missing else ""
        yield ok("packages", f"{has}{lacks}")
    yield from _check_torch(installed, nvidia)


def _check_torch(installed: Installed, nvidia: Path) -> Iterator[Diagnosis]:
    version = installed("torch")
    if version is None:
        return
    cuda = "+cu" in version or any(installed(name) for name in ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12"))
    build = "built for CUDA" if cuda else "built for CPUs"
    if nvidia.exists() and not cuda:
        yield warning(
            "torch",
            f"torch {version} is {build}, and this machine has an Nvidia GPU",
            "install the CUDA build that https://pytorch.org/get-started/locally names for this version",
        )
        return
    yield ok("torch", f"torch {version}, {build}")


def _by_extra(requirements: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return names with their versions, by extra; those of the base have the extra ``""``."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for text in requirements:
        match = _REQUIREMENT.fullmatch(text.strip())
        if match is None or match["name"].lower() == PACKAGE or not _holds_here(match["marker"] or ""):
            continue
        extra = _EXTRA.search(match["marker"] or "")
        found[extra[1] if extra else ""].append((match["name"], match["versions"].strip(" ()")))
    return found


def _holds_here(marker: str) -> bool:
    """Return whether a requirement, whatever its extra, is meant for this machine; it is if that is unclear."""
    marker = re.sub(r"\s+(and|or)\s+extra == .*$|^extra == .*$", "", marker)
    try:
        from packaging.markers import Marker
    except ImportError:
        return not marker
    return Marker(marker).evaluate() if marker else True


def _problems(needed: Sequence[tuple[str, str]], installed: Installed) -> list[str]:
    problems = []
    for name, versions in needed:
        version = installed(name)
        if version is None:
            problems.append(f"{name} is not installed")
        elif not _fits(version, versions):
            problems.append(f"{name} {version} does not fit {versions}")
    return problems


def _fits(version: str, versions: str) -> bool:
    """Return whether a version is one of those that are required; without ``packaging``, each one is."""
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return True
    return SpecifierSet(versions).contains(version, prereleases=True)
