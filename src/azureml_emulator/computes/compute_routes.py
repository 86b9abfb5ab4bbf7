"""Computes: clusters, compute instances and attached computes; and the machines and quota of the region."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.computes.compute_checks import (
    CLUSTER,
    INSTANCE,
    KINDS,
    check_free,
    check_idle_shutdown,
    check_name,
    check_quota,
    check_scale,
    cores_in_use,
    size_of,
)
from azureml_emulator.computes.compute_descriptions import completed, described, nodes, operated
from azureml_emulator.computes.instance_machines import InstanceMachines
from azureml_emulator.resources.arm_paths import LOCATION, WORKSPACE
from azureml_emulator.resources.rest_resources import RestResource, now
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.resources.vm_sizes import VM_SIZES
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, malformed, reply, route

_LOCATIONS = "/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{location}"
_PASSING = ("Creating", "Updating", "Deleting", "Starting", "Stopping", "Restarting")
# What may be changed on an existing instance.
_CHANGEABLE = ("schedules", "idleTimeBeforeShutdown", "applicationSharingPolicy", "customServices", "enableSSO")


class Computes:
    """The calls about computes, and the machines of instances.

    Args:
        subscription: Keeps them.
        busy: Returns the names of the jobs that run on the compute at a path.
    """

    def __init__(self, subscription: Subscription, busy: Callable[[str], Sequence[str]]) -> None:
        self._subscription = subscription
        self._busy = busy
        self.machines = InstanceMachines(lambda: subscription.folder, subscription.commands, self._is_pullable)

    def routes(self) -> list[Route]:
        """Return the paths."""
        before, one = self._subscription.require_workspace, WORKSPACE + "/computes/{name}"
        return [
            route(WORKSPACE + "/computes", before, GET=self._list),
            route(one, before, GET=self._get, PUT=self._put, PATCH=self._patch, DELETE=self._delete),
            route(one + "/start", before, POST=self._start),
            route(one + "/stop", before, POST=self._stop),
            route(one + "/restart", before, POST=self._restart),
            route(one + "/listNodes", before, POST=self._list_nodes),
            route(one + "/updateIdleShutdownSetting", before, POST=self._set_idle_shutdown),
            route(one + "/enableSso", before, POST=self._enable_sso),
            route(_LOCATIONS + "/usages", GET=self._usages),
            route(_LOCATIONS + "/vmSizes", GET=self._sizes),
        ]

    def restore(self) -> None:
        """Turn on the machines of the running instances, after the emulator itself was restarted."""
        for compute in self._all():
            if (compute.properties.get("properties") or {}).get("state") == "Running":
                self.machines.turn_on(compute)

    def stop(self) -> None:
        """End all machines."""
        self.machines.stop()

    def describe(self, compute: RestResource) -> Json:
        """Return a compute as the service does."""
        address = self.machines.docker_host(compute)
        services = [{"displayName": "Docker", "endpointUri": address}] if address else []
        return described(compute, self._busy(compute.id), services)

    def _is_pullable(self, image: str) -> bool:
        images = self._subscription.limits.images
        return images is None or image in images

    def _all(self) -> list[RestResource]:
        """Return the computes of all workspaces: they share the region's names and quota."""
        found = self._subscription.store.below(f"{self._subscription.scope()}/workspaces")
        return [item for item in found if item.id.split("/")[-2].lower() == "computes"]

    def _find(self, path: str) -> RestResource:
        found = self._subscription.store.find(path)
        if found is None:
            name = path.rsplit("/", 1)[-1]
            raise ServiceRefusalError(404, "ResourceNotFound", f"Compute '{name}' was not found in the workspace.")
        return found

    def _list(self, call: RestCall) -> Response:
        found = [self.describe(item) for item in self._subscription.store.children(call.path)]
        return reply(self._subscription.page_of(found, call))

    def _get(self, call: RestCall) -> Response:
        return reply(self.describe(self._find(call.path)))

    def _put(self, call: RestCall) -> Response:
        kind, name = call.properties.get("computeType"), call.names["name"]
        if kind not in KINDS:
            raise malformed(f"computeType {kind!r} is not one of {', '.join(KINDS)}")
        kept = self._subscription.store.find(call.path)
        settings: Json = call.properties.get("properties") or {}
        others = [item for item in self._all() if item is not kept]
        if kept is None:
            check_name(kind, name)
        else:
            self._check_change(kept, kind, settings)
        if kind == CLUSTER:
            check_scale(settings)
        if kind == INSTANCE:
            check_free(name, others, self._subscription.limits)
            if settings.get("idleTimeBeforeShutdown"):
                check_idle_shutdown(str(settings["idleTimeBeforeShutdown"]))
        if kind in (CLUSTER, INSTANCE):
            check_quota(kind, settings, others, self._subscription.limits)
        if kept is not None:
            return self._change(kept, call.body)
        made, _ = self._subscription.store.put(call.path, completed(call.body, "Creating"))
        return self._make(made)

    def _check_change(self, kept: RestResource, kind: str, settings: Json) -> None:
        """Refuse to turn an existing compute into a different one."""
        self._check_idle(kept)
        if kept.properties["computeType"] != kind:
            raise malformed(f"The compute '{kept.name}' is of the type {kept.properties['computeType']}, not {kind}.")
        own: Json = kept.properties.get("properties") or {}
        if kind not in (CLUSTER, INSTANCE):
            return
        if size_of(own) != size_of(settings):
            raise malformed(
                f"The vmSize of the compute '{kept.name}' cannot be changed: delete it and create it again."
            )

    def _make(self, made: RestResource) -> Response:
        """Create a new compute as a long-running operation."""
        instance = made.properties["computeType"] == INSTANCE
        if instance:
            return self._pass(made, "Create", "Creating", "Running", lambda: self.machines.turn_on(made), status=201)

        def finish() -> Json:
            made.properties["provisioningState"] = "Succeeded"
            return self.describe(made)

        return self._subscription.operations.start(finish, self.describe(made), 201)

    def _change(self, kept: RestResource, body: Json) -> Response:
        """Apply the settings that may be changed."""
        own: Json = kept.properties["properties"]
        given: Json = body["properties"].get("properties") or {}
        instance = kept.properties["computeType"] == INSTANCE
        for key, value in given.items():
            if value is not None and (key in _CHANGEABLE or not instance):
                own[key] = value
        for key in ("tags", "identity"):
            if body.get(key) is not None:
                kept.body[key] = body[key]
        if body["properties"].get("description") is not None:
            kept.properties["description"] = body["properties"]["description"]
        kept.properties.update(provisioningState="Updating", modifiedOn=now())

        def finish() -> Json:
            kept.properties["provisioningState"] = "Succeeded"
            return self.describe(kept)

        return self._subscription.operations.start(finish, self.describe(kept), 200)

    def _patch(self, call: RestCall) -> Response:
        """Return only the scale settings of a cluster."""
        kept = self._need(call.path, CLUSTER, "Update")
        self._check_idle(kept)
        given: Json = (call.properties.get("properties") or {}).get("scaleSettings") or {}
        scale = {**kept.properties["properties"]["scaleSettings"], **given}
        settings = {**kept.properties["properties"], "scaleSettings": scale}
        check_scale(settings)
        check_quota(CLUSTER, settings, [item for item in self._all() if item is not kept], self._subscription.limits)
        return self._change(kept, {"properties": {"properties": {"scaleSettings": scale}}})

    def _delete(self, call: RestCall) -> Response:
        action = call.query.get("underlyingResourceAction", "Delete")
        if action not in ("Delete", "Detach"):
            raise malformed(f"underlyingResourceAction {action!r} is neither Delete nor Detach")
        found = self._find(call.path)
        if action == "Detach" and not found.properties["isAttachedCompute"]:
            raise malformed(f"The compute '{found.name}' was not attached, so it cannot be detached: delete it.")
        if found.properties["provisioningState"] == "Deleting":
            self._check_idle(found)
        found.properties["provisioningState"] = "Deleting"
        if found.properties["computeType"] == INSTANCE:
            found.properties["properties"].update(state="Deleting", lastOperation=operated("Delete", "InProgress"))
        worker = threading.Thread(target=self.machines.discard, args=(found,), daemon=True)
        worker.start()

        def finish() -> None:
            self._subscription.store.delete(call.path)

        return self._subscription.operations.start(finish, until=lambda: not worker.is_alive())

    def _start(self, call: RestCall) -> Response:
        found = self._need(call.path.rsplit("/", 1)[0], INSTANCE, "Start")
        if found.properties["properties"]["state"] != "Stopped":
            message = (
                f"Start Azure ML Compute Instance is only allowed when the instance {found.name} is in 'stopped' state"
            )
            raise ServiceRefusalError(400, "StartComputeInstanceOnlyAllowedInStoppedState", message)
        return self._pass(found, "Start", "Starting", "Running", lambda: self.machines.turn_on(found))

    def _stop(self, call: RestCall) -> Response:
        found = self._need(call.path.rsplit("/", 1)[0], INSTANCE, "Stop")
        self._check_idle(found)
        return self._pass(found, "Stop", "Stopping", "Stopped", lambda: self.machines.turn_off(found))

    def _restart(self, call: RestCall) -> Response:
        found = self._need(call.path.rsplit("/", 1)[0], INSTANCE, "Restart")
        self._check_idle(found)

        def work() -> None:
            self.machines.turn_off(found)
            self.machines.turn_on(found)

        return self._pass(found, "Restart", "Restarting", "Running", work)

    def _pass(
        self,
        instance: RestResource,
        operation: str,
        passing: str,
        then: str,
        work: Callable[[], None],
        status: int = 202,
    ) -> Response:
        """Bring an instance into another state as a long-running operation."""
        own: Json = instance.properties["properties"]
        own.update(state=passing, lastOperation=operated(operation, "InProgress"))
        worker = threading.Thread(target=work, daemon=True)
        worker.start()

        def finish() -> Json:
            own.update(state=then, lastOperation=operated(operation))
            instance.properties["provisioningState"] = "Succeeded"
            return self.describe(instance)

        body = self.describe(instance) if status == 201 else None
        return self._subscription.operations.start(finish, body, status, until=lambda: not worker.is_alive())

    def _need(self, path: str, kind: str, operation: str) -> RestResource:
        """Return a compute of a kind. Raises ServiceRefusalError: 404; 400, it is of another kind."""
        found = self._find(path)
        given = found.properties["computeType"]
        if given != kind:
            raise malformed(f"Compute{operation} with computeType {given} is not supported.")
        return found

    @staticmethod
    def _check_idle(compute: RestResource) -> None:
        """Refuse to change a compute that is being changed."""
        own: Json = compute.properties.get("properties") or {}
        for state in (compute.properties["provisioningState"], own.get("state")):
            if state in _PASSING:
                message = f"The compute '{compute.name}' is {state}. Wait until that has ended"
                raise ServiceRefusalError(409, "Conflict", message)

    def _list_nodes(self, call: RestCall) -> Response:
        found = self._need(call.path.rsplit("/", 1)[0], CLUSTER, "ListNodes")
        return reply({"nodes": nodes(found, self._busy(found.id))})

    def _set_idle_shutdown(self, call: RestCall) -> Response:
        found = self._need(call.path.rsplit("/", 1)[0], INSTANCE, "UpdateIdleShutdownSetting")
        wanted = call.body.get("idleTimeBeforeShutdown")
        if wanted is not None:
            check_idle_shutdown(str(wanted))
        found.properties["properties"]["idleTimeBeforeShutdown"] = wanted
        return reply()

    def _enable_sso(self, call: RestCall) -> Response:
        found = self._need(call.path.rsplit("/", 1)[0], INSTANCE, "EnableSso")
        found.properties["properties"]["enableSSO"] = bool(call.body.get("enableSSO"))
        return reply()

    def _usages(self, call: RestCall) -> Response:
        self._check_location(call)
        scope = f"/subscriptions/{call.names['subscription']}/usages"
        kind = "Microsoft.MachineLearningServices"
        computes, quota = self._all(), self._subscription.limits.family_cores
        families = dict.fromkeys(size.family for size in VM_SIZES.values())
        clusters = sum(item.properties["computeType"] == CLUSTER for item in computes)
        total = "Total Cluster Dedicated Regional vCPUs"
        rows = [
            _usage(scope, f"{kind}/totalCores/usages", "Clusters", clusters, 200),
            _usage(scope, f"{kind}/dedicatedCores/usages", total, cores_in_use(computes), quota * len(families)),
        ]
        for family in families:
            name = f"Standard {family} Family Cluster Dedicated vCPUs"
            path = f"{scope}/{name.replace(' ', '_')}"
            rows.append(_usage(path, f"{kind}/vmFamily/usages", name, cores_in_use(computes, family), quota))
        return reply({"value": rows})

    def _sizes(self, call: RestCall) -> Response:
        self._check_location(call)
        rows = [
            {
                "name": size.name,
                "family": size.family_id,
                "vCPUs": size.cores,
                "gpus": size.gpus,
                "osVhdSizeMB": 1047552,
                "maxResourceVolumeMB": round(size.memory_gb * 2048),
                "memoryGB": size.memory_gb,
                "lowPriorityCapable": True,
                "premiumIO": True,
                "estimatedVMPrices": {"billingCurrency": "USD", "unitOfMeasure": "OneHour", "values": []},
                "supportedComputeTypes": [CLUSTER, INSTANCE, "MIR"],
            }
            for size in VM_SIZES.values()
        ]
        return reply({"value": rows})

    @staticmethod
    def _check_location(call: RestCall) -> None:
        """Refuse any region but the emulated one. Raises ServiceRefusalError: 400."""
        location = call.names["location"]
        if location.lower().replace(" ", "") != LOCATION:
            message = f"No registered resource provider found for location '{location}': only {LOCATION} is emulated."
            raise ServiceRefusalError(400, "NoRegisteredProviderFound", message)


def _usage(path: str, kind: str, name: str, used: int, limit: int) -> Json:
    names = {"value": name, "localizedValue": name}
    return {"id": path, "type": kind, "unit": "Count", "currentValue": used, "limit": limit, "name": names}
