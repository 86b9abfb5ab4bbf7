"""Asks Azure ML's SDK to validate definitions that only Azure runs, whose schemas it has; nothing is sent."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import quiet
from vision_mlops.core.errors import AzureError
from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.models.azure_only import CONTROL_FLOW, SDK_SWITCH

_LENGTH = 200


def is_installed() -> bool:
    """Return whether the SDK is installed."""
    return importlib.util.find_spec("azure") is not None and importlib.util.find_spec("azure.ai.ml") is not None


Problem = tuple[str, tuple[str | int, ...]]
"""What the SDK says, and the path of the key concerned."""


def sdk_problems(definition: Definition) -> list[Problem]:
    """Return what the SDK rejects in a file: errors of its schema or, if there are none, of its content.

    Args:
        definition: A job, component, endpoint or deployment that only Azure runs, or a pipeline with such a step.
    """
    if needs_switch(definition):  # it would only reject the type of the step
        return []
    # Besides its own errors, the SDK raises whatever a value of an unexpected type causes in it.
    refused = (AzureError, ValueError, TypeError, AttributeError, KeyError)
    try:
        result = None
        with quiet(), azure_errors(str(definition.file)):
            loader = _loader(definition.kind)
            if loader is None:
                return []
            entity = loader(definition.file)
            with contextlib.suppress(NotImplementedError):  # a monitor has only a schema
                result = entity._validate() if hasattr(entity, "_validate") else None
    except refused as error:
        return list(dict.fromkeys(_problems(str(error.__cause__ or error), definition)))
    # A job without a compute gets that of the settings with `--on azure`.
    problems = {} if result is None else dict(result.error_messages)
    problems = {key: text for key, text in problems.items() if not str(key).endswith("compute")}
    return [(_short(text), _known(str(key).split("."), definition)) for key, text in problems.items()]


def needs_switch(definition: Definition) -> str:
    """Return the first step that needs the SDK's private preview, if that is not enabled; empty if there is none."""
    if os.environ.get(SDK_SWITCH, "").lower() == "true":
        return ""
    steps = getattr(definition.model, "jobs", None) or {}
    return next((name for name, step in steps.items() if getattr(step, "type", None) in CONTROL_FLOW), "")


def _loader(kind: str) -> Callable[[Path], Any] | None:
    from azure.ai import ml
    from azure.ai.ml.entities import _load_functions as others

    logging.getLogger("azure.ai.ml").setLevel(logging.CRITICAL)  # notes on experimental classes
    if kind.endswith("Job"):
        return ml.load_job
    if kind.endswith("Component"):
        return ml.load_component
    if kind != "schedule" and not kind.endswith(("Endpoint", "Deployment")):
        return None
    words = re.findall("[A-Z]?[a-z]+", kind.removeprefix("managed").removeprefix("kubernetes"))
    loader: Callable[[Path], Any] = getattr(others, "_".join(["load", *words]).lower())
    return loader


def _problems(text: str, definition: Definition) -> Iterator[Problem]:
    """Yield the messages in what the SDK says, each with its path: JSON in one of two forms within other text."""
    details = _details(text)
    if isinstance(details, dict) and details.get("errors"):
        for error in details["errors"]:
            own = _known(str(error.get("path", "")).split("."), definition)
            for message, keys in _problems(str(error.get("message")), definition):
                yield message, keys or own
        return
    leaves = list(_leaves(details, ()))
    if not leaves:
        yield _short(text), ()
    for trail, message in leaves:
        yield _short(f"{'.'.join(trail)}: {message}" if trail else message), _known(trail, definition)


def _leaves(details: Any, trail: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each message with its path. The SDK reports every form that a value may have; only the first is used."""
    if isinstance(details, dict):
        for key, value in details.items():
            yield from _leaves(value, (*trail, str(key)))
    elif isinstance(details, list):
        texts = [item for item in details if isinstance(item, str)]
        for item in texts or details[:1]:
            yield from _leaves(item, trail)
    elif details is not None:
        yield trail, str(details)


def _details(text: str) -> Any:
    """Return the JSON in a text; None if it contains none."""
    for found in re.finditer(r"\{", text):
        try:
            return json.JSONDecoder().raw_decode(text, found.start())[0]
        except ValueError:
            continue
    return None


def _known(keys: Iterable[str], definition: Definition) -> tuple[str | int, ...]:
    """Return the keys that the file contains, from the outermost on."""
    node: Any = definition.node
    found: list[str | int] = []
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            continue
        found.append(key)
        node = node[key]
    return tuple(found)


def _short(text: object) -> str:
    """Put a text on one line, shortened."""
    line = " ".join(str(text).split())
    return line if len(line) <= _LENGTH else f"{line[:_LENGTH]}..."
