"""``mlops app deploy`` against the emulator, whose web apps really run: the whole way, and each way to fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image as Picture
from testing.support.bundles import make_bundle
from testing.support.jobs import until
from testing.support.places import Place
from testing.support.prepared_data import COLOURS
from testing.support.scoring_servers import serving
from testing.support.web_apps import small_app

from azureml_emulator.app_service.site_slot import PRODUCTION, SiteImage
from azureml_emulator.emulated_cloud import EmulatedCloud
from vision_mlops.endpoints.appservice import app_deployment, zip_publishing
from vision_mlops.endpoints.contract import Access, Endpoint, EndpointStatus
from vision_mlops.endpoints.polling import polls

Run = Callable[..., tuple[int, str, str]]
NAME = "colours-web"
ENDPOINT = "https://colours.westeurope.inference.ml.azure.com/score"
KEY = "key-of-the-endpoint"


class World:
    """The cloud, and the command that deploys to it."""

    def __init__(self, cloud: EmulatedCloud, run: Run, folder: Path) -> None:
        self.cloud = cloud
        self._run = run
        self._folder = folder
        self.printed = ""

    def zip(self, text: str, **how: Any) -> Path:
        """An app in a zip."""
        file = self._folder / f"{text}.zip"
        file.write_bytes(small_app(text, **how))
        return file

    def deploy(self, package: Path | None, *words: str) -> tuple[int, str, str]:
        given = ("--package", str(package)) if package else ()
        ended = self._run("app", "deploy", NAME, "--endpoint", ENDPOINT, "--timeout", "20", *given, *words)
        self.printed += ended[1] + ended[2]
        return ended

    def good(self, package: Path | None, *words: str) -> Any:
        """Deploy what works: what the command says about it."""
        code, out, err = self.deploy(package, "--json", *words)
        assert code == 0, out + err
        return json.loads(out)

    def bad(self, package: Path | None, *words: str) -> str:
        """Deploy what fails: the error."""
        code, _, err = self.deploy(package, *words)
        assert code == 2, err
        return err

    def slot(self, name: str = PRODUCTION) -> Any:
        return self.cloud.sites.slots[NAME, name]

    def text(self, name: str = PRODUCTION) -> Any:
        """What an app's page holds; the status where that is not 200."""
        answer = requests.get(f"https://{self.slot(name).host}/", timeout=10)
        return answer.json()["text"] if answer.status_code == 200 and answer.text[0] == "{" else answer.status_code


