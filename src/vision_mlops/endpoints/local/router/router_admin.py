"""What changes a running endpoint: deployments that come and go, traffic, tags. It alone writes the endpoint's state."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vision_mlops.endpoints.local.router.backend import Backend
from vision_mlops.endpoints.local.router.counters import counts_to_dict, read_counters, write_counters
from vision_mlops.endpoints.local.router.endpoint_state import LOG, EndpointState, remove_files, spec_from, write_state
from vision_mlops.endpoints.local.router.log_files import bound_log, tail
from vision_mlops.endpoints.local.router.router_app import RouterApp
from vision_mlops.endpoints.local.router.traffic_shares import as_percent
from vision_mlops.serving.http.http_messages import Response
from vision_mlops.serving.telemetry.server_log import log_event

_LEASE_SECONDS = 5.0
"""A deployment in the making that nobody has asked about for so long is given up: its command was ended."""
_EMPTY_SECONDS = 10.0
"""An endpoint without deployments, of which none is being made, ends after so long."""
_COUNTS_SECONDS = 5.0
_DRAIN_SECONDS = 40.0


class _RefusedError(Exception):
    """What is asked for cannot be done."""


@dataclass(slots=True)
class _Candidate:
    """A deployment that is being made. It becomes part of the endpoint, and of its state, when it is ready."""

    backend: Backend
    asked: float


class Control:
    """The endpoint of a folder, while its router runs. To be made in the event loop.

    Args:
        folder: Of the endpoint; its lock is held.
        state: What the endpoint is to be.
        key: Must come with what changes it.
    """

    def __init__(self, folder: Path, state: EndpointState, key: str) -> None:
        self.key = key
        self.folder = folder
        self.state = state
        self.ending = asyncio.Event()
        self.given_up = False
        """Whether it ends as it has no deployment, and no command makes one."""
        self.app = RouterApp(self)
        self._candidates: dict[str, _Candidate] = {}
        self._empty_since = time.monotonic()
        self._counted = time.monotonic()
        self._leaving: set[asyncio.Task[None]] = set()
        self._actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "status": self._status, "deploy": self._deploy, "withdraw": self._withdraw, "traffic": self._traffic,
            "tags": self._tags, "counts": self._counts, "delete": self._delete, "shutdown": self._shutdown,
        }  # fmt: skip

    def start(self) -> None:
        """Start what the state says."""
        known = read_counters(self.folder)
        for spec in self.state.deployments:
            backend = Backend(spec, self.folder, known.get(spec.name))
            self._add(backend)
            backend.start()
        self._keep(self.state)
        self._reshare()

    def obey(self, action: str, body: bytes) -> Response:
        """Do what an owner of the key asks for."""
        known = self._actions.get(action)
        if known is None:
            return Response.error(404, "not_found", f"there is no action {action[:64]!r}")
        try:
            return Response.json(200, known(json.loads(body or b"{}")))
        except _RefusedError as error:
            return Response.error(409, "refused", str(error))
        except (ValueError, TypeError, KeyError) as error:
            return Response.error(400, "bad_request", f"{type(error).__name__}: {error}")

    def tick(self) -> None:
        """To be called every second."""
        now = time.monotonic()
        self.app.hub.tick()
        for backend in [*self.app.backends.values(), *(item.backend for item in self._candidates.values())]:
            backend.sweep(now)
        for name, candidate in list(self._candidates.items()):
            if now - candidate.asked > _LEASE_SECONDS:
                log_event("deploy_given_up", "warning", deployment=name)
                self._drop(name)
                self._empty_since = -math.inf
        if self.state.deployments or self._candidates:
            self._empty_since = now
        elif now - self._empty_since > _EMPTY_SECONDS:
            self.given_up = True  # its first deployment was never made
            self.ending.set()
        if now - self._counted > _COUNTS_SECONDS:
            self.keep_counts()
        bound_log(self.folder / LOG)

    async def close(self) -> None:
        """Answer what has come, end all servers, and keep the counts."""
        self.app.draining = True
        deadline = time.monotonic() + _DRAIN_SECONDS
        connections = self.app.hub.connections
        while connections and time.monotonic() < deadline:
            for connection in list(connections):
                if connection.idle and time.monotonic() - connection.heard > 0.5:
                    connection.transport.close()
            await asyncio.sleep(0.02)
        for name in list(self._candidates):
            self._drop(name)
        stops = [backend.drain(_DRAIN_SECONDS) for backend in self.app.backends.values()]
        await asyncio.gather(*stops, *self._leaving)
        self.keep_counts()
        if self.given_up:
            remove_files(self.folder)

    def kill(self) -> None:
        """End all servers at once."""
        for backend in [*self.app.backends.values(), *(item.backend for item in self._candidates.values())]:
            backend.server.kill()

    def keep_counts(self) -> None:
        """Write the counts, so that a later router goes on with them: what was told once is never taken back."""
        self._counted = time.monotonic()
        if self.state.deployments:
            try:
                write_counters(self.folder, {name: item.counters for name, item in self.app.backends.items()})
            except OSError as error:  # a full disk is no reason not to serve
                log_event("counts_not_kept", "warning", problem=str(error))

    # Actions

    def _status(self, asked: dict[str, Any]) -> dict[str, Any]:
        making = {name: item.backend for name, item in self._candidates.items() if name not in self.app.backends}
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

    def _deploy(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Make a deployment, or tell how far it is: to be asked again until it is ready or has failed."""
        spec = spec_from(asked["spec"])
        if self.app.draining:
            raise _RefusedError("the endpoint is being deleted")
        present = self.app.backends.get(spec.name)
        if present is not None and present.spec == spec:
            if asked.get("begin"):
                present.server.retry()
            return _told(present, known=True)
        candidate = self._candidates.get(spec.name)
        if candidate is None:
            candidate = self._candidates[spec.name] = _Candidate(Backend(spec, self.folder), time.monotonic())
            candidate.backend.start()
        elif candidate.backend.spec != spec:
            raise _RefusedError(f"another version is being deployed as {spec.name}")
        candidate.asked = time.monotonic()
        backend = candidate.backend
        answer = _told(backend, known=False)
        if backend.ready:
            self._take_in(spec.name)
        elif backend.server.problem:
            self._drop(spec.name)
        return answer

    def _withdraw(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Give up a deployment that is being made."""
        if asked["deployment"] in self._candidates:
            self._drop(asked["deployment"])
        return {}

    def _traffic(self, asked: dict[str, Any]) -> dict[str, Any]:
        traffic, mirror = as_percent(asked["traffic"]), as_percent(asked["mirror"])
        for name in {**traffic, **mirror}:
            if name not in self.app.backends:
                raise _RefusedError(f"there is no deployment {name!r} any more")
            if not self.app.backends[name].ready:
                raise _RefusedError(f"deployment {name!r} is not ready: {self.app.backends[name].problem}")
        if sum(traffic.values()) != 100 or len(mirror) > 1 or traffic.keys() & mirror.keys():
            raise _RefusedError("traffic adds up to 100, and copies go to one deployment without traffic")
        self._keep(replace(self.state, traffic=traffic, mirror=mirror))
        self._reshare()
        log_event("traffic", traffic=traffic, mirror=mirror)
        return {}

    def _tags(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._keep(replace(self.state, tags=asked["tags"]))
        return {}

    def _counts(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.keep_counts()
        return {name: counts_to_dict(item.counters.counts()) for name, item in self.app.backends.items()}

    def _delete(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["deployment"]
        if self.state.traffic.get(name):
            raise _RefusedError(f"deployment {name!r} has {self.state.traffic[name]} % of the traffic")
        if name in self._candidates:
            self._drop(name)
        if name in self.app.backends:
            self._keep(self.state.without_deployment(name))
            self._reshare()
            self._leave(self.app.backends.pop(name), forget=True)
            log_event("deployment_deleted", deployment=name)
        return {}

    def _shutdown(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.ending.set()
        return {}

    # Changes

    def _take_in(self, name: str) -> None:
        backend = self._candidates[name].backend
        former = self.app.backends.get(name)
        self._keep(self.state.with_deployment(backend.spec))
        del self._candidates[name]
        self._add(backend)
        self._reshare()
        log_event("deployment_ready", deployment=name, model=f"{backend.spec.model}:{backend.spec.version}")
        if former is not None:
            self._leave(former)

    def _add(self, backend: Backend) -> None:
        backend.server.restarts = True
        backend.changed = self.app.set_limits
        self.app.backends[backend.name] = backend

    def _drop(self, name: str) -> None:
        backend = self._candidates.pop(name).backend
        backend.server.kill()
        if name not in self.app.backends and self.state.spec(name) is None:
            backend.remove_log()

    def _leave(self, backend: Backend, *, forget: bool = False) -> None:
        """Let a deployment that nobody can choose any more finish, and end it."""

        async def leave() -> None:
            await backend.drain(_DRAIN_SECONDS)
            if forget and backend.name not in self.app.backends:
                backend.remove_log()

        task = asyncio.get_running_loop().create_task(leave())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _keep(self, state: EndpointState) -> None:
        """Write a state before it becomes true: what a caller is told outlives a crash, and a full disk changes nothing."""
        write_state(self.folder, state)
        self.state = state

    def _reshare(self) -> None:
        self.app.share(dict(self.state.traffic), dict(self.state.mirror))
        self.app.set_limits()


def _told(backend: Backend, *, known: bool) -> dict[str, Any]:
    """How far a deployment is, for the command that waits for it."""
    return {"state": str(backend.state), "problem": backend.problem, "known": known, "log": tail(backend.log, 10)}
