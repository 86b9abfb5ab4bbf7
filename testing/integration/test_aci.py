"""Container instances over the command line and the real SDK: groups of the loopback cloud whose servers really run."""

from __future__ import annotations

import base64
import json
import logging
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testing.support.container_instances import CRASHING, DEAF, GROUPS, IDENTITY, REGISTRY, Given, given
from testing.support.places import Place

from azureml_emulator.container_groups.container_process import ContainerProcess
from vision_mlops.azure.clients import vault_client
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.aci import group_changes
from vision_mlops.endpoints.aci.key_vault import KeyStore
from vision_mlops.endpoints.aci.target import ContainerInstances
from vision_mlops.endpoints.polling import polls
from vision_mlops.endpoints.targets import open_target
from vision_mlops.model.bundle import read_bundle, write_bundle

Run = Callable[..., tuple[int, str, str]]
DEPLOY = ("deploy", "--to", "aci", "--model")


@pytest.fixture
def aci(place: Place, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    monkeypatch.setattr(group_changes, "polls", lambda seconds: polls(seconds, 0.25, 0.3))
    return given(place.loopback, tmp_path, monkeypatch)


def shown(run: Run, name: str = "colours") -> Any:
    code, out, err = run("endpoint", "show", name, "--on", "aci", "--json")
    assert code == 0, err
    return json.loads(out)


def tried(run: Run, aci: Given) -> Any:
    code, out, err = run("endpoint", "test", "colours", "--image", str(aci.picture), "--on", "aci", "--json")
    assert code == 0, out + err
    return json.loads(out)[0]["label"]


def answers(url: str, key: str, picture: Path) -> int:
    headers = {"X-Api-Key": key, "Content-Type": "image/png"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, picture.read_bytes(), headers), timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_an_endpoint_from_its_first_version_to_its_end(run: Run, aci: Given, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    printed: list[str] = []

    def call(*words: str) -> str:
        code, out, err = run(*words)
        printed.extend([out, err])
        assert code == 0, err
        return out

    call("--verbose", *DEPLOY, "colours:1", "--cpu", "0.5", "--memory", "1.5", "--workers", "1", "--env", "WORD=hello")
    sent = aci.cloud.groups.sent[0]
    container = sent["properties"]["containers"][0]["properties"]
    assert container["image"] == f"{REGISTRY}/mlops-colours:1-{aci.first.bundle_id[:12]}"
    assert sent["properties"]["imageRegistryCredentials"] == [{"server": REGISTRY, "identity": IDENTITY}]
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert {item["name"]: item["value"] for item in container["environmentVariables"]}["WORD"] == "hello"
    assert sent["properties"]["ipAddress"]["dnsNameLabel"].startswith("colours-")
    made = json.loads(call("endpoint", "list", "--json"))[0]
    assert (made["state"], made["deployments"][0]["version"]) == ("ready", "1")
    assert made["url"].startswith("http://localhost:"), "its name, not its number"
    assert tried(run, aci) == aci.label
    assert "serving colours at http://127.0.0.1:" in call("endpoint", "logs", "colours")
    assert len(call("endpoint", "logs", "colours", "--lines", "1").splitlines()) == 1

    puts = len(aci.cloud.groups.sent)
    call(*DEPLOY, "colours:1", "--workers", "1", "--env", "WORD=hello")
    assert len(aci.cloud.groups.sent) == puts, "the same again changes nothing"

    old = {which: aci.cloud.vault.secrets[f"mlops-colours-{which}"][-1][1] for which in ("primary", "secondary")}
    assert answers(made["url"], old["secondary"], aci.picture) == 200
    assert answers(made["url"], "another", aci.picture) == 401
    call("endpoint", "keys", "colours", "--rotate", "secondary")
    url = shown(run)["url"]
    new = aci.cloud.vault.secrets["mlops-colours-secondary"][-1][1]
    assert [answers(url, key, aci.picture) for key in (old["primary"], new, old["secondary"])] == [200, 200, 401]
    puts = len(aci.cloud.groups.sent)
    call(*DEPLOY, "colours:1", "--workers", "1", "--env", "WORD=hello")
    aci.cloud.vault.deny("set")
    assert "HTTP 403" in run("endpoint", "keys", "colours", "--rotate", "primary")[2]
    assert len(aci.cloud.groups.sent) == puts, (
        "rotating is no other definition, and the container has only keys of the vault"
    )

    aci.push(aci.second)
    call("--verbose", *DEPLOY, "colours:2")
    assert tried(run, aci) != aci.label
    requests = aci.cloud.groups.sent[-1]["properties"]["containers"][0]["properties"]["resources"]["requests"]
    assert requests == {"cpu": 0.5, "memoryInGB": 1.5}, "the service cannot change it, so it stays"

    aci.cloud.vault.deny("delete")
    assert "endpoint 'colours' has been deleted, but its keys have not: " in run("endpoint", "delete", "colours")[2]
    aci.cloud.vault.deny()
    KeyStore(vault_client(AzureSettings.load())).delete("colours")
    assert (aci.cloud.store.children(GROUPS), aci.cloud.vault.secrets) == ([], {})
    written = "".join(printed) + caplog.text
    for key in aci.cloud.vault.values():
        assert key not in written
        assert base64.b64encode(key.encode()).decode().rstrip("=") not in written


def wrong_golden(bundle: Path) -> Path:
    """A bundle that is whole, but does not reproduce its golden examples: its server lives, and is never ready."""
    described = read_bundle(bundle)
    golden = [item.model_copy(update={"probabilities": item.probabilities[::-1]}) for item in described.golden]
    write_bundle(bundle, described.model_copy(update={"golden": golden}))
    return bundle


def failed(run: Run, aci: Given, *words: str) -> str:
    """The error of a first deployment that fails; nothing of it is left."""
    code, out, err = run(*DEPLOY, *(words or ("colours:1",)))
    assert (code, out) == (2, "")
    assert aci.cloud.store.children(GROUPS) == []
    assert aci.cloud.vault.secrets == {}
    assert json.loads(run("endpoint", "list", "--on", "aci", "--json")[1]) == []
    return err


@pytest.mark.slow
def test_what_the_service_refuses(run: Run, aci: Given) -> None:
    aci.cloud.groups.quota = 0
    err = failed(run, aci)
    assert "container group quota 'ContainerGroups' exceeded in region 'westeurope'" in err
    assert "-> delete unused container groups, ask for quota" in err
    aci.cloud.groups.quota = 1
    aci.cloud.groups.taken_labels.add("textile-inspection")
    err = failed(run, aci, "colours:1", "--dns-label", "textile-inspection")
    assert "The DNS name label 'textile-inspection' in container group 'colours' not available" in err
    assert "(DnsNameLabelNotAvailable); the new container group has been deleted" in err
    assert "-> choose another --dns-label" in err
    message = "The requested resource is not available in the location 'westeurope' at this moment. Please retry."
    aci.cloud.groups.fail_next("ServiceUnavailable", message)
    err = failed(run, aci)
    assert message in err
    assert "-> ask for less (--cpu, --memory), choose another AZURE_LOCATION" in err


@pytest.mark.slow
def test_an_image_that_cannot_be_pulled(run: Run, aci: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_AZURE_PULL_IDENTITY", IDENTITY.replace("id-pull", "id-other"))
    assert "unauthorized: authentication required; the new container group has been deleted" in failed(run, aci)
    aci.cloud.groups.images.clear()
    err = failed(run, aci)
    assert f'Failed to pull image "{aci.image(aci.first)}"' in err
    assert "manifest unknown; the new container group has been deleted" in err
    assert "-> push the image (az acr login --name crloopback; docker push" in err
    assert "the role AcrPull on crloopback.azurecr.io" in err


@pytest.mark.slow
def test_a_container_that_crashes_or_is_not_alive(run: Run, aci: Given) -> None:
    aci.push(aci.first, command=CRASHING)
    err = failed(run, aci)
    assert "the container ended with exit code 3, " in err
    assert "the last lines of its log:\n    no bundle in /model" in err
    assert "-> fix what its log says" in err
    aci.push(aci.first, command=DEAF)
    err = failed(run, aci)
    assert "keeps being restarted: Liveness probe failed" in err
    assert "listening to nobody" in err
    assert "must respond to /health/live on port 8000" in err
    assert "colours:1: not ready after 1 s: " in failed(run, aci, "colours:1", "--timeout", "1")


@pytest.mark.slow
def test_a_version_that_is_not_ready_gives_way_to_the_former(run: Run, aci: Given) -> None:
    assert run(*DEPLOY, "colours:1")[0] == 0
    target = open_target("aci")
    target.set_tags("colours", {"team": "inspection"})
    aci.push(aci.second, bundle=wrong_golden(aci.bundles[1]))
    code, _, err = run(*DEPLOY, "colours:2")
    assert code == 2
    assert "endpoint 'colours' with colours:2: it is not ready: " in err
    assert "golden" in err, "the reason that the server gives"
    assert "; colours:1 is served again" in err
    assert "the last lines of its log:\n    " in err
    after = shown(run)
    assert (after["state"], after["deployments"][0]["version"], after["tags"]) == ("ready", "1", {"team": "inspection"})
    assert tried(run, aci) == aci.label
    # A group that hangs in its change is made anew as it was.
    aci.cloud.groups.images.pop(aci.image(aci.second))
    _, _, err = run(*DEPLOY, "colours:2")
    assert "manifest unknown; colours:1 is served again" in err
    assert tried(run, aci) == aci.label
    puts = len(aci.cloud.groups.sent)
    assert "cannot change the size of endpoint 'colours'" in run(*DEPLOY, "colours:2", "--cpu", "2")[2]
    assert len(aci.cloud.groups.sent) == puts
    aci.cloud.faults.fail(
        "containerGroups", status=400, code="InvalidContainerGroupUpdate", method="PUT", retry_after=None
    )
    assert "; it is unchanged" in run(*DEPLOY, "colours:2")[2]
    assert shown(run)["state"] == "ready"
    # A key that could not be handed over is not the valid one in the vault either.
    before = aci.cloud.vault.secrets["mlops-colours-primary"][-1][1]
    aci.cloud.groups.fail_next("ServiceUnavailable", "no room")
    code, _, err = run("endpoint", "keys", "colours", "--rotate", "primary")
    assert code == 2
    assert "; colours:1 is served again" in err
    assert aci.cloud.vault.secrets["mlops-colours-primary"][-1][1] == before
    assert tried(run, aci) == aci.label


@pytest.mark.slow
def test_a_vault_that_says_no(run: Run, aci: Given) -> None:
    for action in ("get", "set"):
        aci.cloud.vault.deny(action)
        code, _, err = run(*DEPLOY, "colours:1")
        assert code == 2
        assert f"secret 'mlops-colours-primary' of {aci.cloud.url}: Caller is not authorized" in err
        assert "(HTTP 403 Forbidden)" in err
        assert "-> ask for the role Key Vault Secrets Officer on the vault of MLOPS_AZURE_KEY_VAULT" in err
    assert aci.cloud.groups.sent == []
    aci.cloud.vault.deny("delete")
    aci.cloud.groups.quota = 0
    _, _, err = run(*DEPLOY, "colours:1")
    assert "quota 'ContainerGroups' exceeded" in err
    assert "its new keys could not be deleted: secret 'mlops-colours-primary'" in err


@pytest.mark.slow
def test_throttling_while_waiting_and_an_interruption(run: Run, aci: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    aci.cloud.faults.throttle("operations", times=50)  # more than the SDK puts up with: it gives up watching
    aci.cloud.faults.throttle("containerGroups", times=2, method="GET")
    code, _, err = run(*DEPLOY, "colours:1")
    assert code == 0, err
    assert {seen.status for seen in aci.cloud.seen("/operations/")} == {429}
    assert shown(run)["state"] == "ready"
    aci.push(aci.second)
    look = group_changes.Changes._look

    def interrupted(self: group_changes.Changes, *given: Any, **named: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return look(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(ContainerProcess, "is_up", property(lambda self: False))  # it takes its time
        with monkeypatch.context() as keyboard:
            keyboard.setattr(group_changes.Changes, "_look", interrupted)
            code, _, err = run(*DEPLOY, "colours:2")
        assert code == 130
        assert (
            "`mlops endpoint show colours --on aci` shows its state, the same `mlops deploy` again continues to wait"
            in err
        )
        changing = shown(run)
        assert (changing["state"], changing["deployments"][0]["version"]) == ("changing", "2")
    code, _, err = run(*DEPLOY, "colours:2")
    assert code == 0, err
    assert len(aci.cloud.groups.sent) == 2
    assert shown(run)["state"] == "ready"


@pytest.mark.slow
def test_what_is_not_set_is_named_and_nothing_is_sent(run: Run, aci: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [
        ((), {"MLOPS_AZURE_KEY_VAULT": ""}, "MLOPS_AZURE_KEY_VAULT is not set"),
        ((), {"MLOPS_AZURE_KEY_VAULT": "kv-vision"}, "set MLOPS_AZURE_KEY_VAULT to the URL of the vault"),
        (
            (),
            {"MLOPS_AZURE_PULL_IDENTITY": ""},
            "MLOPS_AZURE_PULL_IDENTITY is not set, so nothing may pull from crloopback",
        ),
        ((), {"MLOPS_AZURE_CONTAINER_REGISTRY": ""}, "no image is named"),
        (("--dns-label", "No"), {}, "--dns-label 'No' is not a valid label"),
        (("--env", "MLOPS_PORT=1"), {}, "--env MLOPS_PORT: it is set for every container"),
        (("--endpoint", "a--b"), {}, "'a--b' cannot be the name of a container group"),
        (("--port", "80"), {}, "--port: not available with --to aci"),
    ]
    for words, settings, message in cases:
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            code, _, err = run(*DEPLOY, "colours:1", *words)
        assert (code, message in err) == (2, True), (message, err)
    assert (aci.cloud.groups.sent, aci.cloud.vault.secrets) == ([], {})


def test_a_group_of_somebody_else_is_left_alone(run: Run, aci: Given) -> None:
    aci.cloud.store.put(f"{GROUPS}/colours", OTHERS)
    assert "was not created by mlops" in run(*DEPLOY, "colours:1")[2]
    assert json.loads(run("endpoint", "list", "--on", "aci", "--json")[1]) == []
    for words in (("show", "colours"), ("delete", "colours"), ("keys", "colours", "--rotate", "primary")):
        assert "no endpoint 'colours' exists on aci" in run("endpoint", *words, "--on", "aci")[2]
    assert len(aci.cloud.store.children(GROUPS)) == 1


OTHERS: dict[str, Any] = {
    "location": "westeurope",
    "tags": {"made-by": "hand"},
    "properties": {
        "osType": "Linux",
        "provisioningState": "Succeeded",
        "instanceView": {"state": "Running", "events": []},
        "containers": [{"name": "web", "properties": {"image": "nginx", "resources": {"requests": {"cpu": 1}}}}],
    },
}


@pytest.mark.slow
def test_a_group_that_was_stopped_or_has_ended_or_holds_another_model(run: Run, aci: Given) -> None:
    aci.cloud.faults.lose("containerGroups", method="PUT")  # the SDK asks again, and hears that a change is under way
    assert run(*DEPLOY, "colours:1")[0] == 0
    target = ContainerInstances()
    with pytest.raises(DeploymentError, match="has one deployment"):
        target.set_traffic("colours", {"version-1": 100}, {})
    with pytest.raises(DeploymentError, match="mlops endpoint delete colours"):
        target.delete_deployment("colours", "version-1")
    assert target.counts("colours") is None
    stop(target)
    assert shown(run)["state"] == "stopped"
    assert "endpoint 'colours' is stopped" in run(*DEPLOY, "colours:2")[2]
    assert "is stopped" in run("endpoint", "keys", "colours", "--rotate", "primary", "--on", "aci")[2]
    assert run(*DEPLOY, "colours:1")[0] == 0
    assert (len(aci.cloud.groups.sent), shown(run)["state"]) == (2, "ready")
    # One that has ended takes no change anymore; that the new one's image holds the wrong model is found out.
    stop(target)
    aci.cloud.store.get(f"{GROUPS}/colours").properties["instanceView"]["state"] = "Failed"
    assert shown(run)["state"] == "failed"
    aci.push(aci.second, bundle=aci.bundles[0])
    code, _, err = run(*DEPLOY, "colours:2")
    assert code == 2
    assert "its containers have ended for good; creating it again" in err
    assert f"the image contains another model: bundle {aci.first.bundle_id[:12]}, not that of colours:2" in err
    assert "the new container group has been deleted" in err


def stop(target: ContainerInstances) -> None:
    """As somebody does in the portal."""
    groups = target._groups
    groups._client.container_groups.stop(groups._group, "colours")
