"""The emulator's App Service, called by the real SDK: it refuses what the service refuses, and runs what is deployed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests
from testing.support.archives import zip_of
from testing.support.jobs import until
from testing.support.web_apps import STARTUP, small_app

from azureml_emulator.app_service.site_slot import SiteImage
from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.identity.loopback_tokens import LoopbackCredential

if TYPE_CHECKING:
    from azure.mgmt.web import WebSiteManagementClient

NAME = "colours-web"


@pytest.fixture
def web(cloud: EmulatedCloud) -> WebSiteManagementClient:
    from azure.mgmt.web import WebSiteManagementClient

    scope = [f"{cloud.url}/.default"]
    credential: Any = LoopbackCredential()
    client = WebSiteManagementClient(
        credential, cloud.subscription, base_url=cloud.url, credential_scopes=scope, polling_interval=0, retry_total=0
    )
    return client


@pytest.fixture
def processes(cloud: EmulatedCloud) -> Iterator[None]:
    """No process that a test has started is left when the cloud ends."""
    yield
    cloud.stop()
    assert not children()


def children() -> list[int]:
    """Processes of web apps that this process has started."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/cmdline", "rb") as file:  # noqa: PTH123
                    line = file.read()
            except OSError:
                continue
            if b"app.py" in line.split(b"\0"):
                found.append(int(entry.name))
    return found


def plan(web: Any, cloud: EmulatedCloud, sku: str = "S1", name: str = "plan") -> Any:
    body = {"location": "westeurope", "kind": "linux", "sku": {"name": sku}, "properties": {"reserved": True}}
    return web.app_service_plans.begin_create_or_update(cloud.group, name, body).result()


def site(web: Any, cloud: EmulatedCloud, slot: str = "", **config: Any) -> Any:
    farm = web.app_service_plans.get(cloud.group, "plan").id
    config = {"linuxFxVersion": "PYTHON|3.11", "appCommandLine": STARTUP, **config}
    properties = {"serverFarmId": farm, "reserved": True, "httpsOnly": True, "siteConfig": config}
    body = {
        "location": "westeurope",
        "kind": "app,linux",
        "identity": {"type": "SystemAssigned"},
        "properties": properties,
    }
    if slot:
        return web.web_apps.begin_create_or_update_slot(cloud.group, NAME, slot, body).result()
    return web.web_apps.begin_create_or_update(cloud.group, NAME, body).result()


def publish(made: Any, content: bytes, **headers: str) -> requests.Response:
    host = next(item.name for item in made.properties.host_name_ssl_states if item.host_type == "Repository")
    return requests.post(f"https://{host}/api/publish?type=zip", content, headers=headers, timeout=60)


def bearer(cloud: EmulatedCloud) -> dict[str, str]:
    return {"Authorization": f"Bearer {LoopbackCredential().get_token(f'{cloud.url}/.default').token}"}


def page(made: Any, path: str = "/", **headers: str) -> requests.Response:
    return requests.get(f"https://{made.properties.default_host_name}{path}", headers=headers, timeout=30)


def text(made: Any) -> Any:
    answer = page(made)
    return answer.json()["text"] if answer.ok and answer.text.startswith("{") else answer.status_code


@pytest.mark.slow
def test_a_site_runs_what_is_deployed_with_its_settings(web: Any, cloud: EmulatedCloud, processes: None) -> None:
    plan(web, cloud)
    made = site(web, cloud)
    assert made.identity.principal_id
    assert web.web_apps.list_application_settings(cloud.group, NAME).properties == {}
    assert page(made).status_code == 200
    assert page(made, "/health").status_code == 404, "the service's own page answers at / only"
    cloud.vault.secrets["key"] = [("1", "from the vault")]
    settings = {"WORD": "hello", "SECRET": f"@Microsoft.KeyVault(SecretUri={cloud.url}/secrets/key)"}
    web.web_apps.update_application_settings(cloud.group, NAME, {"properties": settings})
    answer = publish(made, small_app("one"), **bearer(cloud))
    assert (answer.status_code, answer.json()["status"], answer.json()["complete"]) == (200, 4, True)
    until(lambda: text(made) == "one", 20)
    seen = page(made, **{"X-MS-CLIENT-PRINCIPAL-NAME": "an impostor"}).json()
    assert (seen["settings"]["WORD"], seen["settings"]["SECRET"]) == ("hello", "from the vault")
    assert seen["settings"]["WEBSITE_SITE_NAME"] == NAME
    assert "AZURE_TENANT_ID" not in seen["settings"], "nothing of this machine leaks in"
    assert (seen["headers"]["X-Forwarded-Proto"], seen["headers"]["Host"]) == (
        "https",
        made.properties.default_host_name,
    )
    assert "X-Ms-Client-Principal-Name" not in seen["headers"]
    web.web_apps.update_application_settings(cloud.group, NAME, {"properties": {"WORD": "changed"}})
    # While it starts again with them, its error page may answer.
    until(lambda: (seen := page(made)).ok and seen.json()["settings"]["WORD"] == "changed", 20)
    web.web_apps.stop(cloud.group, NAME)
    assert page(made).status_code == 503
    web.web_apps.delete(cloud.group, NAME)
    assert [item.name for item in web.app_service_plans.list_by_resource_group(cloud.group)] == []


