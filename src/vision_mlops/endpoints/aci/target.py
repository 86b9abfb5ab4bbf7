"""Endpoints on Azure Container Instances: one container group each, changed in place, with keys in a key vault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from vision_mlops.azure.clients import vault_client
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import DeploymentError, MlopsError
from vision_mlops.endpoints.aci.container_groups import Groups
from vision_mlops.endpoints.aci.group_changes import Changes, Expected
from vision_mlops.endpoints.aci.group_definition import (
    Facts,
    GroupSpec,
    again,
    definition,
    facts,
    other_tags,
    wanted,
    with_tags,
)
from vision_mlops.endpoints.aci.group_state import base_url, is_over, started_at, view_of
from vision_mlops.endpoints.aci.key_vault import EndpointKeys, KeyStore
from vision_mlops.endpoints.contract import (
    Access,
    Deployment,
    DeploymentRequest,
    Endpoint,
    EndpointStatus,
    Say,
    Target,
    silent,
)
from vision_mlops.serving import server_health

if TYPE_CHECKING:
    from azure.mgmt.containerinstance.models import ContainerGroup

_READY_SECONDS = 900.0
_STARTING = timedelta(seconds=90)
"""How long a container may take to start before it counts as failed."""


def open_target() -> ContainerInstances:
    """Return the target; nothing is read or sent before it is used."""
    return ContainerInstances()


class ContainerInstances(Target):
    """The target ``aci``."""

    name = "aci"
    options = frozenset({"image", "workers", "cpu", "memory_gb", "dns_label", "environment", "timeout_s"})

    def deploy(self, request: DeploymentRequest, say: Say) -> Endpoint:
        """Create the group, or change it in place, and wait until its server is ready."""
        name = request.endpoint
        if "--" in name:
            raise DeploymentError(f"{name!r} cannot be the name of a container group", "do not use '--' in --endpoint")
        store, former = self._store, self._groups.find(name)
        made_for = facts(former) if former is not None else None
        if former is not None and made_for is None:
            raise DeploymentError(
                f"the container group {name!r} exists and was not created by mlops", "choose another --endpoint"
            )
        group = wanted(request, self._settings, former)
        expected = Expected(request.model.reference, group.bundle_id, request.options.timeout_s or _READY_SECONDS)
        if former is None or made_for is None:
            self._make(group, expected, say)
        else:
            self._change(group, expected, former, made_for, store.ensure(name), say)
        return self.endpoint(name)

    def endpoints(self) -> list[Endpoint]:
        """Return all groups of the resource group that mlops created."""
        found = [self._groups.find(name) for name in self._groups.made()]
        return [self._endpoint(group) for group in found if group is not None]

    def endpoint(self, name: str) -> Endpoint:
        """One group; asks its server whether it is ready."""
        return self._endpoint(self._groups.get(name))

    def access(self, name: str) -> Access:
        """Return the address and primary key."""
        group = self._groups.get(name)
        address = base_url(group)
        if not address:
            raise DeploymentError(f"endpoint {name!r} has no address: {view_of(group).problem}", "mlops endpoint show")
        return Access(f"{address}/score", {"Authorization": f"Bearer {self._store.read(name).values['primary']}"})

    def logs(self, name: str, deployment: str, lines: int) -> str:
        """Return what the container has written since its last start."""
        self._endpoint(self._groups.get(name), asking=False).deployment(deployment)
        return self._groups.logs(name, lines)

    def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """Replace the tags; the container keeps running."""
        self._groups.set_tags(name, with_tags(self._groups.get(name), tags))

    def keys(self, name: str) -> Mapping[str, str]:
        """Return both keys, from the vault."""
        self._groups.get(name)
        return self._store.read(name).values

    def rotate_key(self, name: str, which: str) -> None:
        """Replace one key and pass it to the container, which the service restarts. If that fails, the old key is kept."""
        former = self._groups.get(name)
        if view_of(former).state is not EndpointStatus.READY:
            raise DeploymentError(
                f"endpoint {name!r} is {self.endpoint(name).state}", f"mlops endpoint show {name} --on aci"
            )
        store, made_for = self._store, _facts(former)
        old = store.read(name)
        new = store.renew(name, which)
        expected = Expected(f"a new {which} key", made_for.bundle, _READY_SECONDS)
        try:
            self._changes(silent).update(name, again(former, new), expected, former, again(former, old))
        except MlopsError as error:
            self._take_back(name, which, old, error)
            raise

    def delete(self, name: str) -> None:
        """Remove the group, then its keys."""
        self._groups.get(name)
        store = self._store
        self._groups.delete(name)
        try:
            store.delete(name)
        except MlopsError as error:
            raise DeploymentError(
                f"endpoint {name!r} has been deleted, but its keys have not: {error.message}", error.hint
            ) from error

    @cached_property
    def _settings(self) -> AzureSettings:
        return AzureSettings.load()

    @cached_property
    def _groups(self) -> Groups:
        return Groups(self._settings)

    @cached_property
    def _store(self) -> KeyStore:
        return KeyStore(vault_client(self._settings))

    def _changes(self, say: Say) -> Changes:
        return Changes(self._groups, say)

    def _make(self, group: GroupSpec, expected: Expected, say: Say) -> None:
        name, had_keys = group.endpoint, self._store.exist(group.endpoint)
        try:
            self._changes(say).make(name, definition(group, self._store.ensure(name), {}), expected)
        except MlopsError as error:
            if had_keys:
                raise
            try:
                self._store.delete(name)
            except MlopsError as second:
                message = f"{error.message}\n  its new keys could not be deleted: {second.message}"
                raise DeploymentError(message, error.hint) from error
            raise

    def _change(
        self,
        group: GroupSpec,
        expected: Expected,
        former: ContainerGroup,
        made_for: Facts,
        keys: EndpointKeys,
        say: Say,
    ) -> None:
        name, changes = group.endpoint, self._changes(say)
        view = view_of(former)
        new = definition(group, keys, other_tags(former))
        new.location = former.location
        if is_over(former):
            say(f"{name}: its containers have ended for good; creating it again")
            self._groups.delete(name)
            changes.make(name, new, expected)
            return
        same = (made_for.digest, made_for.keys) == (group.digest, keys.stamp)
        if view.state is EndpointStatus.STOPPED:
            if not same:
                hint = f"deploy {made_for.model}:{made_for.version} unchanged, which starts it, or delete the endpoint"
                raise DeploymentError(f"endpoint {name!r} is stopped", hint)
            changes.wait(name, self._groups.start(name), expected, view)
        elif not same or view.final:
            changes.update(name, new, expected, former, again(former, keys))
        else:  # it is in this state already, or about to be
            changes.wait(name, None, expected)

    def _take_back(self, name: str, which: str, old: EndpointKeys, error: MlopsError) -> None:
        """Put the former key, which the container still has, back into the vault. Raises DeploymentError if that fails."""
        try:
            kept = self._store.put_back(name, which, old)
            # The tag names the versions of the secrets in the container; if they differ, a deployment passes them again.
            self._groups.set_tags(name, again(self._groups.get(name), kept).tags or {})
        except MlopsError as second:
            raise DeploymentError(
                f"{error.message}; and the former {which} key could not be put back into the vault: {second.message}",
                f"mlops endpoint keys {name} --rotate {which} --on aci, once that is fixed",
            ) from error

    def _endpoint(self, group: ContainerGroup, *, asking: bool = True) -> Endpoint:
        made_for, view, address = _facts(group), view_of(group), base_url(group)
        state, problem = view.state, f"{view.problem}\n  -> {view.hint}" if view.hint else view.problem
        if asking and state is EndpointStatus.READY:
            found = server_health.ask(address)
            if not found.ready:
                just_started = datetime.now(UTC) - started_at(group) < _STARTING
                state, problem = EndpointStatus.CHANGING if just_started else EndpointStatus.FAILED, found.problem
        deployment = Deployment(made_for.deployment, made_for.model, made_for.version, state, traffic=100)
        requests = group.containers[0].resources.requests
        machine = f"{requests.cpu:g} CPU, {requests.memory_in_gb:g} GB"
        return Endpoint(
            str(group.name),
            self.name,
            state,
            f"{address}/score" if address else "",
            "key",
            (replace(deployment, problem=problem, machine=machine),),
            tags=other_tags(group),
        )


def _facts(group: ContainerGroup) -> Facts:
    found = facts(group)
    if found is None:
        raise DeploymentError(f"no endpoint {group.name!r} exists on aci", "mlops endpoint list --on aci")
    return found
