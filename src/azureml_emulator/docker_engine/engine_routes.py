"""Docker's HTTP interface, as far as its command line needs it to build, pull, run, list, stop, remove, and show logs."""

from __future__ import annotations

import json
import platform
import re
import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from azureml_emulator.docker_engine.docker_engine import DockerEngine
from azureml_emulator.docker_engine.engine_container import EngineContainer
from azureml_emulator.docker_engine.engine_images import EngineImage, tagged
from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError

_API_VERSION = "1.43"
# Builder-Version 1: the command line should send the context in one piece.
_PING = {"Api-Version": _API_VERSION, "Docker-Experimental": "false", "Ostype": "linux", "Builder-Version": "1"}
_STDOUT = 1
_VERSION = re.compile(r"/v\d+\.\d+(?=/)")
_Handler = Callable[[Request, bytes], Response]


def engine_app(engine: DockerEngine) -> Starlette:
    """Return the application that responds for an engine."""
    return _EngineRoutes(engine).app()


class _EngineRoutes:
    """The calls about one engine."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine

    def app(self) -> Starlette:
        """Return all paths."""
        container = "/containers/{name}"
        routes = [
            self._route("/_ping", self._ping, "GET"),
            self._route("/version", self._version, "GET"),
            self._route("/containers/json", self._list, "GET"),
            self._route("/containers/create", self._create, "POST"),
            self._route(f"{container}/json", self._inspect, "GET"),
            self._route(f"{container}/start", self._start, "POST"),
            self._route(f"{container}/stop", self._stop, "POST"),
            self._route(f"{container}/rename", self._rename, "POST"),
            self._route(f"{container}/logs", self._logs, "GET"),
            self._route(container, self._remove, "DELETE"),
            self._route("/images/json", self._list_images, "GET"),
            self._route("/images/create", self._pull, "POST"),
            self._route("/images/{name:path}/json", self._inspect_image, "GET"),
            self._route("/build", self._build, "POST"),
        ]
        return Starlette(
            routes=[route for pair in routes for route in pair], exception_handlers={404: _unknown, 405: _unknown}
        )

    @staticmethod
    def _route(path: str, handler: _Handler, method: str) -> tuple[Route, Route]:
        """Return a path with and without the version with which clients prefix it."""

        async def endpoint(request: Request) -> Response:
            content = await request.body()
            try:
                return await run_in_threadpool(handler, request, content)
            except ServiceRefusalError as refusal:
                return JSONResponse({"message": refusal.message}, refusal.status)

        return Route(path, endpoint, methods=[method]), Route("/{version}" + path, endpoint, methods=[method])

    def _ping(self, request: Request, content: bytes) -> Response:
        return Response("OK", media_type="text/plain", headers=_PING)

    def _version(self, request: Request, content: bytes) -> Response:
        body = {"Version": "emulated", "ApiVersion": _API_VERSION, "MinAPIVersion": "1.24", "Os": "linux"}
        return JSONResponse({**body, "Arch": platform.machine(), "Platform": {"Name": "Emulated compute instance"}})

    def _list(self, request: Request, content: bytes) -> Response:
        filters = _filters(request)
        found = [item for item in self._engine.all() if _matches(item, filters)]
        return JSONResponse([_row(item) for item in found if item.active or _is_true(request, "all")])

    def _create(self, request: Request, content: bytes) -> Response:
        made = self._engine.create(request.query_params.get("name", ""), _json(content))
        return JSONResponse({"Id": made.definition.id, "Warnings": []}, 201)

    def _inspect(self, request: Request, content: bytes) -> Response:
        return JSONResponse(_description(self._find(request)))

    def _start(self, request: Request, content: bytes) -> Response:
        found = self._find(request)
        if found.active:
            return Response(status_code=304)
        self._engine.start(found)
        return Response(status_code=204)

    def _stop(self, request: Request, content: bytes) -> Response:
        found = self._find(request)
        default = found.definition.body.get("StopTimeout") or 10
        active = found.active
        self._engine.stop(found, float(request.query_params.get("t") or default))
        return Response(status_code=204 if active else 304)

    def _rename(self, request: Request, content: bytes) -> Response:
        self._engine.rename(self._find(request), request.query_params.get("name", ""))
        return Response(status_code=204)

    def _logs(self, request: Request, content: bytes) -> Response:
        lines = self._find(request).log().splitlines(keepends=True)
        tail = request.query_params.get("tail", "all")
        kept = lines[max(0, len(lines) - int(tail)) :] if tail.isdigit() else lines
        # Both streams of a process are in one file here; each line is a frame of the interface.
        frames = b"".join(struct.pack(">BxxxL", _STDOUT, len(line)) + line for line in kept)
        return Response(frames, media_type="application/vnd.docker.multiplexed-stream")

    def _remove(self, request: Request, content: bytes) -> Response:
        self._engine.remove(self._find(request), _is_true(request, "force"))
        return Response(status_code=204)

    def _list_images(self, request: Request, content: bytes) -> Response:
        found = self._engine.images.all()
        return JSONResponse([{**_image(item), "Created": _seconds(item.created)} for item in found])

    def _inspect_image(self, request: Request, content: bytes) -> Response:
        return JSONResponse(_image(self._engine.images.get(request.path_params["name"])))

    def _pull(self, request: Request, content: bytes) -> Response:
        name, tag = request.query_params.get("fromImage", ""), request.query_params.get("tag", "")
        image = self._engine.pull(f"{name}:{tag}" if tag and ":" not in tag else name)
        return _progress([{"status": f"Status: Downloaded newer image for {image.tags[0]}"}])

    def _build(self, request: Request, content: bytes) -> Response:
        query = request.query_params
        try:
            image = self._engine.images.build(
                content,
                query.get("dockerfile") or "Dockerfile",
                query.getlist("t"),
                {name: str(value) for name, value in json.loads(query.get("buildargs") or "{}").items()},
                json.loads(query.get("labels") or "{}"),
            )
        except ServiceRefusalError as refusal:  # the build has begun, so the status was already sent
            return _progress([{"errorDetail": {"message": refusal.message}, "error": refusal.message}])
        said = [
            "Emulated: files, variables and labels are used, but nothing is run\n",
            f"Successfully built {image.id[:12]}\n",
            *(f"Successfully tagged {tagged(tag)}\n" for tag in query.getlist("t")),
        ]
        return _progress([{"aux": {"ID": f"sha256:{image.id}"}}, *({"stream": line} for line in said)])

    def _find(self, request: Request) -> EngineContainer:
        return self._engine.get(request.path_params["name"])


def _json(content: bytes) -> Json:
    try:
        found = json.loads(content or b"{}")
    except ValueError as error:
        raise ServiceRefusalError(400, "BadRequest", f"invalid JSON: {error}") from error
    if not isinstance(found, dict):
        raise ServiceRefusalError(400, "BadRequest", "the request body is not an object")
    return found


def _is_true(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() in ("1", "true")


def _filters(request: Request) -> dict[str, list[str]]:
    """Return filters by their kind; the interface has two forms of them."""
    given: dict[str, Any] = _json(request.query_params.get("filters", "").encode())
    return {kind: list(values) for kind, values in given.items()}


def _matches(container: EngineContainer, filters: dict[str, list[str]]) -> bool:
    known = {
        "label": [*container.labels, *(f"{name}={value}" for name, value in container.labels.items())],
        "name": [container.definition.name],
        "status": [container.state.status],
        "id": [container.definition.id],
    }
    for kind, wanted in filters.items():
        if kind not in known:
            raise ServiceRefusalError(400, "BadRequest", f"the filter {kind!r} is not emulated")
        hits = [value in known[kind] for value in wanted]
        if not (all(hits) if kind == "label" else any(hits)):
            return False
    return True


def _row(container: EngineContainer) -> Json:
    known = container.definition
    return {
        "Id": known.id,
        "Names": [f"/{known.name}"],
        "Image": known.body.get("Image"),
        "ImageID": f"sha256:{known.image}",
        "Command": " ".join(map(str, known.body.get("Cmd") or [])),
        "Created": _seconds(known.created),
        "State": container.state.status,
        "Status": container.state.status,
        "Ports": [],
        "Labels": container.labels,
        "Mounts": [],
    }


def _description(container: EngineContainer) -> Json:
    known = container.definition
    return {
        "Id": known.id,
        "Name": f"/{known.name}",
        "Created": known.created,
        "Image": f"sha256:{known.image}",
        "RestartCount": container.state.restarts,
        "State": container.state.to_dict(),
        "Config": {
            "Image": known.body.get("Image"),
            "Cmd": known.body.get("Cmd"),
            "Env": known.body.get("Env"),
            "Labels": container.labels,
            "Tty": False,
        },
        "HostConfig": known.body.get("HostConfig") or {},
        "Mounts": [],
        "NetworkSettings": {"Ports": (known.body.get("HostConfig") or {}).get("PortBindings") or {}},
    }


def _image(image: EngineImage) -> Json:
    variables = [f"{name}={value}" for name, value in image.variables.items()]
    return {
        "Id": f"sha256:{image.id}",
        "RepoTags": list(image.tags),
        "Labels": image.labels,
        "Created": image.created,
        "Size": 0,
        "Config": {"Labels": image.labels, "Env": variables},
        "Os": "linux",
        "Architecture": platform.machine(),
    }


def _seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())


def _progress(lines: list[Json]) -> Response:
    return Response("".join(json.dumps(line) + "\r\n" for line in lines), media_type="application/json")


async def _unknown(request: Request, error: Exception) -> Response:
    path = _VERSION.sub("", request.scope["path"])
    return JSONResponse({"message": f"{request.method} {path} is not emulated on a compute instance"}, 404)