@pytest.fixture
def world(place: Place, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for module in (app_deployment, zip_publishing):
        monkeypatch.setattr(module, "polls", lambda seconds, first: polls(seconds, 0.1, 0.2))
    monkeypatch.setattr(app_deployment, "_AGAIN_SECONDS", 2.0)
    monkeypatch.setenv("MLOPS_APP_ENDPOINT_KEY", KEY)
    return World(place.loopback, run, tmp_path)


@pytest.mark.slow
def test_from_the_first_release_to_a_bad_one_that_goes_back(world: World) -> None:
    first = world.good(world.zip("one"))
    assert (first["changed"], first["slot"], world.text()) == (True, "staging", "one")
    body = world.slot().body
    assert body["identity"] == {"type": "SystemAssigned"}
    assert (body["properties"]["httpsOnly"], body["properties"]["reserved"]) == (True, True)
    wanted = {
        "linuxFxVersion": "PYTHON|3.11", "minTlsVersion": "1.2", "ftpsState": "Disabled", "alwaysOn": True,
        "healthCheckPath": "/health", "appCommandLine": "sh startup.sh",
    }  # fmt: skip
    for name in (PRODUCTION, "staging"):
        assert {key: world.slot(name).config[key] for key in wanted} == wanted
        assert world.slot(name).policies == {"scm": False, "ftp": False}
    settings = world.slot().settings
    assert settings["MLOPS_APP_ENDPOINT"] == ENDPOINT
    assert settings["MLOPS_RELEASE"] == first["release"]
    assert len(settings["MLOPS_APP_SECRET_KEY"]) == 64

    sent = len(world.cloud.sites.sent)
    again = world.good(world.zip("one"))
    assert (again["changed"], again["release"]) == (False, first["release"])
    changes = {path for path, _ in world.cloud.sites.sent[sent:]}
    assert not {path for path in changes if "settings" in path or "swap" in path}, "nothing that restarts an app"
    assert not world.cloud.seen("publish", "POST")[1:]

    world.slot().settings["WORD"] = "set by hand"
    second = world.good(world.zip("two"))
    assert second["release"] != first["release"]
    assert (world.text(), world.text("staging")) == ("two", "one")
    assert world.slot().settings["WORD"] == "set by hand", "what is not given stays"
    assert world.slot().settings["MLOPS_APP_SECRET_KEY"] == settings["MLOPS_APP_SECRET_KEY"], "sessions go on"

    error = world.bad(world.zip("three", health=500), "--timeout", "3")
    assert "is not healthy in slot staging: /health responds with HTTP 500; production is unchanged" in error
    assert (world.text(), world.slot().settings["MLOPS_RELEASE"]) == ("two", second["release"])
    swaps = world.cloud.seen("slotsswap", "POST")
    assert len(swaps) == 2
    for secret in (KEY, settings["MLOPS_APP_SECRET_KEY"]):
        assert secret not in world.printed


@pytest.mark.slow
def test_a_release_waits_in_its_slot_until_it_is_swapped_in(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.good(world.zip("one"))
    outputs = tmp_path / "outputs"
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "page"))
    tried = world.good(world.zip("two"), "--no-swap", "--github")
    assert (world.text(), world.text("staging")) == ("one", "two")
    assert tried["url"] == f"https://{world.slot('staging').host}"
    assert outputs.read_text() == f"url={tried['url']}\nrelease={tried['release']}\n"
    assert not world.cloud.seen("slotsswap", "POST")[1:], "the first release was swapped in, the second was not"
    published = len(world.cloud.seen("publish", "POST"))
    live = world.good(world.zip("two"))
    assert (live["release"], world.text()) == (tried["release"], "two")
    assert live["url"] == f"https://{world.slot().host}"
    assert len(world.cloud.seen("publish", "POST")) == published, "what was tried is what is swapped in"


class NamedEndpoint:
    """A target with one endpoint that takes a key."""

    def endpoint(self, name: str) -> Endpoint:
        return Endpoint(name, "managed", EndpointStatus.READY, ENDPOINT, "key", ())

    def access(self, name: str) -> Access:
        return Access(ENDPOINT, {"Authorization": f"Bearer {KEY}"})


