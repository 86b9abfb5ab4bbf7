"""Accounts of the emulated Custom Vision, plain calls to them, and pictures that are easy to tell apart."""

from __future__ import annotations

import io
import os
import time
from typing import Any

import numpy as np
import requests
from PIL import Image

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.identity.loopback_tokens import token

_PROVIDER = "Microsoft.CognitiveServices"
VERSION = "2025-06-01"
_KINDS = {
    "training": ("CustomVision.Training", "Training-Key"),
    "prediction": ("CustomVision.Prediction", "Prediction-Key"),
}
_APIS = {"training": "v3.3/training", "prediction": "v3.1/prediction"}


def manage(cloud: EmulatedCloud, method: str, path: str, body: Any = None) -> requests.Response:
    """A call to the resource manager about ``Microsoft.CognitiveServices`` in the resource group, or about a whole path."""
    if not path.startswith("/"):
        path = f"/subscriptions/{cloud.subscription}/resourceGroups/{cloud.group}/providers/{_PROVIDER}/{path}"
    return requests.request(
        method, f"{cloud.url}{path}", params={"api-version": VERSION}, json=body, timeout=60,
        headers={"Authorization": f"Bearer {token(cloud.url)}"}, verify=os.environ["REQUESTS_CA_BUNDLE"],
    )  # fmt: skip


class VisionAccount:
    """An account and the calls to its API, with its key.

    Args:
        cloud: The emulator.
        kind: ``training`` or ``prediction``.
        sku: Its pricing tier.
        name: What it is called, which is its subdomain as well.
    """

    def __init__(self, cloud: EmulatedCloud, kind: str, sku: str = "S0", name: str = "") -> None:
        self.name = name or f"cv-{kind}"
        self.header, self._api = _KINDS[kind][1], _APIS[kind]
        body = {
            "kind": _KINDS[kind][0], "sku": {"name": sku}, "location": "westeurope",
            "properties": {"customSubDomainName": self.name},
        }  # fmt: skip
        made = manage(cloud, "PUT", f"accounts/{self.name}", body)
        assert made.status_code == 201, made.text
        self.id, self.endpoint = made.json()["id"], made.json()["properties"]["endpoint"]
        self.key = manage(cloud, "POST", f"accounts/{self.name}/listKeys").json()["key1"]
        self.session = requests.Session()
        self.session.trust_env, self.session.verify = False, os.environ["REQUESTS_CA_BUNDLE"]

    def send(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> requests.Response:
        """A call to its API; with its key unless other headers are given."""
        headers = {self.header: self.key} if headers is None else headers
        url = f"{self.endpoint}customvision/{self._api}{path}"
        return self.session.request(method, url, headers=headers, timeout=60, **options)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The answer to a call that is expected to be taken."""
        found = self.send(method, path, **options)
        assert found.ok, f"{method} {path}: {found.status_code} {found.text}"
        return found.json() if found.content else None

    def refusal(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        """Status and code of a refusal."""
        found = self.send(method, path, **options)
        body = found.json()
        return found.status_code, body.get("error", body)["code"]

    def trained(self, project: str, **query: Any) -> Any:
        """Train a project and wait until that has ended."""
        made = self.call("POST", f"/projects/{project}/train", params=query)
        assert made["status"] == "Training"
        deadline = time.monotonic() + 100
        while True:
            found = self.call("GET", f"/projects/{project}/iterations/{made['id']}")
            if found["status"] != "Training":
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


def picture(kind: str, number: int, side: int = 64) -> bytes:
    """A JPEG of stripes that are ``across`` or ``down``, each different from the others of its kind."""
    chance = np.random.default_rng(number)
    wave = np.sin(np.arange(side) / chance.uniform(1.5, 3) + chance.uniform(0, 6)) * 60 + 128
    values = np.tile(wave, (side, 1)) if kind == "down" else np.tile(wave[:, None], (1, side))
    noisy = values[..., None] + chance.normal(0, 25, (side, side, 3)) + chance.uniform(-30, 30, 3)
    stream = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def filled_project(account: VisionAccount, count: int = 20, **query: str) -> tuple[str, dict[str, str]]:
    """A project with two tags and pictures of both; returns its id and the ids of the tags."""
    query = {"name": "stripes", "classificationType": "Multiclass", **query}
    project = str(account.call("POST", "/projects", params=query)["id"])
    tags = {
        name: str(account.call("POST", f"/projects/{project}/tags", params={"name": name})["id"])
        for name in ("across", "down")
    }
    for name, tag in tags.items():
        files = [("imageData", (f"{name}{number}.jpg", picture(name, number))) for number in range(count)]
        account.call("POST", f"/projects/{project}/images", params={"tagIds": tag}, files=files)
    return project, tags
