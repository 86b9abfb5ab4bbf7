"""Finds what was created in Azure, and removes it one by one; names what could not be found or removed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vision_mlops.azure.clients import check_workspace, ml_client
from vision_mlops.core.errors import MlopsError
from vision_mlops.teardown import workspace_things
from vision_mlops.teardown.app_things import apps_of
from vision_mlops.teardown.endpoint_things import endpoints_of
from vision_mlops.teardown.made_things import KINDS, MadeThing, Search

Say = Callable[[str], None]


@dataclass
class Inventory:
    """The result of a search.

    Attributes:
        things: Things to be removed, in the order of removal.
        kept: Things that this package created and that stay, because others share them or they name no workload.
        notes: Idle things that belong to people.
        problems: What could not be searched, and why.
    """

    things: list[MadeThing] = field(default_factory=list)
    kept: list[MadeThing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def usd(self) -> float:
        """Monthly cost of all things with a known price."""
        return round(sum(thing.usd or 0.0 for thing in self.things), 2)


@dataclass
class Removal:
    """The result of a removal. ``failed`` has the error of each thing; ``left`` was not attempted."""

    removed: list[MadeThing] = field(default_factory=list)
    failed: list[tuple[MadeThing, MlopsError]] = field(default_factory=list)
    left: list[MadeThing] = field(default_factory=list)
    interrupted: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing is left."""
        return not self.failed and not self.left


def find(search: Search, has_cluster: Callable[[], bool] | None = None) -> Inventory:
    """Find everything that this package created, as far as it can be searched.

    Args:
        search: What is looked for.
        has_cluster: Whether a Kubernetes cluster is known here, so that target aks is searched.

    Raises:
        MlopsError: there is no sign-in, or the workspace cannot be reached, so nothing is known.
    """
    client = ml_client(search.settings)
    check_workspace(client, search.settings)
    place = f"workspace {search.settings.workspace_name}"
    finders: list[tuple[str, Callable[[], Sequence[MadeThing]]]] = [
        ("schedules", lambda: workspace_things.schedules_of(client, search)),
        ("published pipelines", lambda: workspace_things.pipelines_of(client)),
        *(
            (f"endpoints on {target}", lambda target=target: endpoints_of(target, search))
            for target in ("managed", "kubernetes-endpoint", "batch", "aci")
        ),
        ("web apps", lambda: apps_of(search)),
        ("clusters", lambda: workspace_things.clusters_of(client)),
    ]
    if (has_cluster or knows_cluster)():
        finders.append(("endpoints on aks", lambda: endpoints_of("aks", search)))
    if search.models:
        finders.append(("models", lambda: workspace_things.models_of(client, search, place)))
    if search.data:
        finders.append(("data", lambda: workspace_things.data_of(client)))
    inventory = Inventory()
    for what, finder in finders:
        try:
            found = finder()
        except MlopsError as error:
            inventory.problems.append(f"{what}: {error.on_one_line()}")
            continue
        for thing in found:
            (inventory.things if search.wants(thing) else inventory.kept).append(thing)
    try:
        inventory.notes = workspace_things.idle_instances(client)
    except MlopsError as error:
        inventory.problems.append(f"compute instances: {error.on_one_line()}")
    inventory.things.sort(key=lambda thing: KINDS.index(thing.kind))
    return inventory


def remove(things: Sequence[MadeThing], say: Say) -> Removal:
    """Remove things one after the other. Ctrl-C stops, and the thing in progress counts as left."""
    result = Removal(left=list(things))
    for thing in things:
        say(f"removing {thing.title}")
        try:
            thing.remove()
        except KeyboardInterrupt:
            result.interrupted = True
            return result
        except MlopsError as error:
            result.failed.append((thing, error))
        else:
            result.removed.append(thing)
        result.left.remove(thing)
    return result


def knows_cluster() -> bool:
    """Return whether this machine has a kubeconfig."""
    given = os.environ.get("KUBECONFIG", "")
    return (
        any(Path(part).is_file() for part in given.split(os.pathsep) if part)
        or Path("~/.kube/config").expanduser().is_file()
    )