@pytest.mark.slow
def test_the_key_of_an_endpoint_that_is_named_goes_to_the_vault(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLOPS_APP_ENDPOINT_KEY")
    monkeypatch.setenv("MLOPS_AZURE_KEY_VAULT", world.cloud.url)
    monkeypatch.setattr("vision_mlops.cli.app.endpoint_choice.open_target", lambda name: NamedEndpoint())
    words = ("app", "deploy", NAME, "--on", "managed", "--timeout", "20", "--package", str(world.zip("one")))
    assert run(*words, "--endpoint", "colours", "--dry-run")[0] == 0
    assert not world.cloud.vault.secrets
    code, out, err = run(*words, "--endpoint", "colours")
    assert code == 0, err
    reference = world.slot().settings["MLOPS_APP_ENDPOINT_KEY"]
    assert reference == f"@Microsoft.KeyVault(SecretUri={world.cloud.url}/secrets/colours-app-key/)"
    assert world.slot().settings["MLOPS_APP_ENDPOINT"] == ENDPOINT
    shown = requests.get(f"https://{world.slot().host}/", timeout=10).json()["settings"]
    assert shown["MLOPS_APP_ENDPOINT_KEY"] == KEY, "App Service reads the secret"
    assert KEY not in out + err
    assert run(*words, "--endpoint", "colours")[0] == 0
    assert len(world.cloud.vault.secrets["colours-app-key"]) == 1, "the same key is not stored again"
    code, _, err = run(*words, "--endpoint", ENDPOINT)
    assert (code, "--on needs the name of an endpoint" in err) == (2, True)


def test_without_slots_nothing_can_be_tried_first(world: World) -> None:
    error = world.bad(world.zip("one"), "--sku", "B1", "--no-swap")
    assert "has no slots" in error
    assert not world.cloud.seen("publish", "POST")


@pytest.mark.slow
def test_a_release_that_breaks_in_production_is_swapped_back(world: World) -> None:
    first = world.good(world.zip("one"))
    world.cloud.sites.stick(NAME, "PLACE")
    world.slot().settings["PLACE"] = "front"
    error = world.bad(world.zip("two", front=500), "--timeout", "5")
    assert "is not healthy in production: its first page responds with HTTP 500" in error
    assert f"release {first['release']} is live again" in error
    until(lambda: (world.text(), world.text("staging")) == ("one", "two"), 10)
    assert len(world.cloud.seen("slotsswap", "POST")) == 3


@pytest.mark.slow
def test_a_start_that_fails_shows_the_log_without_secrets(world: World) -> None:
    error = world.bad(world.zip("one", code=3), "--timeout", "3")
    assert "| no module named anything; key ***" in error
    assert "failing site start" in error
    assert KEY not in world.printed


@pytest.mark.slow
def test_a_zip_that_cannot_be_built_shows_the_log(world: World) -> None:
    error = world.bad(world.zip("one", requirements="./nowhere\n"))
    assert "the zip cannot be built" in error
    assert "nowhere" in error
    assert world.text() == 200, "production still waits for content"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("collection", "kind", "method"),
    [
        ("publish", "drop", "POST"),
        ("publish", "lose", "POST"),
        ("slotsswap", "lose", "POST"),
        ("slots", "drop", "PUT"),
        ("deployments", "drop", "GET"),
    ],
)
def test_a_connection_that_breaks_ends_in_one_swap(world: World, collection: str, kind: str, method: str) -> None:
    """Either the command gets over it, or it says how to go on, and the same command does."""
    getattr(world.cloud.faults, kind)(collection, 1, method)
    code, _, err = world.deploy(world.zip("one"))
    assert world.cloud.faults.pending == 0
    if code:
        assert "run the same command again, which continues where it stopped" in err
        world.good(world.zip("one"))
    assert world.text() == "one"
    assert len(world.cloud.seen("slotsswap", "POST")) == 1


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*words: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(app_deployment.AppDeployment, "_swap", stop)
        code, _, err = world.deploy(world.zip("one"))
    assert code == 130
    assert "the same command again continues where it stopped" in err
    published = len(world.cloud.seen("publish", "POST"))
    assert world.good(world.zip("one"))["changed"] is True
    assert world.text() == "one"
    assert len(world.cloud.seen("publish", "POST")) == published, "the zip is there already"


