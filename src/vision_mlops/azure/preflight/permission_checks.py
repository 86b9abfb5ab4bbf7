"""Check what the caller may do with all its roles together, as Azure reports it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from vision_mlops.azure.preflight.caller import UNSEEN, Caller
from vision_mlops.azure.preflight.purposes import NeededAction
from vision_mlops.azure.resource_manager import ResourceManager
from vision_mlops.core.errors import AzureError
from vision_mlops.core.text import counted
from vision_mlops.doctor.check_results import Diagnosis, failure, ok, warning

_VERSION = "2022-04-01"
Permissions = Iterable[Mapping[str, Any]]


def check_permissions(reads: ResourceManager, caller: Caller, needed: tuple[NeededAction, ...]) -> list[Diagnosis]:
    """Return a result for each missing role, or one if everything is allowed."""
    results: list[Diagnosis] = []
    for at_workspace, scope in ((True, reads.workspace), (False, reads.group)):
        actions = [action for action in needed if action.at_workspace is at_workspace]
        if not actions:
            continue
        try:
            held = reads.list("permissions", f"{scope}/providers/Microsoft.Authorization/permissions", _VERSION)
        except AzureError as error:
            if error.status == 404:  # the workspace has its own check
                continue
            if error.status != 403:
                raise
            told = f"{caller.name} may not read its own permissions on {scope.rpartition('/')[2]}, {UNSEEN}"
            results.append(warning("roles", told, caller.assignment("Reader", scope)))
            continue
        results += _missing(actions, held, caller, scope)
    if not results:
        results.append(
            ok("roles", f"{caller.name} may do everything that is needed ({counted(len(needed), 'action')})")
        )
    return results


def allows(held: Permissions, action: str) -> bool:
    """Return whether one of the permissions allows an action and does not exclude it again."""
    return any(
        _matches(action, item.get("actions") or ()) and not _matches(action, item.get("notActions") or ())
        for item in held
    )


def _missing(actions: list[NeededAction], held: Permissions, caller: Caller, scope: str) -> list[Diagnosis]:
    lacking: dict[tuple[str, bool], list[NeededAction]] = {}
    for action in actions:
        if not allows(held, action.action):
            lacking.setdefault((action.role, action.only_warns), []).append(action)
    return [
        (warning if only_warns else failure)(
            "roles",
            f"{caller.name} may not create {' and '.join(action.why for action in found)} ({found[0].action})",
            caller.assignment(role, scope),
        )
        for (role, only_warns), found in lacking.items()
    ]


def _matches(action: str, patterns: Iterable[str]) -> bool:
    return any(_pattern(str(pattern)).fullmatch(action) for pattern in patterns)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Compile the pattern of an action. In the middle, ``*`` stands for any number of parts, including none."""
    parts = [re.escape(part).replace(r"\*", ".*") for part in text.split("/*/")]
    return re.compile("/(?:.*/)?".join(parts), re.IGNORECASE)
