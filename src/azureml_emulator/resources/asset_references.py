"""Ids in what the SDK sends, and the resources that they refer to."""

from __future__ import annotations

import re
from collections.abc import Iterator

from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import ServiceRefusalError, malformed

_ID = re.compile(r"(?:azureml:)?(/subscriptions/.+)", re.IGNORECASE)
_REGISTRY = re.compile(r"azureml://registries/([^/]+)/(\w+)/([^/]+)/versions/([^/]+)")


def arm_id(text: str) -> str | None:
    """Return the path in an id with or without ``azureml:``; None if the text is not an id."""
    found = _ID.fullmatch(text)
    return found[1] if found else None


def check(subscription: Subscription, body: object) -> None:
    """Refuse a body that refers to something that does not exist.

    Raises:
        ServiceRefusalError: 404, naming it.
    """
    for text in texts(body):
        if "${{" in text:
            continue
        path = arm_id(text)
        found = _REGISTRY.fullmatch(text)
        # Registries of others, such as the one with Microsoft's images, cannot be checked.
        ours = (
            found is not None and subscription.store.find(f"{subscription.scope()}/registries/{found[1]}") is not None
        )
        if ours or (path is not None and "/workspaces/" in path):
            resolve(subscription, text)


def texts(body: object) -> Iterator[str]:
    """Return all texts in a body, except for keys."""
    if isinstance(body, str):
        yield body
    elif isinstance(body, dict | list):
        for value in body.values() if isinstance(body, dict) else body:
            yield from texts(value)


def resolve(subscription: Subscription, text: str) -> RestResource:
    """Return the resource that an id refers to; labels refer to the newest version.

    Raises:
        ServiceRefusalError: 404, it does not exist; 400, the text is not an id.
    """
    if found := _REGISTRY.fullmatch(text):
        registry, kind, name, version = found.groups()
        region = f"/mferp/managementfrontend{subscription.scope()}/registries/{registry}"
        return subscription.store.get(f"{region}/{kind}/{name}/versions/{version}", text)
    path = arm_id(text)
    if path is None:
        raise malformed(f"{text!r} is not an id")
    if "/labels/" in path:
        versions = subscription.store.children(path.split("/labels/")[0] + "/versions")
        if versions:
            return versions[-1]
    found_there = subscription.store.find(path)
    if found_there is None:
        kind, *rest = path.split("/workspaces/")[-1].split("/")[1:]
        raise ServiceRefusalError(
            404, "UserError", f"{kind.removesuffix('s')} {':'.join(rest[::2])} was not found in the workspace"
        )
    return found_there
