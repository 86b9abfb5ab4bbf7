"""A loopback Kubernetes API server over HTTPS, good enough for the real client; a token signs in."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme
import yaml
from testing.support.kubernetes_control import Control
from testing.support.kubernetes_gateway import validate
from testing.support.kubernetes_store import Object, RefusalError, Store

TOKEN = "loopback-token"


@dataclass
class KubernetesCluster:
    """The whole cluster.

    ``forbidden`` are pairs of verb (or ``list everywhere``) and plural that the user may not, ``denials`` messages of an
    admission webhook by kind, ``requests`` what was asked: verb, plural, body.
    """

    store: Store
    control: Control
    kubeconfig: Path
    address: str = ""
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    denials: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    def write_kubeconfig(self, authority: bytes, *, namespace: str = "vision", token: str = TOKEN) -> None:
        data = base64.b64encode(authority).decode()
        content = {
            "apiVersion": "v1", "kind": "Config", "current-context": "loopback",
            "clusters": [{"name": "c", "cluster": {"server": self.address, "certificate-authority-data": data}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "loopback", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
        }  # fmt: skip
        self.kubeconfig.write_text(yaml.safe_dump(content))


class _Handler(BaseHTTPRequestHandler):
    cluster: KubernetesCluster
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: apart, the second one waits 40 ms for the client's acknowledgement

    def do_GET(self) -> None:
        self._answer("list")

    def do_POST(self) -> None:
        self._answer("create")

    def do_PATCH(self) -> None:
        self._answer("patch")

    def do_DELETE(self) -> None:
        self._answer("delete")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, verb: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise RefusalError(401, "Unauthorized", "Unauthorized")
            content: Any = self._do(verb, body.decode())
            code = 200
        except RefusalError as refusal:
            content, code = refusal.status, refusal.code
        raw = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _do(self, verb: str, body: str) -> Any:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        parts = address.path.strip("/").split("/")
        group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        plural, name, sub = (*rest, "", "")[:3]
        verb = "get" if verb == "list" and name else verb
        self.cluster.requests.append((verb, plural, body))
        everywhere = verb == "list" and not namespace and plural != "namespaces"
        if {(verb, plural), (f"{verb} everywhere" if everywhere else verb, plural)} & self.cluster.forbidden:
            qualified = f"{plural}.{group}" if group else plural
            text = f'{qualified} is forbidden: User "dev" cannot {verb} resource "{plural}" in API group "{group}"'
            raise RefusalError(403, "Forbidden", text + (f' in the namespace "{namespace}"' if namespace else ""))
        if sub == "log":
            return self._log(name, query)
        return self._object(verb, plural, namespace, name, query, yaml.safe_load(body) if body else {})

    def _object(self, verb: str, plural: str, namespace: str, name: str, query: dict[str, str], body: Object) -> Any:
        store = self.cluster.store
        if verb == "get":
            return store.get(plural, namespace, name)
        if verb == "list":
            items = store.list(plural, namespace, query.get("labelSelector", ""), query.get("fieldSelector", ""))
            return {"apiVersion": "v1", "kind": "List", "items": items}
        if verb == "delete":
            return self._delete(plural, namespace, name)
        if namespace and ("namespaces", "", namespace) not in store.objects:
            raise RefusalError(404, "NotFound", f'namespaces "{namespace}" not found')
        if denial := self.cluster.denials.get(body["kind"]):
            raise RefusalError(403, "Forbidden", f'admission webhook "policy.example" denied the request: {denial}')
        if verb == "create":
            return store.create(plural, namespace, body)
        if self.headers.get("Content-Type") != "application/apply-patch+yaml":
            raise RefusalError(415, "UnsupportedMediaType", "only server-side apply is done here")
        return store.apply(
            plural, namespace, name, body, query["fieldManager"], force=query.get("force", "").lower() == "true"
        )

    def _delete(self, plural: str, namespace: str, name: str) -> Object:
        store = self.cluster.store
        with store.lock:
            found = store.get(plural, namespace, name)
            if plural == "deployments":
                found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
                store.put(plural, found)
            else:
                store.drop(plural, namespace, name)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _log(self, name: str, query: dict[str, str]) -> str:
        pod = self.cluster.control.pods.get(name)
        if pod is None:
            raise RefusalError(404, "NotFound", f'pods "{name}" not found')
        previous = query.get("previous") == "true"
        text = pod.log(previous=previous)
        if text is None:
            what = "not found" if previous else "is waiting to start"
            raise RefusalError(400, "BadRequest", f'container "server" in pod "{name}" {what}')
        return "\n".join(text.splitlines()[-int(query["tailLines"]) :]) + "\n"


def _deployment_defaults(made: Object) -> None:
    spec = made["spec"]
    spec.setdefault("replicas", 1)
    pod = spec["template"]["spec"]
    pod.setdefault("restartPolicy", "Always")
    pod.setdefault("dnsPolicy", "ClusterFirst")
    pod.setdefault("schedulerName", "default-scheduler")
    spec["template"]["metadata"].setdefault("creationTimestamp", None)


def _service_defaults(made: Object) -> None:
    made["spec"].setdefault("clusterIP", "10.0.0.17")
    made["spec"].setdefault("sessionAffinity", "None")


@contextmanager
def kubernetes_cluster(folder: Path) -> Iterator[KubernetesCluster]:
    """Run a cluster with the namespace ``vision``; at the end nothing of it runs."""
    defaults: dict[str, Callable[[Object], None]] = {"deployments": _deployment_defaults, "services": _service_defaults}
    store = Store(defaults=defaults, checks=dict.fromkeys(("httproutes", "gateways"), validate))
    for name in ("default", "vision"):
        store.put("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster = KubernetesCluster(store, Control(store, folder / "pods"), folder / "kubeconfig")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": cluster}))
    server.daemon_threads, server.block_on_close = True, False
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    cluster.address = f"https://127.0.0.1:{server.server_port}"
    cluster.write_kubeconfig(authority.cert_pem.bytes())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        cluster.control.stop()
        assert cluster.control.problem is None, cluster.control.problem
