"""The target ``local``: endpoints on this machine, each a router on a stable port in front of scoring servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vision_mlops.core.errors import DeploymentError, require
from vision_mlops.endpoints.contract import (
    Access,
    Counts,
    DeploymentRequest,
    Endpoint,
    Say,
    Target,
    check_traffic,
    silent,
)
from vision_mlops.endpoints.local.local_endpoint import TIMEOUT_SECONDS, LocalEndpoint, endpoint_names, wait
from vision_mlops.endpoints.local.router.counters import counts_from, read_counters
from vision_mlops.endpoints.local.router.endpoint_state import EndpointState, remove_files, write_state
from vision_mlops.endpoints.local.router.log_files import log_path, remove_log, tail
from vision_mlops.endpoints.local.router.traffic_shares import as_percent


def open_target() -> Target:
    """Return the target; nothing is read or started before it is used."""
    return LocalTarget()


class LocalTarget(Target):
    """Endpoints below the home folder."""

    name = "local"
    splits_traffic = True
    mirrors_at_most = 100
    options = frozenset({"port", "workers", "environment", "timeout_s"})

    def deploy(self, request: DeploymentRequest, say: Say) -> Endpoint:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        require("httptools", "prometheus_client", "openvino")
        endpoint = LocalEndpoint(request.endpoint)
        endpoint.deploy(request, say)
        return endpoint.describe()

    # Looking

    def endpoints(self) -> list[Endpoint]:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        return [self.endpoint(name) for name in endpoint_names()]

    def endpoint(self, name: str) -> Endpoint:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        return LocalEndpoint(name).describe()

    def access(self, name: str) -> Access:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        return Access(f"http://127.0.0.1:{LocalEndpoint(name).state().port}/score")

    def logs(self, name: str, deployment: str, lines: int) -> str:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        endpoint = LocalEndpoint(name)
        endpoint.describe().deployment(deployment)
        return tail(log_path(endpoint.folder, deployment), lines)

    def counts(self, name: str) -> Mapping[str, Counts] | None:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        endpoint = LocalEndpoint(name)
        state = endpoint.state()
        if not endpoint.is_running():
            return {
                key: counters.counts() for key, counters in read_counters(endpoint.folder).items() if state.spec(key)
            }
        return {key: counts_from(item) for key, item in endpoint.ask("counts").items()}

    # Changing

    def set_traffic(self, name: str, traffic: Mapping[str, int], mirror: Mapping[str, int]) -> Endpoint:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        endpoint = LocalEndpoint(name)
        check_traffic(endpoint.describe(), traffic, mirror)
        endpoint.ask("traffic", traffic=as_percent(traffic), mirror=as_percent(mirror))
        return endpoint.describe()

    def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        endpoint = LocalEndpoint(name)
        endpoint.state()
        with endpoint.hold(silent):
            if endpoint.is_running():
                endpoint.ask("tags", tags=dict(tags))
            else:
                write_state(endpoint.folder, replace(endpoint.state(), tags=dict(tags)))

    def keys(self, name: str) -> Mapping[str, str]:
        """Refuse: an endpoint on this machine has no keys."""
        LocalEndpoint(name).state()
        raise DeploymentError(
            f"endpoint {name!r} has no keys: it is only reachable from this machine, on 127.0.0.1", "send no key"
        )

    def delete_deployment(self, name: str, deployment: str) -> None:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        endpoint = LocalEndpoint(name)
        found = endpoint.describe().deployment(deployment)
        if found.traffic:
            raise DeploymentError(
                f"{deployment} has {found.traffic}% of the traffic", f"first: mlops endpoint traffic {name} OTHER=100"
            )
        with endpoint.hold(silent):
            state = endpoint.state()
            if not endpoint.is_running():
                write_state(endpoint.folder, state.without_deployment(deployment))
                remove_log(log_path(endpoint.folder, deployment))
                return
            endpoint.ask("delete", deployment=deployment)
            wait(lambda: not endpoint.ask("status")["leaving"], TIMEOUT_SECONDS)

    def delete(self, name: str) -> None:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        endpoint = LocalEndpoint(name)
        if not endpoint.exists:
            endpoint.state()  # which raises: the endpoint does not exist
        with endpoint.hold(silent):
            try:
                state: EndpointState | None = endpoint.state()
            except DeploymentError:
                state = None  # it cannot be read: the router is ended by its process id
            endpoint.end(state.port if state is not None else None)
            remove_files(endpoint.folder)
