"""Which version of which route the SDKs send: their requests are caught before they leave."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from azure.core.pipeline.transport import HttpTransport

from azureml_emulator.identity.loopback_tokens import LoopbackCredential
from azureml_emulator.loopback import loopback_client
from azureml_emulator.rest.cloud_addresses import CloudAddresses


class _CaughtError(Exception):
    """The request has been seen, and goes nowhere."""


class _Net(HttpTransport[Any, Any]):
    """Keeps requests instead of sending them."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], str] = {}

    def send(self, request: Any, **options: Any) -> Any:
        address = urlsplit(request.url)
        self.seen[request.method, address.path] = parse_qs(address.query)["api-version"][0]
        raise _CaughtError

    def open(self) -> None: ...

    def close(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def sdk_versions() -> dict[tuple[str, str], str]:
    """Version by method and path, with ``*`` for names."""
    net = _Net()
    for call in (*_machine_learning(net), *_others(net)):
        try:
            found = call()
            list(found) if hasattr(found, "__next__") else None
        except _CaughtError:
            continue
    return {(method, _shape(path)): version for (method, path), version in net.seen.items()}


def _machine_learning(net: _Net) -> list[Callable[[], Any]]:
    url = "https://nowhere.invalid"
    place = SimpleNamespace(
        url=url, addresses=CloudAddresses.loopback(url), subscription="0", group="rg", workspace="ws", registry="shared"
    )
    client: Any = loopback_client(place, LoopbackCredential(), transport=net, retry_total=0)  # type: ignore[arg-type]
    calls: list[Callable[[], Any]] = []
    for part in ("data", "models", "environments", "components"):
        operations = getattr(client, part)
        calls += [partial(operations.get, "n", "1"), operations.list, partial(operations.list, "n")]
    for part in (
        "workspaces",
        "datastores",
        "compute",
        "jobs",
        "online_endpoints",
        "batch_endpoints",
        "schedules",
        "registries",
    ):
        operations = getattr(client, part)
        calls += [partial(operations.get, "n"), operations.list]
        delete = getattr(operations, "begin_delete", None) or getattr(operations, "delete", None)
        if delete is not None and part not in ("workspaces", "registries"):
            calls.append(partial(delete, "n"))
    return [
        *calls,
        lambda: client._code.get("n", "1"),
        lambda: client.jobs.begin_cancel("n"),
        lambda: client.schedules.trigger("n"),
        lambda: client.compute.list_usage(location="westeurope"),
        lambda: client.compute.list_sizes(location="westeurope"),
        lambda: client.compute.list_nodes("n"),
        *(partial(getattr(client.compute, f"begin_{verb}"), "n") for verb in ("start", "stop", "restart")),
        lambda: client.online_deployments.get("d", "e"),
        lambda: client.online_deployments.list("e"),
        lambda: client.online_deployments.get_logs("d", "e", 10),
        lambda: client.online_deployments.begin_delete("d", "e"),
        lambda: client.batch_deployments.get("d", "e"),
        lambda: client.batch_deployments.list("e"),
        lambda: client.batch_deployments.begin_delete("d", "e"),
    ]


def _others(net: _Net) -> list[Callable[[], Any]]:
    from azure.mgmt.containerinstance import ContainerInstanceManagementClient
    from azure.mgmt.web import WebSiteManagementClient

    options: Any = {"base_url": "https://nowhere.invalid", "transport": net, "retry_total": 0}
    groups: Any = ContainerInstanceManagementClient(LoopbackCredential(), "0", **options)
    web: Any = WebSiteManagementClient(LoopbackCredential(), "0", **options)
    return [
        lambda: groups.container_groups.get("rg", "n"),
        lambda: groups.container_groups.begin_delete("rg", "n"),
        lambda: groups.container_groups.begin_restart("rg", "n"),
        lambda: web.web_apps.get("rg", "n"),
        lambda: web.web_apps.get_slot("rg", "n", "s"),
        lambda: web.web_apps.get_configuration("rg", "n"),
        lambda: web.app_service_plans.get("rg", "n"),
    ]


def _shape(path: str) -> str:
    parts = path.strip("/").split("/")
    return "/".join(
        part if number % 2 == 0 or part.startswith("Microsoft.") else "*" for number, part in enumerate(parts)
    )
