"""Changes a running endpoint: its deployments, traffic and tags. Only this module writes the state of the endpoint."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vision_mlops.endpoints.local.router.backend import Backend
from vision_mlops.endpoints.local.router.counters import read_counters, write_counters
from vision_mlops.endpoints.local.router.endpoint_state import LOG, EndpointState, remove_files, spec_from, write_state
from vision_mlops.endpoints.local.router.log_files import bound_log, remove_log, tail
from vision_mlops.endpoints.local.router.router_app import ADMIN, RouterApp
from vision_mlops.endpoints.local.router.traffic_shares import as_percent
from vision_mlops.serving.http.http_messages import Request, Response
from vision_mlops.serving.telemetry.server_log import log_event

_EMPTY_SECONDS = 10.0
"""Seconds after which an endpoint ends that has no deployment and for which none is being created."""
_COUNTS_SECONDS = 5.0
_DRAIN_SECONDS = 40.0


class _RefusedError(Exception):
    """The action cannot be done now."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """A deployment that a command waits for: a new one becomes part of the endpoint, and of its state, when it is ready.

    ``request`` is the command's, which gets its response then, or after ``seconds``; a command that hangs up withdraws its
    wish by ``abandon``.
    """

    request: Request
    backend: Backend
    seconds: float
    abandon: Callable[[], None]
    began: float = field(default_factory=time.monotonic)


class Control:
    """The endpoint of a folder while its router runs, to be created in the event loop.

    Args:
        folder: Of the endpoint; its lock is held.
        state: Wanted state of the endpoint.
        key: Key that requests to change it must have.
    """

    def __init__(self, folder: Path, state: EndpointState, key: str) -> None:
        self.folder = folder
        self.state = state
        self.ending = asyncio.Event()
        self.given_up = False
        """Whether it ends because it has no deployment, and no command creates one."""
        self.app = RouterApp(key, self.obey)
        self._wishes: dict[str, _Wish] = {}
        self._empty_since = time.monotonic()
        self._counted = time.monotonic()
        self._leaving: set[asyncio.Task[None]] = set()
        self._actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "status": self._status, "traffic": self._traffic, "tags": self._tags, "counts": self._counts,
            "delete": self._delete, "shutdown": self._shutdown,
        }  # fmt: skip

    def start(self) -> None:
        """Start the deployments of the state."""
        known = read_counters(self.folder)
        for spec in self.state.deployments:
            backend = Backend(spec, self.folder, known.get(spec.name))
            self._add(backend)
            backend.start()
        self._keep(self.state)
        self._reshare()

    def obey(self, request: Request) -> Response | None:
        """Execute a request of an owner of the key; return None if the response comes later."""
        action = request.path.removeprefix(ADMIN)
        try:
            asked = json.loads(request.body or b"{}")
            if action == "deploy":
                return self._deploy(request, asked)
            if action not in self._actions:
                return Response.error(404, "not_found", f"unknown action {action[:64]!r}")
            return Response.json(200, self._actions[action](asked))
        except _RefusedError as error:
            return Response.error(409, "refused", str(error))
        except (ValueError, TypeError, KeyError) as error:
            return Response.error(400, "bad_request", f"{type(error).__name__}: {error}")

    def tick(self) -> None:
        """Do what is due every second."""
        now = time.monotonic()
        self.app.hub.tick()
        for backend in self._backends():
            backend.sweep(now)
        self._settle()
        if self.state.deployments or self._wishes:
            self._empty_since = now
        elif now - self._empty_since > _EMPTY_SECONDS:
            self.given_up = True  # its first deployment was never completed
            self.ending.set()
        if now - self._counted > _COUNTS_SECONDS:
            self.keep_counts()
        bound_log(self.folder / LOG)

    async def close(self) -> None:
        """Respond to all accepted requests, end all servers, and write the counts."""
        self.app.draining = True
        for name in list(self._wishes):
            self._fail(name, "the endpoint has been ended")
        deadline = time.monotonic() + _DRAIN_SECONDS
        connections = self.app.hub.connections
        while connections and time.monotonic() < deadline:
            for connection in list(connections):
                if connection.idle and time.monotonic() - connection.heard > 0.5:
                    connection.transport.close()
            await asyncio.sleep(0.02)
        stops = [backend.drain(_DRAIN_SECONDS) for backend in self.app.backends.values()]
        await asyncio.gather(*stops, *self._leaving)
        self.keep_counts()
        if self.given_up:
            remove_files(self.folder)

    def kill(self) -> None:
        """Kill all servers."""
        for backend in self._backends():
            backend.server.kill()

    def keep_counts(self) -> None:
        """Write the counts, so that a later router continues with them: what was reported once is never taken back."""
        self._counted = time.monotonic()
        if self.state.deployments:
            try:
                write_counters(self.folder, {name: item.counters for name, item in self.app.backends.items()})
            except OSError as error:  # with a full disk, it still serves
                log_event("counts_not_kept", "warning", problem=str(error))

    # Actions

    def _status(self, asked: dict[str, Any]) -> dict[str, Any]:
        making = {name: wish.backend for name, wish in self._wishes.items() if name not in self.app.backends}
        rows = [
            {
                "name": name, "model": item.spec.model, "version": item.spec.version, "state": str(item.state),
                "problem": item.problem, "traffic": self.state.traffic.get(name, 0),
                "mirror": self.state.mirror.get(name, 0), "pid": item.server.pid, "port": item.server.port,
            }
            for name, item in {**self.app.backends, **making}.items()
        ]  # fmt: skip
        return {
            "pid": os.getpid(), "port": self.state.port, "tags": dict(self.state.tags), "deployments": rows,
            "leaving": len(self._leaving),
        }  # fmt: skip

    def _traffic(self, asked: dict[str, Any]) -> dict[str, Any]:
        traffic, mirror = as_percent(asked["traffic"]), as_percent(asked["mirror"])
        for name in {**traffic, **mirror}:
            if name not in self.app.backends:
                raise _RefusedError(f"deployment {name!r} does not exist")
            if not self.app.backends[name].ready:
                raise _RefusedError(f"deployment {name!r} is not ready: {self.app.backends[name].problem}")
        if sum(traffic.values()) != 100 or len(mirror) > 1 or traffic.keys() & mirror.keys():
            raise _RefusedError("traffic must add up to 100, and copies can only go to one deployment without traffic")
        self._keep(replace(self.state, traffic=traffic, mirror=mirror))
        self._reshare()
        log_event("traffic", traffic=traffic, mirror=mirror)
        return {}

    def _tags(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._keep(replace(self.state, tags=asked["tags"]))
        return {}

    def _counts(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.keep_counts()
        return {name: asdict(item.counters.counts()) for name, item in self.app.backends.items()}

    def _delete(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["deployment"]
        if self.state.traffic.get(name):
            raise _RefusedError(f"deployment {name!r} has {self.state.traffic[name]}% of the traffic")
        if name in self._wishes:
            self._fail(name, "it has been deleted")
        if name in self.app.backends:
            self._keep(self.state.without_deployment(name))
            self._reshare()
            self._leave(self.app.backends.pop(name), forget=True)
            log_event("deployment_deleted", deployment=name)
        return {}

    def _shutdown(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.ending.set()
        return {}

    # Deployments that are being created

    def _deploy(self, request: Request, asked: dict[str, Any]) -> Response | None:
        """Create a deployment; the response comes when it is ready or has failed, or when the time is up."""
        spec = spec_from(asked["spec"])
        if self.app.draining:
            raise _RefusedError("the endpoint is being deleted")
        backend = self.app.backends.get(spec.name)
        if backend is not None and backend.spec == spec:
            if backend.ready:
                return Response.json(200, {"problem": "", "known": True})
            backend.server.retry()
        else:
            backend = Backend(spec, self.folder)
        if spec.name in self._wishes:  # of a command that was killed: only one at a time changes an endpoint
            self._fail(spec.name, "it is being deployed again")
        wish = _Wish(request, backend, float(asked["seconds"]), lambda: self._withdrawn(spec.name))
        self._wishes[spec.name] = request.job = wish
        request.started = math.inf  # the command, not the limit of the server, says how long it waits
        if self._is_new(backend):
            backend.changed = self._changed
            backend.start()
        return None

    def _settle(self) -> None:
        """Respond to commands whose deployment is ready, has failed, or was not ready in time."""
        for name, wish in list(self._wishes.items()):
            backend = wish.backend
            if backend.ready:
                try:
                    if self._is_new(backend):
                        self._take_in(backend)
                except OSError as error:  # its state cannot be written: the endpoint stays as it is
                    self._fail(name, f"the endpoint cannot be changed: {error}")
                    continue
                self._end_wish(name, {"problem": "", "known": False})
            elif backend.server.problem:
                self._fail(name, backend.problem)
            elif time.monotonic() - wish.began > wish.seconds:
                self._fail(name, f"not ready within {wish.seconds:.0f} s: {backend.problem}")

    def _fail(self, name: str, problem: str) -> None:
        backend = self._wishes[name].backend
        self._end_wish(name, {"problem": problem, "log": tail(backend.log, 10)})
        if self._is_new(backend):
            backend.server.kill()
            if name not in self.app.backends:
                remove_log(backend.log)

    def _withdrawn(self, name: str) -> None:
        log_event("deploy_given_up", "warning", deployment=name)
        self._fail(name, "the command that deployed it has ended")
        self._empty_since = -math.inf

    def _end_wish(self, name: str, content: dict[str, Any]) -> None:
        request = self._wishes.pop(name).request
        request.job = None
        request.connection.respond(request, Response.json(200, content))

    def _take_in(self, backend: Backend) -> None:
        name = backend.name
        former = self.app.backends.get(name)
        self._keep(self.state.with_deployment(backend.spec))
        self._add(backend)
        self._reshare()
        log_event("deployment_ready", deployment=name, model=f"{backend.spec.model}:{backend.spec.version}")
        if former is not None:
            self._leave(former)

    # Changes

    def _is_new(self, backend: Backend) -> bool:
        """Return whether a deployment is not part of the endpoint yet."""
        return self.app.backends.get(backend.name) is not backend

    def _backends(self) -> list[Backend]:
        """Return all deployments, including those that are being created."""
        making = [wish.backend for wish in self._wishes.values() if self._is_new(wish.backend)]
        return [*self.app.backends.values(), *making]

    def _changed(self) -> None:
        """Note that a server has changed. What follows may end that server, so it waits until the server has reported."""
        self.app.set_limits()
        asyncio.get_running_loop().call_soon(self._settle)

    def _add(self, backend: Backend) -> None:
        backend.server.restarts = True
        backend.changed = self._changed
        self.app.backends[backend.name] = backend

    def _leave(self, backend: Backend, *, forget: bool = False) -> None:
        """Let a deployment that cannot be chosen any more finish its requests, and end it."""

        async def leave() -> None:
            await backend.drain(_DRAIN_SECONDS)
            if forget and backend.name not in self.app.backends:
                remove_log(backend.log)

        task = asyncio.get_running_loop().create_task(leave())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _keep(self, state: EndpointState) -> None:
        """Write a state before it takes effect: what a caller is told survives a crash, and a full disk changes nothing."""
        write_state(self.folder, state)
        self.state = state

    def _reshare(self) -> None:
        self.app.share(dict(self.state.traffic), dict(self.state.mirror))
        self.app.set_limits()
