"""What Azure ML's SDK says against definitions that only Azure runs: it has the schemas of these, and nothing is sent."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import quiet
from vision_mlops.core.errors import AzureError
from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.models.azure_only import CONTROL_FLOW, SDK_SWITCH

_LENGTH = 200


def is_installed() -> bool:
    """Whether the SDK is there to be asked."""
    return importlib.util.find_spec("azure") is not None and importlib.util.find_spec("azure.ai.ml") is not None


Problem = tuple[str, tuple[str | int, ...]]
"""What the SDK says, and the keys that lead to what it means."""


def sdk_problems(definition: Definition) -> list[Problem]:
    """What the SDK refuses in a file. It has the errors of form first, and only without them those of meaning.

    Args:
        definition: Of a job, component, endpoint or deployment that only Azure runs, or of a pipeline with such a step.
    """
    if needs_switch(definition):  # it would say no to the type of the step, and nothing else
        return []
    # Beside errors of its own, the SDK lets those through that a value of another type makes within it.
    refused = (AzureError, ValueError, TypeError, AttributeError, KeyError)
    try:
        result = None
        with quiet(), azure_errors(str(definition.file)):
            loader = _loader(definition.kind)
            if loader is None:
                return []
            entity = loader(definition.file)
            with contextlib.suppress(NotImplementedError):  # a monitor has its schema alone
                result = entity._validate() if hasattr(entity, "_validate") else None
    except refused as error:
        return list(dict.fromkeys(_problems(str(error.__cause__ or error), definition)))
    # Without a compute `--on azure` gives the job that of the settings.
    problems = {} if result is None else dict(result.error_messages)
    problems = {key: text for key, text in problems.items() if not str(key).endswith("compute")}
    return [(_short(text), _keys(str(key), definition)) for key, text in problems.items()]


def needs_switch(definition: Definition) -> str:
    """The first step for which the SDK has to be switched to its private preview, and is not; empty where there is none."""
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
    found: dict[str, Any] = {
        "schedule": others.load_schedule,
        "managedOnlineEndpoint": ml.load_online_endpoint,
        "kubernetesOnlineEndpoint": ml.load_online_endpoint,
        "batchEndpoint": ml.load_batch_endpoint,
        "managedOnlineDeployment": ml.load_online_deployment,
        "kubernetesOnlineDeployment": ml.load_online_deployment,
        "batchDeployment": ml.load_batch_deployment,
        "modelBatchDeployment": others.load_model_batch_deployment,
        "pipelineComponentBatchDeployment": others.load_pipeline_component_batch_deployment,
    }
    return found.get(kind)


def _problems(text: str, definition: Definition) -> Iterator[Problem]:
    """The messages, each with its keys, in what the SDK says: JSON of one form or of another within other text."""
    details = _details(text)
    if isinstance(details, dict) and details.get("errors"):
        for error in details["errors"]:
            own = _keys(str(error.get("path", "")), definition)
            for message, keys in _problems(str(error.get("message")), definition):
                yield message, keys or own
        return
    leaves = list(_leaves(details, ()))
    if not leaves:
        yield _short(text), ()
    for trail, message in leaves:
        yield _short(f"{'.'.join(trail)}: {message}" if trail else message), _known(list(trail), definition)


def _leaves(details: Any, trail: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each message with its keys. Of the forms that something may have the SDK tells every one: the first stands for all."""
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
    """The JSON in a text; None where there is none."""
    for found in re.finditer(r"\{", text):
        try:
            return json.JSONDecoder().raw_decode(text, found.start())[0]
        except ValueError:
            continue
    return None


def _keys(path: str, definition: Definition) -> tuple[str | int, ...]:
    return _known(path.split("."), definition)


def _known(keys: list[str], definition: Definition) -> tuple[str | int, ...]:
    """Those of some keys that the file has, from the outermost on."""
    node: Any = definition.node
    found: list[str | int] = []
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            continue
        found.append(key)
        node = node[key]
    return tuple(found)


def _short(text: object) -> str:
    """One line of it."""
    line = " ".join(str(text).split())
    return line if len(line) <= _LENGTH else f"{line[:_LENGTH]}..."
