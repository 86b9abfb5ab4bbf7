"""One deployment as the router sees it: its server, the connections to it, and what was counted of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from vision_mlops.endpoints.contract import EndpointStatus
from vision_mlops.endpoints.local.router.counters import DeploymentCounters
from vision_mlops.endpoints.local.router.endpoint_state import DeploymentSpec
from vision_mlops.endpoints.local.router.log_files import bound_log, log_path
from vision_mlops.endpoints.local.router.server_process import ServerProcess
from vision_mlops.endpoints.local.router.upstream import Pool


class Backend:
    """A deployment, to be created in the event loop; :meth:`start` starts its server.

    Args:
        spec: What it is.
        folder: Of the endpoint.
        counters: What was counted of it before.
    """

    def __init__(self, spec: DeploymentSpec, folder: Path, counters: DeploymentCounters | None = None) -> None:
        self.spec = spec
        self.name = spec.name
        self.header = spec.name.encode()
        self.pool = Pool()
        self.counters = counters or DeploymentCounters()
        self.ready = False
        self.in_flight = 0
        self.log = log_path(folder, spec.name)
        self.log.parent.mkdir(exist_ok=True)
        self.changed: Callable[[], None] = lambda: None
        """Called whenever its server has changed."""
        self.server = ServerProcess(spec, self.log, self._changed)

    def start(self) -> None:
        """Start the server."""
        self.server.start()

    @property
    def state(self) -> EndpointStatus:
        """State of the deployment."""
        if self.ready:
            return EndpointStatus.READY
        return EndpointStatus.FAILED if self.server.problem else EndpointStatus.CHANGING

    @property
    def problem(self) -> str:
        """Reason why it is not ready; empty if it is."""
        return "" if self.ready else self.server.problem or "the server is starting"

    async def drain(self, seconds: float) -> None:
        """Wait for outstanding responses, then end the server. It must not be chosen any more."""
        deadline = time.monotonic() + seconds
        while self.in_flight and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self.ready = False
        self.pool.move(0)
        await self.server.stop()

    def sweep(self, now: float) -> None:
        """Close idle connections, and keep the log small; called every second or so."""
        self.pool.sweep(now)
        bound_log(self.log)

    def _changed(self) -> None:
        server = self.server
        if server.port != self.pool.port:
            self.pool.move(server.port)
        self.ready = server.ready
        self.changed()
