"""A Gateway of the loopback cluster: shares requests among pods as HTTPRoutes say, by host, path, header and weight.

Schemas of the published packages have no Gateway API; what is written here of it is checked by the schemas below.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jsonschema
from testing.support.kubernetes_store import Object, RefusalError

_NAME = {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"}
_HOST = {"type": "string", "pattern": r"^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"}


def _object(required: list[str], **properties: Any) -> Object:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list(items: Object, most: int) -> Object:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


_PATH = _object(["type", "value"], type={"enum": ["PathPrefix", "Exact"]}, value={"type": "string", "pattern": "^/"})
_HEADERS = _list(_object(["name", "value"], name={"type": "string"}, value={"type": "string", "minLength": 1}), 16)
_REWRITE = _object(["path"], path=_object(["type", "replacePrefixMatch"], type={"const": "ReplacePrefixMatch"},
                                          replacePrefixMatch={"type": "string"}))  # fmt: skip
_FILTERS = _list(_object(["type", "urlRewrite"], type={"const": "URLRewrite"}, urlRewrite=_REWRITE), 16)
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_BACKENDS = _list(
    _object(["name", "port"], name=_NAME, port=_PORT, weight={"type": "integer", "minimum": 0, "maximum": 1_000_000}),
    16,
)
_RULE = _object(["backendRefs"], matches=_list(_object([], path=_PATH, headers=_HEADERS), 64), filters=_FILTERS,
                backendRefs=_BACKENDS)  # fmt: skip
_TLS = _object(
    ["certificateRefs"],
    mode={"enum": ["Terminate"]},
    certificateRefs=_list(_object(["name"], kind=_NAME, name=_NAME), 64),
)
_TLS["properties"]["certificateRefs"]["items"]["properties"]["kind"] = {"type": "string"}
_LISTENER = _object(
    ["name", "port", "protocol"], name=_NAME, port=_PORT, protocol={"enum": ["HTTP", "HTTPS"]}, hostname=_HOST, tls=_TLS,
    allowedRoutes=_object([], namespaces=_object([], **{"from": {"enum": ["All", "Same", "Selector"]}, "selector": {}})),
)  # fmt: skip
SPECS = {
    "HTTPRoute": _object(
        ["parentRefs", "rules"], parentRefs=_list(_object(["name"], namespace=_NAME, name=_NAME), 32),
        hostnames=_list(_HOST, 16), rules=_list(_RULE, 16),
    ),
    "Gateway": _object(["gatewayClassName", "listeners"], gatewayClassName=_NAME, listeners=_list(_LISTENER, 64)),
}  # fmt: skip


def validate(manifest: Object) -> None:
    """Check an object of the Gateway API. Raises RefusalError as the API server would."""
    try:
        jsonschema.validate(manifest["spec"], SPECS[manifest["kind"]])
    except jsonschema.ValidationError as error:
        place = ".".join(map(str, ("spec", *error.absolute_path)))
        name = manifest["metadata"]["name"]
        raise RefusalError(
            422, "Invalid", f'{manifest["kind"]} "{name}" is invalid: {place}: {error.message}'
        ) from error


class GatewayProxy:
    """Listens for one Gateway.

    Args:
        port: To listen on.
        routes: The HTTPRoutes that it has taken.
        pods: Ports of the pods behind a Service, by its name.
    """

    def __init__(self, port: int, routes: Callable[[], list[Object]], pods: Callable[[str], list[int]]) -> None:
        self._routes, self._pods, self._turn = routes, pods, itertools.count()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    def choose(self, host: str, path: str, headers: Message) -> tuple[int, str]:
        """Port of a pod and the path to ask it; 0 where nothing matches. The rule that says most wins."""
        routes = [route["spec"] for route in self._routes() if host in route["spec"].get("hostnames", [host])]
        rules = [rule for spec in routes for rule in spec["rules"] if _matches(rule["matches"][0], path, headers)]
        if not rules:
            return 0, path
        rule = max(rules, key=_weight)
        turn = next(self._turn)
        shares = [item["name"] for item in rule["backendRefs"] for _ in range(item.get("weight", 1))]
        # Well mixed, so that a few requests already show the shares.
        ports = self._pods(shares[turn * 37 % len(shares)]) if shares else []
        if rule.get("filters"):
            path = "/" + path.removeprefix(rule["matches"][0]["path"]["value"]).lstrip("/")
        return (ports[turn % len(ports)] if ports else -1), path


def _weight(rule: Object) -> tuple[int, int]:
    match = rule["matches"][0]
    return len(match["path"]["value"]), len(match.get("headers", []))


def _matches(match: Object, path: str, headers: Message) -> bool:
    prefix = match["path"]["value"].rstrip("/")
    named = all(headers.get(item["name"]) == item["value"] for item in match.get("headers", []))
    return named and (path == prefix or path.startswith(f"{prefix}/"))


class _Handler(BaseHTTPRequestHandler):
    proxy: GatewayProxy
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        self._forward("GET")

    def do_POST(self) -> None:
        self._forward("POST")

    def _forward(self, method: str) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        port, path = self.proxy.choose((self.headers.get("Host") or "").partition(":")[0], self.path, self.headers)
        if port <= 0:
            self._send(404 if port == 0 else 503, {}, b"no route")
            return
        pod = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(pod):
            pod.request(method, path, content, dict(self.headers.items()))
            answer = pod.getresponse()
            kept = {"Content-Type": answer.headers.get("Content-Type", "application/json")}
            self._send(answer.status, kept, answer.read())

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
