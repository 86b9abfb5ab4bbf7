"""Which targets this machine has deployed to, so that commands need not be told; what is there, only the target knows."""

from __future__ import annotations

import json

from vision_mlops.core import paths
from vision_mlops.core.errors import DeploymentError
from vision_mlops.core.files import atomic_write


def remember(name: str, target: str) -> None:
    """Note that an endpoint was deployed to a target."""
    known = _read()
    if target not in known.get(name, []):
        known[name] = sorted([*known.get(name, []), target])
        _write(known)


def forget(name: str, target: str) -> None:
    """Note that an endpoint is gone from a target."""
    known = _read()
    if target in known.get(name, []):
        known[name].remove(target)
        _write({endpoint: targets for endpoint, targets in known.items() if targets})


def targets() -> list[str]:
    """Targets that anything was deployed to."""
    return sorted({target for places in _read().values() for target in places})


def target_of(name: str) -> str:
    """The target that an endpoint was deployed to from here.

    Raises:
        DeploymentError: none is known, or more than one.
    """
    places = _read().get(name, [])
    if len(places) == 1:
        return places[0]
    if places:
        raise DeploymentError(f"endpoint {name!r} is on {' and '.join(places)}", f"say which: --on {places[0]}")
    known = ", ".join(sorted(_read()))
    raise DeploymentError(
        f"no endpoint {name!r} was deployed from here",
        f"known here: {known}" if known else "name its target with --on, or make it with `mlops deploy`",
    )


def _read() -> dict[str, list[str]]:
    try:
        content = json.loads((paths.home() / "endpoints" / "known.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it only saves typing: without it, commands ask for --on
    return content if isinstance(content, dict) else {}


def _write(known: dict[str, list[str]]) -> None:
    atomic_write(paths.home() / "endpoints" / "known.json", json.dumps(known, indent=1))
