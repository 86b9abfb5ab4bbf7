"""The health of a scoring server, requested at its address."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vision_mlops.core.listening import is_on_this_machine
from vision_mlops.serving.http.openapi import LOADING

_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Health:
    """What a server reports about itself.

    Attributes:
        problem: Why it is not ready; empty if it is ready.
        model: Name, version and id of the model that it has loaded.
        final: Whether waiting does not help: a server that has refused its bundle stays in that state.
        reached: Whether it responded at all.
    """

    problem: str = ""
    model: Mapping[str, str] = field(default_factory=dict)
    final: bool = False
    reached: bool = True

    @property
    def ready(self) -> bool:
        """Whether it accepts images."""
        return not self.problem

    @property
    def bundle_id(self) -> str:
        """Id of the bundle that it has loaded; empty if it does not say."""
        return str(self.model.get("id", ""))


def ask(base_url: str, *, timeout_s: float = _SECONDS) -> Health:
    """Ask a server whether it is ready; every error is a part of the result.

    Args:
        base_url: Such as ``http://host:8000``.
        timeout_s: How long to wait, in seconds.
    """
    if not base_url:
        return Health("it has no address yet", reached=False)
    try:
        with urllib.request.build_opener(proxies_for(base_url)).open(
            f"{base_url}/health/ready", timeout=timeout_s
        ) as response:
            model = _content(response.read()).get("model")
    except urllib.error.HTTPError as error:
        found = _content(error.read()).get("error")
        code, told = (found.get("code"), found.get("message")) if isinstance(found, dict) else ("", "")
        told = " ".join(str(told or f"HTTP {error.code}").split())
        return Health(f"it is not ready: {told}", final=code == "not_ready" and told != LOADING)
    except (OSError, http.client.HTTPException) as error:
        return Health(f"{base_url} cannot be reached from here: {getattr(error, 'reason', error)}", reached=False)
    return Health(model=model if isinstance(model, dict) else {})


def proxies_for(url: str) -> urllib.request.ProxyHandler:
    """Return the proxies of the environment, or none for an address of this machine, which no proxy reaches."""
    return urllib.request.ProxyHandler({} if is_on_this_machine(url) else None)


def _content(raw: bytes) -> dict[str, Any]:
    try:
        content = json.loads(raw)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
