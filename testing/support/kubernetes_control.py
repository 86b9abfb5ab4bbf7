"""What runs a loopback cluster: replica sets and pods of deployments, rolling updates, conditions, addresses of services."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import threading
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any

from testing.support.kubernetes_balancer import Balancer
from testing.support.kubernetes_gateway import GatewayProxy
from testing.support.kubernetes_pod import Pod
from testing.support.kubernetes_store import Object, Store, now

REVISION = "deployment.kubernetes.io/revision"


class Control:
    """Controllers, scheduler, kubelet and load balancers in one thread.

    ``images`` are bundles by the name of an image that holds them; a text instead of a folder is why it is not pulled.
    ``cores`` has the node, ``quota`` is the number of pods that the namespace may have, ``refuses_routes`` is why Gateways
    refuse routes.
    """

    def __init__(self, store: Store, folder: Path, pace: float = 0.05) -> None:
        self.store, self.folder, self.pace = store, folder, pace
        self.images: dict[str, Path | str] = {}
        self.cores, self.quota = 4.0, 10
        self.gives_addresses = True
        self.pods: dict[str, Pod] = {}
        self._balancers: dict[str, Balancer] = {}
        self._gateways: dict[str, GatewayProxy] = {}
        self.refuses_routes = ""
        self._since: dict[str, tuple[int, float]] = {}
        self.problem: BaseException | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join(10)
        for pod in self.pods.values():
            pod.kill()
        for balancer in self._balancers.values():
            balancer.close()
        for gateway in self._gateways.values():
            gateway.close()

    def _run(self) -> None:
        while not self._ending.wait(0.03):
            try:
                for pod in list(self.pods.values()):
                    self._step(pod)
                with self.store.lock:
                    for deployment in self.store.list("deployments"):
                        self._reconcile(deployment)
                    self._balance()
                    self._route()
            except BaseException as error:
                self.problem = error
                raise

    # --- kubelet and scheduler

    def _step(self, pod: Pod) -> None:
        namespace = pod.manifest["metadata"]["namespace"]
        if pod.manifest["metadata"].get("deletionTimestamp"):
            if pod.end():
                with self.store.lock:
                    del self.pods[pod.name]
                    self.store.drop("pods", namespace, pod.name)
                return
        else:
            wanted = _cores(pod.container["resources"]["requests"]["cpu"])
            lacks = wanted > self.cores
            pod.scheduled = "0/1 nodes are available: 1 Insufficient cpu." if lacks else None
            if not lacks:
                secret = pod.manifest["spec"]["volumes"][1]["secret"]["secretName"]
                with contextlib.suppress(Exception):
                    pod.write_keys(self.store.get("secrets", namespace, secret)["data"])
                pod.run(self.images, self._tell(namespace))
        with self.store.lock:
            if pod.name in self.pods:
                self.store.put("pods", {**pod.manifest, "status": pod.status()})

    def _tell(self, namespace: str) -> Any:
        def tell(pod: str, reason: str, message: str) -> None:
            name = f"{pod}.{uuid.uuid4().hex[:8]}"
            event = {
                "metadata": {"name": name, "namespace": namespace}, "type": "Warning", "reason": reason,
                "message": message, "lastTimestamp": now(), "involvedObject": {"kind": "Pod", "name": pod},
            }  # fmt: skip
            self.store.put("events", event)

        return tell

    # --- deployments

    def _reconcile(self, deployment: Object) -> None:
        metadata, spec = deployment["metadata"], deployment["spec"]
        namespace, name = metadata["namespace"], metadata["name"]
        own = [pod for pod in self.pods.values() if pod.manifest["metadata"]["owner"] == (namespace, name)]
        if metadata.get("deletionTimestamp"):
            for pod in own:
                self._end(pod)
            if not own:
                for item in self._sets(deployment):
                    self.store.drop("replicasets", namespace, item["metadata"]["name"])
                self.store.drop("deployments", namespace, name)
            return
        for scaler in self.store.list("horizontalpodautoscalers", namespace):
            if scaler["spec"]["scaleTargetRef"]["name"] == name:
                spec["replicas"] = min(
                    max(spec["replicas"], scaler["spec"]["minReplicas"]), scaler["spec"]["maxReplicas"]
                )
        current = self._current_set(deployment)
        live = [pod for pod in own if not pod.manifest["metadata"].get("deletionTimestamp")]
        fresh = [pod for pod in live if pod.manifest["metadata"]["labels"]["pod-template-hash"] == current]
        failure = ""
        if (
            len(fresh) < spec["replicas"]
            and len(live) < spec["replicas"] + spec["strategy"]["rollingUpdate"]["maxSurge"]
        ):
            if len(self.pods) >= self.quota:
                failure = (
                    f'pods "{name}-{current}-x" is forbidden: exceeded quota: team, requested: pods=1, '
                    f"used: pods={len(self.pods)}, limited: pods={self.quota}"
                )
            else:
                fresh.append(self._make(deployment, current))
        old = [pod for pod in live if pod not in fresh]
        spare = sum(pod.ready for pod in live) - spec["replicas"]
        for pod in sorted([*old, *fresh[spec["replicas"] :]], key=lambda pod: pod.ready):
            if not pod.ready or spare > 0:
                spare -= pod.ready
                self._end(pod)
        self._report(deployment, fresh, [*old, *fresh], failure)

    def _sets(self, deployment: Object) -> list[Object]:
        metadata = deployment["metadata"]
        items = self.store.list("replicasets", metadata["namespace"])
        return [item for item in items if item["metadata"]["ownerReferences"][0]["name"] == metadata["name"]]

    def _current_set(self, deployment: Object) -> str:
        """Hash of the pods' template; its replica set is made where it is new, or made the latest revision again."""
        metadata, template = deployment["metadata"], deployment["spec"]["template"]
        hashed = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        sets = {item["metadata"]["labels"]["pod-template-hash"]: item for item in self._sets(deployment)}
        last = max((int(item["metadata"]["annotations"][REVISION]) for item in sets.values()), default=0)
        if hashed not in sets or int(sets[hashed]["metadata"]["annotations"][REVISION]) < last:
            labels = {**template["metadata"]["labels"], "pod-template-hash": hashed}
            item = {
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": {"template": template},
                "metadata": {
                    "name": f"{metadata['name']}-{hashed}", "namespace": metadata["namespace"], "labels": labels,
                    "annotations": {REVISION: str(last + 1)}, "ownerReferences": [{"name": metadata["name"]}],
                },
            }  # fmt: skip
            self.store.put("replicasets", item)
            metadata.setdefault("annotations", {})[REVISION] = str(last + 1)
        return hashed

    def _make(self, deployment: Object, hashed: str) -> Pod:
        metadata, template = deployment["metadata"], copy.deepcopy(deployment["spec"]["template"])
        name = f"{metadata['name']}-{hashed}-{uuid.uuid4().hex[:5]}"
        own = {
            "name": name, "namespace": metadata["namespace"], "creationTimestamp": now(), "uid": str(uuid.uuid4()),
            "labels": {**template["metadata"]["labels"], "pod-template-hash": hashed},
            "owner": (metadata["namespace"], metadata["name"]),
        }  # fmt: skip
        pod = Pod(
            {"apiVersion": "v1", "kind": "Pod", "metadata": own, "spec": template["spec"]},
            self.folder / name,
            self.pace,
        )
        self.pods[name] = pod
        return pod

    @staticmethod
    def _end(pod: Pod) -> None:
        pod.manifest["metadata"].setdefault("deletionTimestamp", now())

    def _report(self, deployment: Object, fresh: list[Pod], live: list[Pod], failure: str) -> None:
        metadata, spec = deployment["metadata"], deployment["spec"]
        ready = sum(pod.ready for pod in live)
        done = sum(pod.ready for pod in fresh) >= spec["replicas"] and len(live) == len(fresh)
        generation, since = self._since.get(metadata["uid"], (0, 0.0))
        if generation != metadata["generation"] or done:
            since = time.monotonic()
            self._since[metadata["uid"]] = (metadata["generation"], since)
        late = time.monotonic() - since > spec["progressDeadlineSeconds"]
        conditions = [
            {"type": "Available", "status": str(ready >= spec["replicas"])},
            {
                "type": "Progressing",
                "status": str(not late),
                "reason": "ProgressDeadlineExceeded" if late else "Updated",
            },
        ]
        if failure:
            conditions.append(
                {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failure}
            )
        deployment["status"] = {
            "observedGeneration": metadata["generation"], "replicas": len(live), "updatedReplicas": len(fresh),
            "readyReplicas": ready, "availableReplicas": ready, "conditions": conditions,
        }  # fmt: skip
        if deployment != self.store.objects.get(("deployments", metadata["namespace"], metadata["name"])):
            self.store.put("deployments", deployment)

    # --- services

    def _balance(self) -> None:
        """A load balancer for each Service that asks for one."""
        services = {item["metadata"]["uid"]: item for item in self.store.list("services")}
        for uid in [uid for uid in self._balancers if uid not in services]:
            self._balancers.pop(uid).close()
        for uid, service in services.items():
            wanted = service["spec"]["type"] == "LoadBalancer" and self.gives_addresses
            if wanted and uid not in self._balancers:
                selector = service["spec"]["selector"]
                self._balancers[uid] = Balancer(
                    service["spec"]["ports"][0]["port"], partial(self._ready_ports, selector)
                )
                service["status"] = {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}
                self.store.put("services", service)

    def _route(self) -> None:
        """A listener for each Gateway, and what it says about its routes."""
        for gateway in self.store.list("gateways"):
            metadata, spec = gateway["metadata"], gateway["spec"]
            if metadata["name"] not in self._gateways:
                port = spec["listeners"][0]["port"]
                self._gateways[metadata["name"]] = GatewayProxy(port, self._routes, self._ports_of)
                self.store.put("gateways", {**gateway, "status": {"addresses": [{"value": "127.0.0.1"}]}})
        for route in self.store.list("httproutes"):
            refused = self.refuses_routes
            condition = {
                "type": "Accepted", "status": str(not refused), "reason": "NotAllowed" if refused else "Accepted",
                "message": refused, "observedGeneration": route["metadata"]["generation"],
            }  # fmt: skip
            status = {"parents": [{"parentRef": route["spec"]["parentRefs"][0], "conditions": [condition]}]}
            if route.get("status") != status:
                self.store.put("httproutes", {**route, "status": status})

    def _routes(self) -> list[Object]:
        return [] if self.refuses_routes else self.store.list("httproutes")

    def _ports_of(self, service: str) -> list[int]:
        found = [item for item in self.store.list("services") if item["metadata"]["name"] == service]
        return self._ready_ports(found[0]["spec"]["selector"]) if found else []

    def _ready_ports(self, selector: dict[str, str]) -> list[int]:
        return [
            pod.port
            for pod in list(self.pods.values())
            if pod.routed and selector.items() <= pod.manifest["metadata"]["labels"].items()
        ]


def _cores(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)