@pytest.mark.slow
def test_a_start_that_fails_is_told_by_the_log(web: Any, cloud: EmulatedCloud, processes: None) -> None:
    plan(web, cloud)
    made = site(web, cloud)
    assert publish(made, small_app("one", code=3), **bearer(cloud)).status_code == 200

    def log() -> str:
        return b"".join(web.web_apps.get_web_site_container_logs(cloud.group, NAME)).decode()

    until(lambda: "Container has exited with code 3, failing site start" in log(), 20)
    assert "no module named anything" in log()
    assert page(made).status_code == 503


def test_publishing_asks_for_a_token_and_for_a_zip(web: Any, cloud: EmulatedCloud) -> None:
    plan(web, cloud)
    made = site(web, cloud)
    assert publish(made, b"").status_code == 401
    assert publish(made, b"", Authorization="Basic dXNlcjpwYXNz").status_code == 401
    other = LoopbackCredential("https://ml.azure.com").get_token("x").token
    assert publish(made, b"", Authorization=f"Bearer {other}").status_code == 401
    for content, reason in ((b"not a zip", "not a zip"), (zip_of({"../out": b""}), "outside the site")):
        answer = publish(made, content, **bearer(cloud))
        assert (answer.status_code, answer.json()["status"]) == (400, 3)
        lines = requests.get(answer.json()["log_url"], headers=bearer(cloud), timeout=10).json()
        assert any(reason in line["message"] for line in lines)


@pytest.mark.slow
def test_requirements_that_cannot_be_installed_fail_the_deployment(web: Any, cloud: EmulatedCloud) -> None:
    plan(web, cloud)
    made = site(web, cloud, appSettings=[{"name": "SCM_DO_BUILD_DURING_DEPLOYMENT", "value": "true"}])
    answer = publish(made, small_app("one", requirements="./nowhere\n"), **bearer(cloud))
    assert (answer.status_code, answer.json()["status"]) == (400, 3)
    lines = requests.get(answer.json()["log_url"], headers=bearer(cloud), timeout=10).json()
    assert any("nowhere" in line["message"] for line in lines)


@pytest.mark.slow
def test_a_swap_warms_up_and_leaves_sticky_settings(web: Any, cloud: EmulatedCloud, processes: None) -> None:
    plan(web, cloud)
    made, slot = site(web, cloud), site(web, cloud, "staging")
    assert slot.name == f"{NAME}/staging"
    names = {"properties": {"appSettingNames": ["PLACE"]}}
    assert web.web_apps.update_slot_configuration_names(cloud.group, NAME, names).properties.app_setting_names == [
        "PLACE"
    ]
    web.web_apps.update_application_settings(cloud.group, NAME, {"properties": {"PLACE": "front", "N": "1"}})
    web.web_apps.update_application_settings_slot(
        cloud.group, NAME, "staging", {"properties": {"PLACE": "back", "N": "2"}}
    )
    publish(made, small_app("one"), **bearer(cloud))
    publish(slot, small_app("two"), **bearer(cloud))
    until(lambda: (text(made), text(slot)) == ("one", "two"), 20)
    swap = {"targetSlot": "staging", "preserveVnet": True}
    web.web_apps.begin_swap_slot_with_production(cloud.group, NAME, swap).result()
    assert (text(made), page(made).json()["settings"]["PLACE"], page(made).json()["settings"]["N"]) == (
        "two",
        "front",
        "2",
    )
    assert web.web_apps.list_application_settings(cloud.group, NAME).properties == {"PLACE": "front", "N": "2"}
    behind = web.web_apps.list_application_settings_slot(cloud.group, NAME, "staging").properties
    assert behind == {"PLACE": "back", "N": "1"}
    until(lambda: text(slot) == "one" and page(slot).json()["settings"]["PLACE"] == "back", 20)


