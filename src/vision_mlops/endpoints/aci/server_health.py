"""The health of a scoring server, requested at its public address."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from vision_mlops.serving.http.openapi import LOADING

_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Health:
    """``problem`` is empty if the server is ready; ``bundle_id`` is that of its model, if it reports it.

    ``final`` means that waiting does not help: a server that has refused its bundle stays in that state.
    """

    problem: str = ""
    bundle_id: str = ""
    final: bool = False

    @property
    def ready(self) -> bool:
        """Whether it accepts images."""
        return not self.problem


def ask(base_url: str, *, timeout_s: float = _SECONDS) -> Health:
    """Ask a server whether it is ready; every error is a part of the result.

    Args:
        base_url: Such as ``http://host:8000``.
        timeout_s: How long to wait, in seconds.
    """
    if not base_url:
        return Health("it has no address yet")
    url = f"{base_url}/health/ready"
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            model = _content(response.read()).get("model")
    except urllib.error.HTTPError as error:
        found = _content(error.read()).get("error")
        code, told = (found.get("code"), found.get("message")) if isinstance(found, dict) else ("", "")
        told = " ".join(str(told or f"HTTP {error.code}").split())
        return Health(f"it is not ready: {told}", final=code == "not_ready" and told != LOADING)
    except (OSError, http.client.HTTPException) as error:
        return Health(f"{base_url} cannot be reached from here: {getattr(error, 'reason', error)}")
    return Health(bundle_id=str(model.get("id", "")) if isinstance(model, dict) else "")


def _content(raw: bytes) -> dict[str, Any]:
    try:
        content = json.loads(raw)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
