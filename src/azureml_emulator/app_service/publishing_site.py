"""The publishing site of a slot, ``APP.scm.…``: takes a zip, builds it, and reports the progress."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.responses import Response
from starlette.routing import BaseRoute

from azureml_emulator.app_service.site_content import BuildFailedError, SiteContent, SiteEnvironments, unpack
from azureml_emulator.app_service.site_slot import SiteSlot
from azureml_emulator.resources.rest_resources import now
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, missing, reply, route

LARGEST_ZIP = 2048 * 1024 * 1024
_BUILDING, _FAILED, _SUCCESS = 1, 3, 4


@dataclass
class ZipDeployment:
    """One zip that was received."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    status: int = _BUILDING
    text: str = "Building and deploying"
    started: str = field(default_factory=now)
    ended: str | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Add a line to its log."""
        self.lines.append((now(), text))

    def end(self, status: int, text: str) -> None:
        """Mark it as ended."""
        self.text, self.ended = text, now()
        self.status = status


class PublishingSite:
    """The calls of one publishing site; the caller is checked before.

    Args:
        slot: Gets what is deployed.
        environments: Install the requirements.
        require: Refuses callers who may not publish.
    """

    def __init__(self, slot: SiteSlot, environments: SiteEnvironments, require: Callable[[RestCall], None]) -> None:
        self._require = require
        self._slot = slot
        self._environments = environments
        self._lock = threading.Lock()
        self.deployments: list[ZipDeployment] = []

    def routes(self) -> list[BaseRoute]:
        """Return the paths."""
        return [
            route("/api/publish", self._require, parsed=False, POST=self._publish),
            route("/api/deployments", self._require, GET=self._list),
            route("/api/deployments/{id}", self._require, GET=self._get),
            route("/api/deployments/{id}/log", self._require, GET=self._log),
            route("/api/logstream", self._require, GET=self._stream),
        ]

    def _stream(self, call: RestCall) -> Response:
        return Response(self._slot.log(), media_type="text/plain")

    def _publish(self, call: RestCall) -> Response:
        if call.query.get("type") != "zip":
            raise ServiceRefusalError(400, "BadRequest", f"Artifact type '{call.query.get('type')}' not supported")
        if len(call.content) > LARGEST_ZIP:
            raise ServiceRefusalError(413, "RequestEntityTooLarge", "The package is larger than 2048 MB")
        with self._lock:
            if any(item.ended is None for item in self.deployments):
                message = "There is a deployment currently in progress. Please try again when it completes."
                raise ServiceRefusalError(409, "Conflict", message)
            deployment = ZipDeployment()
            self.deployments.append(deployment)
        thread = threading.Thread(target=self._deploy, args=(deployment, call.content), daemon=True)
        thread.start()
        if call.query.get("async") == "true":
            return reply(
                None, 202, {"Location": f"https://{self._slot.publishing_host}/api/deployments/{deployment.id}"}
            )
        thread.join()
        return reply(self._shown(deployment), 200 if deployment.status == _SUCCESS else 400)

    def _deploy(self, deployment: ZipDeployment, content: bytes) -> None:
        folder = self._slot.folder / f"wwwroot-{deployment.id[:8]}"
        try:
            deployment.say("Updating submodules.")
            unpack(content, folder)
            requirements = folder / "requirements.txt"
            wanted = self._slot.settings.get("SCM_DO_BUILD_DURING_DEPLOYMENT", "").lower() in ("true", "1")
            text = requirements.read_text(encoding="utf-8") if wanted and requirements.exists() else ""
            environment = self._environments.of(text, deployment.say)
            self._slot.content = SiteContent(folder, environment)
            deployment.say("Deployment successful.")
            self._slot.restart()
            deployment.end(_SUCCESS, "")
        except (BuildFailedError, OSError) as error:
            deployment.say(f"Error: {error}")
            deployment.end(_FAILED, "Deployment failed")

    def _find(self, call: RestCall) -> ZipDeployment:
        wanted = call.names["id"]
        for item in reversed(self.deployments):
            if wanted in ("latest", item.id):
                return item
        raise missing(f"Deployment {wanted!r}")

    def _list(self, call: RestCall) -> Response:
        return reply([self._shown(item) for item in reversed(self.deployments)])

    def _get(self, call: RestCall) -> Response:
        found = self._find(call)
        return reply(self._shown(found), 200 if found.ended else 202)

    def _log(self, call: RestCall) -> Response:
        lines = [{"log_time": moment, "message": text, "type": 0} for moment, text in self._find(call).lines]
        return reply(lines)

    def _shown(self, item: ZipDeployment) -> Json:
        base = f"https://{self._slot.publishing_host}/api/deployments/{item.id}"
        return {
            "id": item.id,
            "status": item.status,
            "status_text": item.text,
            "progress": "",
            "author": "N/A",
            "deployer": "OneDeploy",
            "received_time": item.started,
            "start_time": item.started,
            "end_time": item.ended,
            "complete": item.ended is not None,
            "active": item.status == _SUCCESS,
            "is_temp": False,
            "is_readonly": True,
            "url": base,
            "log_url": f"{base}/log",
            "site_name": self._slot.site,
        }
