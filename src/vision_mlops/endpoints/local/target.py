"""The target ``local``: endpoints on this machine, each a router on a stable port in front of scoring servers.

    MLOPS_HOME/endpoints/NAME/   local.json, router.log, logs/DEPLOYMENT.log, counts.json, router.key

The router alone writes there while it runs; it holds a lock, so who runs and who does not is never guessed.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vision_mlops.core import paths
from vision_mlops.core.errors import DeploymentError, MissingExtraError
from vision_mlops.endpoints.contract import (
    Access,
    Counts,
    Deployment,
    DeploymentRequest,
    Endpoint,
    EndpointStatus,
    Say,
    Target,
    check_traffic,
)
from vision_mlops.endpoints.local import router_client as router
from vision_mlops.endpoints.local.router.counters import counts_from, read_tallies
from vision_mlops.endpoints.local.router.endpoint_state import (
    FILE,
    DeploymentSpec,
    EndpointState,
    read_pid,
    read_state,
    remove_files,
    write_state,
)
from vision_mlops.endpoints.local.router.log_files import former_log, log_path, tail
from vision_mlops.endpoints.local.router.traffic_shares import as_percent

_TIMEOUT_SECONDS = 120.0
_POLL_SECONDS = 0.05
_STOPPED = "its router does not run; `mlops deploy` with the same model brings it back"


def open_target() -> Target:
    """The target; nothing is read or started before it is used."""
    return LocalTarget()


class LocalTarget:
    """Endpoints below the home folder."""

    name = "local"
    splits_traffic = True
    mirrors_at_most = 100
    options = frozenset({"port", "workers", "environment", "timeout_s"})

    # Making

    def deploy(self, request: DeploymentRequest, say: Say) -> Endpoint:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        options = request.options
        for package in ("httptools", "prometheus_client", "openvino"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, "serve")
        folder = _folder(request.endpoint)
        spec = _spec(request)
        timeout = options.timeout_s or _TIMEOUT_SECONDS
        port: int | None = None
        with router.hold(folder, say, timeout):
            try:
                port = self._running(folder, options.port, say)
                self._make(folder, port, spec, timeout, say)
            finally:
                if not (folder / FILE).is_file():  # it was to be the first deployment: nothing is left of it
                    router.end(folder, port)
                    remove_files(folder)
        return self.endpoint(request.endpoint)

    def _running(self, folder: Path, port: int | None, say: Say) -> int:
        """The port of the endpoint, whose router is started where it does not run."""
        state = read_state(folder)
        if state is not None and router.is_running(folder):
            if port is not None and port not in (0, state.port):
                raise DeploymentError(
                    f"--port {port}: endpoint {folder.name!r} has port {state.port}",
                    "leave --port out, or delete it first",
                )
            return state.port
        if state is not None:
            say(f"starting endpoint {folder.name!r} again, with {len(state.deployments)} deployment(s)")
        return router.start(folder, router.ANY_PORT if port is None or (state and not port) else port)

    def _make(self, folder: Path, port: int, spec: DeploymentSpec, timeout: float, say: Say) -> None:
        state = read_state(folder)
        present = state.spec(spec.name) if state is not None else None
        if present is not None:
            spec = _with_former(spec, present)
        made = False
        try:
            made = self._wait(folder, port, spec, timeout, say)
        finally:
            if not made:
                _withdraw(folder, port, spec.name)
        self._wait_for_others(folder, port, timeout)

    def _wait(self, folder: Path, port: int, spec: DeploymentSpec, timeout: float, say: Say) -> bool:
        deadline = time.monotonic() + timeout
        begun = time.monotonic()
        told: dict[str, Any] = router.ask(folder, port, "deploy", spec=asdict(spec), begin=True)
        if told["known"] and told["state"] == EndpointStatus.READY:
            say(f"{spec.name} ({spec.model}:{spec.version}) is there already: nothing changes")
            return True
        while told["state"] == EndpointStatus.CHANGING:
            if time.monotonic() > deadline:
                told |= {"problem": f"not ready within {timeout:.0f} s: {told['problem']}"}
                break
            time.sleep(_POLL_SECONDS)
            told = router.ask(folder, port, "deploy", spec=asdict(spec))
        if told["state"] == EndpointStatus.READY:
            say(f"{spec.name} ({spec.model}:{spec.version}) is ready after {time.monotonic() - begun:.1f} s")
            return True
        log = told.get("log") or tail(log_path(folder, spec.name), 10)
        raise DeploymentError(
            f"deployment {spec.name!r} did not become ready: {told['problem']}\n{log}".rstrip(),
            "mend the cause, and deploy again",
        )

    def _wait_for_others(self, folder: Path, port: int, timeout: float) -> None:
        """After a new start, wait until the other deployments with traffic are ready or have failed."""

        def settled() -> bool:
            rows = router.ask(folder, port, "status")["deployments"]
            return not any(row["traffic"] and row["state"] == EndpointStatus.CHANGING for row in rows)

        router.wait(settled, timeout)

    # Looking

    def endpoints(self) -> list[Endpoint]:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        return [self.endpoint(path.parent.name) for path in sorted(_root().glob(f"*/{FILE}"))]

    def endpoint(self, name: str) -> Endpoint:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        folder = _folder(name)
        try:
            state = _state(folder)
        except DeploymentError as error:
            if not (folder / FILE).is_file():
                raise
            return Endpoint(name, self.name, EndpointStatus.FAILED, auth="none", problem=str(error))
        url = f"http://127.0.0.1:{state.port}/score"
        if not router.is_running(folder):
            return _at_rest(state, url, EndpointStatus.STOPPED, _STOPPED)
        try:
            told = router.ask(folder, state.port, "status")
        except DeploymentError as error:
            if not router.is_running(folder):
                return _at_rest(state, url, EndpointStatus.STOPPED, _STOPPED)
            return _at_rest(state, url, EndpointStatus.FAILED, f"{error.message} (process {read_pid(folder)})")
        deployments = tuple(
            Deployment(
                row["name"], row["model"], row["version"], EndpointStatus(row["state"]), row["traffic"], row["mirror"],
                problem=row["problem"],
            )
            for row in told["deployments"]
        )  # fmt: skip
        return Endpoint(name, self.name, _overall(deployments), url, "none", deployments, tags=told["tags"])

    def access(self, name: str) -> Access:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        return Access(f"http://127.0.0.1:{_state(_folder(name)).port}/score")

    def logs(self, name: str, deployment: str, lines: int) -> str:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        self.endpoint(name).deployment(deployment)
        return tail(log_path(_folder(name), deployment), lines)

    def counts(self, name: str) -> Mapping[str, Counts] | None:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        folder = _folder(name)
        state = _state(folder)
        if not router.is_running(folder):
            return {name: tally.counts() for name, tally in read_tallies(folder).items() if state.spec(name)}
        return {key: counts_from(item) for key, item in router.ask(folder, state.port, "counts").items()}

    # Changing

    def set_traffic(self, name: str, traffic: Mapping[str, int], mirror: Mapping[str, int]) -> Endpoint:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        check_traffic(self.endpoint(name), traffic, mirror)
        folder = _folder(name)
        shares = {"traffic": as_percent(traffic), "mirror": as_percent(mirror)}
        router.ask(folder, _state(folder).port, "traffic", **shares)
        return self.endpoint(name)

    def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        folder = _folder(name)
        _state(folder)
        with router.hold(folder, _silently, _TIMEOUT_SECONDS):
            state = _state(folder)
            if router.is_running(folder):
                router.ask(folder, state.port, "tags", tags=dict(tags))
            else:
                write_state(folder, replace(state, tags=dict(tags)))

    def keys(self, name: str) -> Mapping[str, str]:
        """An endpoint on this machine has none."""
        _state(_folder(name))
        raise DeploymentError(
            f"endpoint {name!r} has no keys: only this machine reaches it, on 127.0.0.1", "send requests without one"
        )

    def rotate_key(self, name: str, which: str) -> None:
        """An endpoint on this machine has none."""
        self.keys(name)

    def delete_deployment(self, name: str, deployment: str) -> None:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        folder = _folder(name)
        found = self.endpoint(name).deployment(deployment)
        if found.traffic:
            raise DeploymentError(
                f"{deployment} has {found.traffic} % of the traffic", f"first: mlops endpoint traffic {name} OTHER=100"
            )
        with router.hold(folder, _silently, _TIMEOUT_SECONDS):
            state = _state(folder)
            if not router.is_running(folder):
                write_state(folder, state.without_deployment(deployment))
                log = log_path(folder, deployment)
                for path in (log, former_log(log)):
                    path.unlink(missing_ok=True)
                return
            router.ask(folder, state.port, "delete", deployment=deployment)
            router.wait(lambda: not router.ask(folder, state.port, "status")["leaving"], _TIMEOUT_SECONDS)

    def delete(self, name: str) -> None:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        folder = _folder(name)
        if not (folder / FILE).is_file():
            _state(folder)
        with router.hold(folder, _silently, _TIMEOUT_SECONDS):
            try:
                state = read_state(folder)
            except DeploymentError:
                state = None  # it cannot be read any more: the router is ended by its process id
            router.end(folder, state.port if state is not None else None)
            remove_files(folder)


def _root() -> Path:
    return paths.home() / "endpoints"


def _folder(name: str) -> Path:
    return _root() / name


def _state(folder: Path) -> EndpointState:
    state = read_state(folder)
    if state is None:
        known = ", ".join(path.parent.name for path in sorted(_root().glob(f"*/{FILE}"))) or "none"
        raise DeploymentError(f"there is no endpoint {folder.name!r} on this machine", f"there is: {known}")
    return state


def _spec(request: DeploymentRequest) -> DeploymentSpec:
    options, model = request.options, request.model
    bundle = str(request.bundle())
    environment = dict(options.environment)
    return DeploymentSpec(request.deployment, model.name, str(model.version), bundle, options.workers, environment)


def _with_former(spec: DeploymentSpec, former: DeploymentSpec) -> DeploymentSpec:
    """Of the same version again, what is not said stays as it is."""
    if (former.model, former.version, former.bundle) != (spec.model, spec.version, spec.bundle):
        return spec
    if spec.workers is None:
        spec = replace(spec, workers=former.workers)
    if not spec.environment:
        spec = replace(spec, environment=former.environment)
    return spec


def _withdraw(folder: Path, port: int, deployment: str) -> None:
    """Take back what was begun, whatever has ended the waiting; the router does so itself after a while."""
    try:
        router.ask(folder, port, "withdraw", deployment=deployment)
    except DeploymentError:
        return


def _at_rest(state: EndpointState, url: str, how: EndpointStatus, problem: str) -> Endpoint:
    deployments = tuple(
        Deployment(
            item.name, item.model, item.version, how, state.traffic.get(item.name, 0), state.mirror.get(item.name, 0),
            problem="",
        )
        for item in state.deployments
    )  # fmt: skip
    return Endpoint(state.name, "local", how, url, "none", deployments, problem, dict(state.tags))


def _overall(deployments: tuple[Deployment, ...]) -> EndpointStatus:
    """Ready where a deployment with traffic is."""
    states = {item.state for item in deployments if item.traffic}
    for state in (EndpointStatus.READY, EndpointStatus.CHANGING, EndpointStatus.FAILED):
        if state in states:
            return state
    return EndpointStatus.CHANGING


def _silently(text: str) -> None:
    return
