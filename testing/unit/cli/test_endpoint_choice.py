"""Without an address, ``mlops app`` takes the endpoint of this machine, or says what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vision_mlops.cli.app import app as app_command
from vision_mlops.cli.app import endpoint_choice
from vision_mlops.cli.app.endpoint_choice import ChosenEndpoint, choose_endpoint
from vision_mlops.cli.bundle_argument import ChosenBundle
from vision_mlops.cli.main import app
from vision_mlops.core.errors import DeploymentError, RegistryError
from vision_mlops.endpoints.contract import Access, Deployment, Endpoint, EndpointStatus
from vision_mlops.flask_app.app_settings import AppSettings

READY, STOPPED = EndpointStatus.READY, EndpointStatus.STOPPED
URLS = {
    "textile": "http://127.0.0.1:8001/score",
    "birds": "http://127.0.0.1:8002/score",
    "cloud": "https://cloud/score",
}


class FakeTarget:
    """A target with endpoints that are known beforehand."""

    def __init__(self, found: list[Endpoint]) -> None:
        self.found = found

    def endpoints(self) -> list[Endpoint]:
        return self.found

    def endpoint(self, name: str) -> Endpoint:
        return next(item for item in self.found if item.name == name)

    def access(self, name: str) -> Access:
        headers = {"textile": {}, "birds": {"X-Api-Key": "of birds"}, "cloud": {"Authorization": "Bearer of cloud"}}
        return Access(URLS[name], headers[name])


def endpoint(name: str, target: str = "local", state: EndpointStatus = READY, auth: str = "key") -> Endpoint:
    return Endpoint(name, target, state, URLS[name], auth, (Deployment("version-1", name, "1", state, 100),))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The only registered bundle, of textile."""
    (tmp_path / "bundle" / "golden").mkdir(parents=True)
    return tmp_path / "bundle"


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> list[Endpoint]:
    """What is deployed; a test fills it."""

    def registered(reference: str) -> ChosenBundle:
        if reference != "textile:1":
            raise RegistryError(f"there is no {reference}")
        return ChosenBundle(bundle)

    monkeypatch.setattr(endpoint_choice, "registered_bundle", registered)
    found: list[Endpoint] = []

    def target(name: str) -> FakeTarget:
        return FakeTarget([item for item in found if item.target == name])

    monkeypatch.setattr(endpoint_choice, "open_target", target)
    monkeypatch.setattr(endpoint_choice, "targets_used", lambda: sorted({item.target for item in found}))
    monkeypatch.setattr(endpoint_choice, "target_of", lambda name: {item.name: item.target for item in found}[name])
    return found


def test_the_only_one_on_this_machine_is_taken_with_the_images_of_its_model(
    deployed: list[Endpoint], bundle: Path
) -> None:
    deployed += [endpoint("textile"), endpoint("birds", state=STOPPED), endpoint("cloud", "managed")]
    assert choose_endpoint() == ChosenEndpoint(URLS["textile"], "none", samples=bundle / "golden")


def test_of_several_one_must_be_named(deployed: list[Endpoint]) -> None:
    deployed += [endpoint("textile"), endpoint("birds", "docker")]
    with pytest.raises(DeploymentError) as caught:
        choose_endpoint()
    assert all(told in str(caught.value) for told in ("textile", "birds", URLS["birds"], "mlops app --endpoint"))


@pytest.mark.parametrize("found", [[], [endpoint("cloud", "managed")], [endpoint("textile", state=STOPPED)]])
def test_where_none_runs_it_says_how_to_start_one(deployed: list[Endpoint], found: list[Endpoint]) -> None:
    deployed += found
    result = CliRunner().invoke(app, ["app"])
    assert isinstance(result.exception, DeploymentError)
    assert "mlops deploy --to local" in result.exception.hint


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ("key", ChosenEndpoint(URLS["cloud"], "key", "of cloud")),
        ("aad_token", ChosenEndpoint(URLS["cloud"], "identity")),
    ],
)
def test_a_named_one_is_taken_with_what_opens_it(deployed: list[Endpoint], auth: str, expected: ChosenEndpoint) -> None:
    deployed += [endpoint("textile"), endpoint("cloud", "managed", auth=auth)]
    assert choose_endpoint("cloud") == expected
    assert "of cloud" not in repr(choose_endpoint("cloud"))


def test_a_token_that_ends_is_no_key(deployed: list[Endpoint]) -> None:
    deployed.append(endpoint("cloud", "kubernetes-endpoint", auth="aml_token"))
    with pytest.raises(DeploymentError, match="expire after some hours"):
        choose_endpoint("cloud")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[AppSettings]:
    """The settings that a server would have been started with."""
    settings: list[AppSettings] = []

    def serve(known: AppSettings, listener: socket.socket, ready: str) -> None:
        listener.close()
        settings.append(known)

    monkeypatch.setattr(app_command, "_serve", serve)
    return settings


def run(*options: str) -> str:
    result = CliRunner().invoke(app, ["app", "--port", "0", *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_key_of_the_endpoint_goes_with_its_address(
    deployed: list[Endpoint], served: list[AppSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_APP_SAMPLES", str(tmp_path))
    deployed.append(endpoint("birds", "docker"))
    run()
    (known,) = served
    assert (known.endpoint, known.auth, known.endpoint_key.get_secret_value()) == (URLS["birds"], "key", "of birds")
    assert known.samples == tmp_path


def test_an_address_comes_before_that_of_the_environment(
    served: list[AppSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_APP_ENDPOINT", "http://127.0.0.1:9001")
    run()
    run("--endpoint", "http://127.0.0.1:9002/score")
    assert [known.endpoint for known in served] == ["http://127.0.0.1:9001/score", "http://127.0.0.1:9002/score"]


def test_only_on_loopback_the_app_answers_to_its_names_alone(
    served: list[AppSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--endpoint", "http://127.0.0.1:9")
    assert "warning" not in run(*options)
    assert "warning: everybody who can reach 0.0.0.0" in run(*options, "--host", "0.0.0.0")
    monkeypatch.setenv("MLOPS_APP_HOSTS", "frontend.example")
    run(*options)
    assert [known.hosts for known in served] == [("127.0.0.1", "::1", "localhost"), (), ("frontend.example",)]


@pytest.mark.parametrize("options", [["--port", "1"], ["--endpoint", "http://127.0.0.1:9"], ["--host", "::1"]])
def test_options_of_the_server_mean_nothing_before_another_command(options: list[str]) -> None:
    result = CliRunner().invoke(app, ["app", *options, "package"])
    assert result.exit_code == 2
    assert options[0] in result.output
