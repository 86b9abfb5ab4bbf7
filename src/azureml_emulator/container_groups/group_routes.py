"""Azure Container Instances: container groups whose containers really run.

Difference from the service: all groups share one address, so each has its own port, which the response gives.
"""

from __future__ import annotations

import base64
import binascii
import copy
import re
import threading
import uuid
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.container_groups.container_process import ContainerProcess
from azureml_emulator.container_groups.registry_images import RegistryImages
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, reply, route

PROVIDER = "Microsoft.ContainerInstance/containerGroups"
_LIST = "/subscriptions/{subscription}/resourceGroups/{group}/providers/" + PROVIDER
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[a-z][a-z0-9-]{3,61}[a-z0-9]")
_FIXED = ("osType", "restartPolicy")
_CHANGING = ("Pending", "Updating")
_VOLUMES = ("azureFile", "emptyDir", "secret", "gitRepo")


class ContainerGroups:
    """The calls about container groups.

    Tests fill :attr:`images`, set :attr:`quota` and :attr:`taken_labels`, and read :attr:`sent`, the received bodies.
    """

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._lock = threading.RLock()
        self._running: dict[str, ContainerProcess] = {}
        self._secrets: dict[str, list[Json]] = {}
        self.clear()

    def clear(self) -> None:
        """Stop everything and forget it."""
        self.stop()
        self.images = RegistryImages(self._subscription.folder / "images")
        self.quota = 10
        self.taken_labels: set[str] = set()
        self.sent: list[Json] = []
        self._refusals: list[tuple[str, str]] = []

    def restore(self) -> None:
        """Start again what ran in an earlier process."""
        for item in self._subscription.store.below("/subscriptions"):
            if f"/{PROVIDER}/".lower() not in item.id.lower():
                continue
            self._secrets[item.id] = copy.deepcopy(item.properties.get("volumes") or [])
            state = item.properties["instanceView"]["state"]
            if item.properties["provisioningState"] != "Failed" and state in ("Running", "Pending"):
                if state == "Pending":  # it settles when somebody looks at it
                    item.properties["provisioningState"] = "Updating"
                self._run(item)

    def stop(self) -> None:
        """Stop all containers."""
        with self._lock:
            for container in self._running.values():
                container.stop()
            self._running.clear()

    def fail_next(self, code: str, message: str) -> None:
        """Accept the next change and then let it fail, as in a region without capacity."""
        self._refusals.append((code, message))

    def routes(self) -> list[Route]:
        """Return the paths."""
        one = _LIST + "/{name}"
        return [
            route(_LIST, GET=self._list),
            route(one, GET=self._get, PUT=self._put, PATCH=self._patch, DELETE=self._delete),
            route(one + "/start", POST=self._start),
            route(one + "/restart", POST=self._restart),
            route(one + "/stop", POST=self._stop),
            route(one + "/containers/{container}/logs", GET=self._logs),
        ]

    def _list(self, call: RestCall) -> Response:
        # A list does not contain the state of the containers.
        found = [self._shown(item) for item in self._subscription.store.children(call.path)]
        return reply(self._subscription.page_of(found, call))

    def _get(self, call: RestCall) -> Response:
        found = self._find(call.path)
        container = self._running.get(found.id.lower())
        if container is not None and container.is_up and found.properties["provisioningState"] in _CHANGING:
            self._settle(found)  # even if nobody polls the operation
        return reply(self._viewed(found))

    def _find(self, path: str) -> RestResource:
        found = self._subscription.store.find(path)
        if found is None:
            message = f"The Resource '{PROVIDER}/{path.rsplit('/', 1)[-1]}' under resource group 'rg' was not found."
            raise ServiceRefusalError(404, "ResourceNotFound", message)
        return found

    def _put(self, call: RestCall) -> Response:
        with self._lock:
            self.sent.append(copy.deepcopy(call.body))
            kept = self._subscription.store.find(call.path)
            self._check(call)
            self._check_quota(call, kept)
            if kept is not None:
                self._check_change(kept, call)
            made, new = self._subscription.store.put(call.path, call.body)
            made.properties["provisioningState"] = "Pending" if new else "Updating"
            made.properties["instanceView"] = {"events": [], "state": "Pending"}
            self._secrets[made.id] = copy.deepcopy(made.properties.get("volumes") or [])
            refusal = self._refusal(made)
            if refusal is None:
                self._run(made)
            finish = self._finisher(made, refusal)
            running = self._running.get(made.id.lower())
            until = (lambda: running.is_up) if running is not None and refusal is None else (lambda: True)
            return self._subscription.operations.start(finish, self._viewed(made), 201 if new else 200, until=until)

    def _finisher(self, made: RestResource, refusal: tuple[str, str] | None) -> Any:
        def finish() -> Json:
            if refusal is not None:
                made.properties["provisioningState"] = "Failed"
                raise ServiceRefusalError(409, *refusal)
            self._settle(made)
            return self._viewed(made)

        return finish

    @staticmethod
    def _settle(made: RestResource) -> None:
        made.properties["provisioningState"] = "Succeeded"
        made.properties["instanceView"]["state"] = "Running"

    def _refusal(self, made: RestResource) -> tuple[str, str] | None:
        label = (made.properties.get("ipAddress") or {}).get("dnsNameLabel")
        if label in self.taken_labels:
            message = f"The DNS name label '{label}' in container group '{made.name}' not available. Try using another."
            return "DnsNameLabelNotAvailable", message
        return self._refusals.pop(0) if self._refusals else None

    def _run(self, made: RestResource) -> None:
        before = self._running.pop(made.id.lower(), None)
        if before is not None:
            before.stop()
        pulling = (made.properties.get("imageRegistryCredentials") or [{}])[0].get("identity") or ""
        folder = self._subscription.folder / f"container-{uuid.uuid4().hex[:8]}"
        self._running[made.id.lower()] = ContainerProcess(
            made.properties["containers"][0],
            self._secrets[made.id],
            self.images,
            pulling,
            self._subscription.commands,
            folder,
        )

    def _check(self, call: RestCall) -> None:
        properties, name = call.properties, call.names["name"]
        if not _NAME.fullmatch(name) or "--" in name:
            raise ServiceRefusalError(
                400, "InvalidContainerGroupName", f"The container group name '{name}' is invalid."
            )
        containers = properties.get("containers") or []
        if not containers or not call.body.get("location") or not properties.get("osType"):
            raise ServiceRefusalError(400, "InvalidRequestContent", "location, osType and containers are required")
        open_ports = {item["port"] for item in (properties.get("ipAddress") or {}).get("ports", [])}
        for container in containers:
            if not (container["properties"].get("resources") or {}).get("requests"):
                raise ServiceRefusalError(
                    400, "ResourceRequestsNotSpecified", f"container {container['name']} has no requests"
                )
            if not open_ports <= {item["port"] for item in container["properties"].get("ports") or []}:
                raise ServiceRefusalError(
                    400, "MissingContainerPorts", "a port of the group is not a port of its container"
                )
        label = (properties.get("ipAddress") or {}).get("dnsNameLabel")
        if label is not None and not _LABEL.fullmatch(label):
            message = f"The DNS name label '{label}' in container group '{name}' is invalid."
            raise ServiceRefusalError(400, "InvalidDnsNameLabel", message)
        for volume in properties.get("volumes") or []:
            self._check_volume(volume)
        assigned = (call.body.get("identity") or {}).get("userAssignedIdentities") or {}
        for credential in properties.get("imageRegistryCredentials") or []:
            if credential.get("identity") and credential["identity"] not in assigned:
                raise ServiceRefusalError(
                    400, "InvalidImageRegistryCredential", "the identity does not belong to the group"
                )

    @staticmethod
    def _check_volume(volume: Json) -> None:
        if sum(volume.get(kind) is not None for kind in _VOLUMES) != 1:
            message = f"The volume '{volume.get('name')}' must have exactly one of {', '.join(_VOLUMES)}."
            raise ServiceRefusalError(400, "InvalidVolume", message)
        for value in (volume.get("secret") or {}).values():
            try:
                base64.b64decode(value, validate=True)
            except (binascii.Error, TypeError, ValueError) as error:
                raise ServiceRefusalError(400, "InvalidVolume", "the value of a secret is not base64") from error

    def _check_quota(self, call: RestCall, kept: RestResource | None) -> None:
        used = len(self._subscription.store.children(call.path.rsplit("/", 1)[0]))
        if kept is None and used >= self.quota:
            message = (
                f"Resource type '{PROVIDER}' container group quota 'ContainerGroups' exceeded in region"
                f" '{call.body['location']}'. Limit: '{self.quota}', Usage: '{used}' Requested: '1'."
            )
            raise ServiceRefusalError(409, "ContainerGroupQuotaReached", message)

    @staticmethod
    def _check_change(kept: RestResource, call: RestCall) -> None:
        if kept.properties["provisioningState"] not in ("Succeeded", "Failed"):
            message = f"The container group '{kept.name}' is still transitioning, please retry later."
            raise ServiceRefusalError(409, "ContainerGroupTransitioning", message)
        if kept.properties["instanceView"]["state"] in ("Failed", "Succeeded"):
            message = f"The container group '{kept.name}' has terminated: it cannot be updated."
            raise ServiceRefusalError(400, "InvalidContainerGroupUpdate", message)
        sizes = [
            {item["name"]: item["properties"]["resources"]["requests"] for item in properties["containers"]}
            for properties in (kept.properties, call.properties)
        ]
        fixed = [[properties.get(name) for name in _FIXED] for properties in (kept.properties, call.properties)]
        if sizes[0] != sizes[1] or fixed[0] != fixed[1]:
            message = (
                f"The updates on container group '{kept.name}' are invalid. If you are going to update the os type, restart"
                " policy, network profile, CPU, memory or GPU resources for a container group, you must delete it first and"
                " then create a new one."
            )
            raise ServiceRefusalError(400, "InvalidContainerGroupUpdate", message)

    def _patch(self, call: RestCall) -> Response:
        found = self._find(call.path)
        found.body["tags"] = call.body.get("tags") or {}
        return reply(self._viewed(found))

    def _delete(self, call: RestCall) -> Response:
        found = self._subscription.store.find(call.path)
        if found is None:
            return reply(None, 204)
        found.properties["provisioningState"] = "Deleting"

        def finish() -> None:
            with self._lock:
                container = self._running.pop(found.id.lower(), None)
                if container is not None:
                    container.stop()
                self._subscription.store.delete(found.id)

        return self._subscription.operations.start(finish)

    def _start(self, call: RestCall) -> Response:
        found = self._find(call.path.rsplit("/", 1)[0])
        with self._lock:
            self._run(found)
            found.properties["instanceView"]["state"] = "Running"
            running = self._running[found.id.lower()]
        return self._subscription.operations.start(lambda: None, until=lambda: running.is_up)

    def _restart(self, call: RestCall) -> Response:
        self._start(call)
        return reply(None, 204)

    def _stop(self, call: RestCall) -> Response:
        found = self._find(call.path.rsplit("/", 1)[0])
        with self._lock:
            container = self._running.pop(found.id.lower(), None)
            if container is not None:
                container.stop()
            found.properties["instanceView"]["state"] = "Stopped"
        return reply(None, 204)

    def _logs(self, call: RestCall) -> Response:
        found = self._find(call.path.split("/containers/")[0])
        container = self._running.get(found.id.lower())
        if container is None:
            raise ServiceRefusalError(404, "ContainerNotFound", f"Container '{call.names['container']}' is not running")
        lines = container.log().splitlines()
        return reply({"content": "\n".join(lines[-int(call.query.get("tail") or len(lines) or 1) :])})

    def _shown(self, made: RestResource) -> Json:
        """Return a group without its secrets and its state."""
        body = made.to_dict()
        body["properties"].pop("instanceView", None)
        for volume in body["properties"].get("volumes") or []:
            if "secret" in volume:
                volume["secret"] = {}
            (volume.get("azureFile") or {}).pop("storageAccountKey", None)
        for credential in body["properties"].get("imageRegistryCredentials") or []:
            credential.pop("password", None)
        ((body["properties"].get("diagnostics") or {}).get("logAnalytics") or {}).pop("workspaceKey", None)
        for container in body["properties"]["containers"]:
            for variable in container["properties"].get("environmentVariables") or []:
                variable.pop("secureValue", None)
        container, address = self._running.get(made.id.lower()), body["properties"].get("ipAddress")
        if container is not None and address:
            # It is given at the end of the change: all groups share one address, so each group has its own port.
            port = 0 if body["properties"]["provisioningState"] in _CHANGING else container.port
            address.update(ip="127.0.0.1", fqdn="localhost", ports=[{"protocol": "TCP", "port": port}] if port else [])
        return body

    def _viewed(self, made: RestResource) -> Json:
        """Return a group with its state."""
        body = self._shown(made)
        body["properties"]["instanceView"] = dict(made.properties["instanceView"])
        container = self._running.get(made.id.lower())
        if container is not None:
            body["properties"]["containers"][0]["properties"]["instanceView"] = container.view()
        return body
