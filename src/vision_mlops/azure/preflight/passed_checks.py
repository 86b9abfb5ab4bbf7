"""Remembers for some minutes which checks have passed, so that the next command does not ask Azure again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from vision_mlops.azure.preflight.purposes import Demand, Purpose
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core import paths
from vision_mlops.core.files import atomic_write

SECONDS = 600
_IDENTITY = ("AZURE_CLIENT_ID", "AZURE_CONFIG_DIR", "AZURE_TENANT_ID", "AZURE_TOKEN_CREDENTIALS")
"""Variables that determine who signs in."""


def is_fresh(settings: AzureSettings, purpose: Purpose) -> bool:
    """Return whether the checks for a purpose passed recently, with the same settings and sign-in."""
    then = _read().get(_key(settings, purpose), 0.0)
    return 0 <= time.time() - then < SECONDS


def remember(settings: AzureSettings, purpose: Purpose) -> None:
    """Record that the checks for a purpose have passed."""
    moment = time.time()
    kept = {key: then for key, then in _read().items() if 0 <= moment - then < SECONDS}
    atomic_write(_file(), json.dumps({**kept, _key(settings, purpose): moment}))


def _file() -> Path:
    return paths.home() / "azure" / "checks.json"


def _key(settings: AzureSettings, purpose: Purpose) -> str:
    demands: Sequence[Demand] = purpose.demands(settings)
    identity = [os.environ.get(name, "") for name in _IDENTITY]
    text = repr((settings.model_dump(mode="json"), purpose.name, demands, identity))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read() -> dict[str, float]:
    try:
        content = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # the file only saves time
    return {str(key): float(then) for key, then in content.items()} if isinstance(content, dict) else {}
