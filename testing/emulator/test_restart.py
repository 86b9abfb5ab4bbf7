"""Web apps, container groups and the account's switch, after all of the emulator was killed at once and started again."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from testing.support.emulator_process import EmulatorProcess, emulator
from testing.support.jobs import until
from testing.support.kubernetes_balancer import free_port
from testing.support.web_apps import STARTUP, small_app

from azureml_emulator.certificates import Certificates
from azureml_emulator.container_groups.registry_images import RegistryImage
from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.https_server import HttpsServer, guarded
from azureml_emulator.identity.loopback_tokens import token
from azureml_emulator.rest.cloud_addresses import CloudAddresses
from azureml_emulator.storage.azurite import Azurite

pytestmark = pytest.mark.slow
GROUP = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers"
SITE, PLAN = f"{GROUP}/Microsoft.Web/sites/shop", f"{GROUP}/Microsoft.Web/serverfarms/plan"
CONTAINERS = f"{GROUP}/Microsoft.ContainerInstance/containerGroups/demo"
ACCOUNT = f"{GROUP}/Microsoft.Storage/storageAccounts/devstoreaccount1"
ANSWERING = """\
import http.server, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(pathlib.Path("root/secrets/word").read_bytes())
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.serve_forever()
"""


def shown(running: EmulatorProcess, path: str) -> Any:
    answer = running.call("GET", path)
    answer.raise_for_status()
    found = answer.json()
    found["properties"].pop("lastModifiedTimeUtc", None)  # of a web app, the time of the call
    return found


def put(running: EmulatorProcess, path: str, body: Any) -> None:
    answer = running.call("PUT", path, {"location": "westeurope", **body})
    assert answer.status_code in (200, 201, 202), answer.text


def web_page(running: EmulatorProcess) -> Any:
    with running.session() as session:
        answer = session.get("https://shop.azurewebsites.net/", timeout=30)
    return answer.json()["settings"]["WORD"] if answer.text.startswith("{") else answer.status_code


def container_group(image: str) -> Any:
    container = {
        "image": image,
        "resources": {"requests": {"cpu": 1, "memoryInGB": 1}},
        "ports": [{"port": 80}],
        "volumeMounts": [{"name": "words", "mountPath": "/secrets"}],
    }
    return {
        "osType": "Linux",
        "containers": [{"name": "one", "properties": container}],
        "volumes": [{"name": "words", "secret": {"word": "aGVsbG8="}}],
        "ipAddress": {"type": "Public", "ports": [{"port": 80}]},
    }


@pytest.mark.timeout(300)
def test_web_apps_and_groups_are_there_again_after_everything_was_killed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with emulator(state) as first:
        put(first, PLAN, {"kind": "linux", "sku": {"name": "S1"}, "properties": {"reserved": True}})
        config = {"linuxFxVersion": "PYTHON|3.11", "appCommandLine": STARTUP}
        put(first, SITE, {"kind": "app,linux", "properties": {"serverFarmId": PLAN, "siteConfig": config}})
        first.call("PUT", f"{SITE}/config/appsettings", {"properties": {"WORD": "kept"}}).raise_for_status()
        with first.session() as session:
            url = "https://shop.scm.azurewebsites.net/api/publish?type=zip"
            headers = {"Authorization": f"Bearer {first.token()}"}
            session.post(url, small_app("one"), headers=headers, timeout=60).raise_for_status()
        until(lambda: web_page(first) == "kept", 60)
        put(first, CONTAINERS, {"properties": container_group("registry.example/any:1")})
        first.call("PATCH", ACCOUNT, {"properties": {"allowSharedKeyAccess": False}}).raise_for_status()
        until(lambda: shown(first, PLAN)["properties"]["provisioningState"] == "Succeeded", 30)
        before = [shown(first, path) for path in (PLAN, SITE)]
        for process in (first.process.pid, *(item.pid for item in first.descendants())):
            psutil.Process(process).send_signal(signal.SIGKILL)
        first.process.wait()
    with emulator(state) as second:
        assert [shown(second, path) for path in (PLAN, SITE)] == before
        assert shown(second, ACCOUNT)["properties"]["allowSharedKeyAccess"] is False
        until(lambda: web_page(second) == "kept", 60)
        (found,) = shown(second, CONTAINERS)["properties"]["containers"]
        assert "not found: manifest unknown" in str(found["properties"]["instanceView"]["events"])
        assert second.stop() == 0
        assert not second.descendants()


@contextmanager
def opened(folder: Path, azurite: Azurite, command: tuple[str, ...]) -> Iterator[EmulatedCloud]:
    """A cloud in this process, which has an image to pull, with what an earlier one left in the folder."""
    certificates = Certificates.make(folder / "tls")
    cloud = EmulatedCloud(azurite, folder / "work", certificates, database=folder / "resources.db")
    cloud.groups.images["words"] = RegistryImage(command=command)
    server = HttpsServer(certificates)
    cloud.addresses = CloudAddresses.loopback(server.url)
    cloud.operations.alone = 0.1
    server.start(guarded(cloud.routes(), cloud.rules))
    try:
        if not cloud.restore():
            cloud.set_up()
        yield cloud
    finally:
        cloud.keep()
        cloud.stop()
        cloud.store.close()
        server.stop()


def test_groups_run_again_unless_they_were_stopped_or_refused(tmp_path: Path, azurite: Azurite) -> None:
    port, script = free_port(), tmp_path / "answering.py"
    script.write_text(ANSWERING)

    def call(cloud: EmulatedCloud, method: str, name: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {token(cloud.url)}"}
        with requests.Session() as session:
            session.trust_env, session.verify = False, str(tmp_path / "tls" / "authority.pem")
            answer = session.request(
                method, f"{cloud.url}{CONTAINERS}-{name}?api-version=2023-05-01", json=body, headers=headers, timeout=30
            )
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def state(cloud: EmulatedCloud, name: str) -> Any:
        return call(cloud, "GET", name)["properties"]["instanceView"]["state"]

    def word() -> str:
        try:
            return requests.get(f"http://127.0.0.1:{port}", timeout=5).text
        except requests.ConnectionError:
            return ""

    command = (sys.executable, str(script), str(port))
    body = {"location": "westeurope", "properties": container_group("words")}
    with opened(tmp_path, azurite, command) as cloud:
        call(cloud, "PUT", "stopped", body)
        until(lambda: state(cloud, "stopped") == "Running" and word() == "hello", 30)
        call(cloud, "POST", "stopped/stop")
        cloud.groups.fail_next("NoCapacity", "none left")
        call(cloud, "PUT", "refused", body)
        until(lambda: call(cloud, "GET", "refused")["properties"]["provisioningState"] == "Failed", 30)
        call(cloud, "PUT", "running", body)  # nobody waits for the end of this change
    assert word() == ""
    with opened(tmp_path, azurite, command) as cloud:
        until(lambda: state(cloud, "running") == "Running" and word() == "hello", 30)
        assert [state(cloud, name) for name in ("stopped", "refused")] == ["Stopped", "Pending"]
        call(cloud, "DELETE", "running")
        call(cloud, "POST", "stopped/start")
        until(lambda: word() == "hello", 30)