@pytest.mark.slow
def test_a_swap_with_a_slot_that_is_not_warm_changes_nothing(
    web: Any, cloud: EmulatedCloud, processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.core.exceptions import HttpResponseError

    from azureml_emulator.app_service import slot_swap

    monkeypatch.setattr(slot_swap, "_WARM_UP_SECONDS", 1.0)
    plan(web, cloud)
    warm = {"WEBSITE_SWAP_WARMUP_PING_PATH": "/warm", "WEBSITE_SWAP_WARMUP_PING_STATUSES": "200,202"}
    made = site(web, cloud)
    slot = site(web, cloud, "staging", appSettings=[{"name": name, "value": value} for name, value in warm.items()])
    publish(made, small_app("one"), **bearer(cloud))
    publish(slot, small_app("two", page=500), **bearer(cloud))
    until(lambda: text(made) == "one" and page(slot, "/health").ok, 20)
    with pytest.raises(HttpResponseError, match="'staging' slot did not respond to http ping"):
        web.web_apps.begin_swap_slot_with_production(cloud.group, NAME, {"targetSlot": "staging"}).result()
    assert (text(made), page(slot).status_code) == ("one", 500)


@pytest.mark.slow
def test_a_container_is_pulled_with_the_identity_of_the_site(web: Any, cloud: EmulatedCloud, processes: None) -> None:
    import sys

    image = "crloopback.azurecr.io/app@sha256:" + "0" * 64
    server = (
        "import http.server as h,os;h.test(h.SimpleHTTPRequestHandler,bind='127.0.0.1',port=int(os.environ['PORT']))"
    )
    cloud.sites.images[image] = SiteImage((sys.executable, "-c", server))
    plan(web, cloud)
    made = site(web, cloud, linuxFxVersion=f"DOCKER|{image}")
    until(lambda: b"unauthorized" in b"".join(web.web_apps.get_web_site_container_logs(cloud.group, NAME)), 20)
    assert page(made).status_code == 503
    web.web_apps.update_configuration(cloud.group, NAME, {"properties": {"acrUseManagedIdentityCreds": True}})
    until(lambda: page(made).status_code == 200, 20)


@pytest.mark.slow
def test_an_instance_that_is_not_healthy_is_replaced(
    web: Any, cloud: EmulatedCloud, processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azureml_emulator.app_service import site_process

    monkeypatch.setattr(site_process, "_HEALTH_SECONDS", 0.05)
    plan(web, cloud)
    made = site(web, cloud, healthCheckPath="/health")
    publish(made, small_app("one", health=302), **bearer(cloud))
    until(lambda: "replacing the instance" in cloud.sites.slots[NAME, "production"].log(), 20)


def test_what_the_service_refuses(web: Any, cloud: EmulatedCloud) -> None:
    from azure.core.exceptions import HttpResponseError

    def refused(call: Any, status: int, words: str) -> None:
        with pytest.raises(HttpResponseError, match=words) as caught:
            call()
        assert caught.value.status_code == status

    def available(name: str) -> Any:
        found = web.check_name_availability({"name": name, "type": "Microsoft.Web/sites"})
        return found.name_available, found.reason

    cloud.sites.plans.quota = 0
    refused(lambda: plan(web, cloud), 401, "without additional quota")
    cloud.sites.plans.quota = 1
    refused(lambda: plan(web, cloud, "X9"), 400, "SkuDescription")
    plan(web, cloud, "B1")
    cloud.sites.taken_names.add(NAME)
    assert [available(name) for name in (NAME, "-", "other")] == [
        (False, "AlreadyExists"),
        (False, "Invalid"),
        (True, ""),
    ]
    refused(lambda: site(web, cloud), 409, f"given name {NAME} already exists")
    cloud.sites.taken_names.clear()
    refused(lambda: web.web_apps.get(cloud.group, NAME), 404, "was not found")
    site(web, cloud)
    refused(lambda: site(web, cloud, "staging"), 409, "number of slots allowed for the 'Basic' SKU")
    refused(lambda: web.app_service_plans.delete(cloud.group, "plan"), 409, "has web app")
    cloud.sites.deny("sites/config/write")
    update = {"properties": {"A": "1"}}
    refused(
        lambda: web.web_apps.update_application_settings(cloud.group, NAME, update), 403, "does not have authorization"
    )


def test_basic_credentials_can_be_switched_off(web: Any, cloud: EmulatedCloud) -> None:
    plan(web, cloud)
    site(web, cloud)
    assert web.web_apps.get_scm_allowed(cloud.group, NAME).properties.allow is True
    web.web_apps.update_scm_allowed(cloud.group, NAME, {"properties": {"allow": False}})
    assert web.web_apps.get_scm_allowed(cloud.group, NAME).properties.allow is False
    assert web.web_apps.get_ftp_allowed(cloud.group, NAME).properties.allow is True