@pytest.mark.slow
def test_one_that_was_stopped_after_its_swap_is_looked_at_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.good(world.zip("one"))
    world.cloud.sites.stick(NAME, "PLACE")
    world.slot().settings["PLACE"] = "front"

    def stop(*words: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(app_deployment.AppDeployment, "_swap_back", stop)
        assert world.deploy(world.zip("two", front=500), "--timeout", "3")[0] == 130
    assert world.text() == 500
    assert "is live again" in world.bad(world.zip("two", front=500), "--timeout", "3")
    assert world.text() == "one"


@pytest.mark.slow
def test_a_plan_without_slots_is_deployed_to_in_place(world: World) -> None:
    made = world.good(world.zip("one"), "--sku", "B1")
    assert (made["slot"], world.text()) == ("", "one")
    assert "has size B1, which has no slots: the release replaces the former one in place" in world.printed
    assert world.cloud.seen("slots") == []
    assert "plan 'asp-colours-web' has size B1, not S1" in world.bad(world.zip("two"), "--sku", "S1")
    error = world.bad(world.zip("three", page=500), "--timeout", "3")
    assert "its first page responds with HTTP 500; there is no slot, so the former release is gone" in error


@pytest.mark.slow
def test_an_image_runs_by_its_digest_and_with_the_identity(world: World) -> None:
    image = f"crvision.azurecr.io/mlops-app@sha256:{'0' * 64}"
    source = small_app("image")
    folder = world.zip("image").parent / "image"
    from azureml_emulator.app_service.site_content import unpack

    unpack(source, folder)
    world.cloud.sites.images[image] = SiteImage((sys.executable, str(folder / "app.py")))
    made = world.good(None, "--image", image)
    assert (world.text(), world.slot().config["linuxFxVersion"]) == ("image", f"DOCKER|{image}")
    assert world.slot().config["acrUseManagedIdentityCreds"] is True
    assert world.cloud.seen("publish") == []
    roles = " ".join(made["role_commands"])
    for slot in (PRODUCTION, "staging"):
        assert world.slot(slot).principal in roles
    assert '--role "AcrPull"' in roles
    assert "/registries/crvision" in roles
    missing = image.replace("0" * 64, "1" * 64)
    error = world.bad(None, "--image", missing, "--timeout", "3")
    assert "manifest unknown" in error
    assert world.text() == "image"


def test_roles_are_told_for_both_identities(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from vision_mlops.config.azure_settings import AzureSettings
    from vision_mlops.endpoints.appservice.role_commands import role_commands

    settings = AzureSettings.load()
    values = {
        "MLOPS_APP_ENDPOINT": ENDPOINT,
        "MLOPS_APP_CORRECTIONS": "https://stvision.blob.core.windows.net/corrections",
    }
    found = role_commands(settings, "", values, ["a", "b"])
    assert [line.split("--assignee-object-id ")[1].split()[0] for line in found] == ["a", "b", "a", "b"]
    assert '"AzureML Data Scientist"' in found[0]
    assert found[0].endswith("/workspaces/ws/onlineEndpoints/colours")
    assert found[2].endswith('--role "Storage Blob Data Contributor" --scope ' + found[2].split("--scope ")[1])
    assert found[2].endswith("/storageAccounts/stvision")
    assert (
        role_commands(settings, "", {**values, "MLOPS_APP_ENDPOINT_KEY": "k", "MLOPS_APP_CORRECTIONS": ""}, ["a"]) == ()
    )


@pytest.mark.parametrize(
    ("prepare", "words", "hint"),
    [
        (lambda sites: setattr(sites.plans, "quota", 0), "without additional quota", "ask for quota of App Service"),
        (
            lambda sites: sites.taken_names.add(NAME),
            "the name 'colours-web' of the web app is not available",
            "another name",
        ),
        (lambda sites: sites.deny("sites/write"), "does not have authorization", "Website Contributor"),
        (lambda sites: sites.deny("sites/slots/write"), "does not have authorization", "Website Contributor"),
    ],
)
def test_what_azure_refuses_is_told_with_what_to_do(
    world: World, prepare: Callable[[Any], None], words: str, hint: str
) -> None:
    prepare(world.cloud.sites)
    error = world.bad(world.zip("one"))
    assert words in error
    assert hint in error.split("->")[1]
    assert "Traceback" not in error
    assert "Content: {" not in error, "the answer itself is not a message"


@pytest.mark.slow
def test_a_web_app_of_others_is_left_alone(world: World) -> None:
    world.good(world.zip("one"), "--sku", "B1")
    del world.slot().body["tags"]
    sent = len(world.cloud.sites.sent)
    assert "the web app 'colours-web' exists and was not created by mlops" in world.bad(world.zip("two"))
    assert len(world.cloud.sites.sent) == sent


def test_a_dry_run_tells_all_but_secrets_and_sends_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_APP_TITLE", "Colours of the mill")
    monkeypatch.setenv("MLOPS_APP_CORRECTIONS", f"https://st.blob.core.windows.net/c?sv=1&sig={KEY}")
    code, out, err = world.deploy(world.zip("one"), "--dry-run", "--resource-group", "rg-other")
    assert (code, err) == (0, "")
    for words in (
        "in resource group rg-other", "plan asp-colours-web: Linux, P0v3, westeurope", "slot staging",
        "MLOPS_APP_TITLE=Colours of the mill", "MLOPS_APP_ENDPOINT_KEY=***", "swap slot staging with production",
    ):  # fmt: skip
        assert words in out
    assert KEY not in out
    code, out, err = world.deploy(world.zip("one"), "--dry-run", "--json", "--endpoint", "http://127.0.0.1:8000")
    assert "MLOPS_APP_TITLE=Colours of the mill" in "\n".join(json.loads(out)["steps"])
    assert code == 0
    assert "http://127.0.0.1:8000 is an address of this machine, which App Service cannot reach" in err
    assert KEY not in out
    monkeypatch.setenv("MLOPS_APP_SAMPLES", str(world.zip("one").parent))
    code, out, err = world.deploy(world.zip("one"), "--dry-run")
    assert (code, out) == (2, "")
    assert "MLOPS_APP_SAMPLES names a folder on this machine" in err
    assert world.cloud.seen() == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--image", "mlops-app:latest"], "does not name an image by its digest"),
        (["--sku", "Standard_DS3_v2"], "--sku: unknown size 'Standard_DS3_v2'"),
        (["--slot", "production"], "--slot 'production' is not a valid name"),
        (["--plan", "a plan"], "--plan 'a plan' is not a valid name"),
        (["--package", "nowhere.zip"], "nowhere.zip cannot be read"),
        (["--endpoint", "colours"], "MLOPS_APP_ENDPOINT"),
        (["--image", f"r.azurecr.io/a@sha256:{'0' * 64}", "--package", "app.zip"], "cannot be used together"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_sent(world: World, words: list[str], told: str) -> None:
    package = None if {"--image", "--package"} & set(words) else world.zip("one")
    assert told in world.bad(package, *words)
    assert world.cloud.seen() == []


def test_corrections_in_a_folder_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_APP_CORRECTIONS", "/home/corrections")
    assert "no permanent folder" in world.bad(world.zip("one"))
    assert world.cloud.seen() == []


@pytest.mark.slow
def test_the_real_zip_runs_in_an_environment_of_its_own(world: World, mlops: Run, tmp_path: Path) -> None:
    """Unpacked into a clean folder, with a fresh environment, by its own startup command, and used in front of a server."""
    bundle = make_bundle(tmp_path / "bundle")
    samples = tmp_path / "samples"
    samples.mkdir()
    label, colour = next(iter(COLOURS.items()))
    picture = samples / "a.png"
    Picture.new("RGB", (64, 64), colour).save(picture)
    package = tmp_path / "app.zip"
    assert mlops("app", "package", "--out", package, "--samples", samples)[0] == 0
    with serving(bundle, "--workers", "1") as server:
        made = world.good(package, "--endpoint", f"http://127.0.0.1:{server.port}", "--sku", "B1", "--timeout", "200")
        with requests.Session() as browser:
            page = browser.get(made["url"], timeout=30)
            token = re.search(r'name="csrf-token" content="([^"]+)"', page.text)
            assert token
            assert "/samples/a.png" in page.text
            assert page.cookies
            answer = browser.post(
                f"{made['url']}/api/classify", files={"image": picture.read_bytes()}, timeout=30,
                headers={"X-CSRFToken": token[1], "Referer": f"{made['url']}/"},
            )  # fmt: skip
            assert answer.status_code == 200, answer.text
            assert answer.json()["predictions"][0]["label"] == label
            assert browser.get(f"{made['url']}/model", timeout=30).status_code == 200
    # The identity of the app is not there on this machine: that is told in words, without what only other commands need.
    environment = world.slot().content.environment
    code = (
        "from vision_mlops.azure.azure_errors import azure_errors\nwith azure_errors('sign-in'): raise ValueError('x')"
    )
    ended = subprocess.run(
        [environment / "bin" / "python", "-c", code], cwd=world.slot().content.folder, capture_output=True, text=True
    )
    assert ended.stderr.splitlines()[-1] == "ValueError: x"
