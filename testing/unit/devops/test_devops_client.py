"""The client of Azure DevOps: sign-in, versions, patience, and errors in one line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testing.support.azure_devops.service import PAT, AzureDevOps, Fault, running_azure_devops

from vision_mlops.core.errors import AzureError, ConfigError
from vision_mlops.devops.devops_client import DevOpsClient, organization_authorization, organization_url


@pytest.fixture
def service() -> Iterator[AzureDevOps]:
    with running_azure_devops() as running:
        running.organization.add_project("vision")
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def client(service: AzureDevOps, waits: list[float]) -> Iterator[DevOpsClient]:
    made = DevOpsClient(service.url, organization_authorization({"AZURE_DEVOPS_EXT_PAT": PAT}), waits.append)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("https://dev.azure.com/contoso/", "https://dev.azure.com/contoso"),
        ("https://contoso.visualstudio.com", "https://dev.azure.com/contoso"),
        ("https://tfs.example.org/tfs/DefaultCollection", "https://tfs.example.org/tfs/DefaultCollection"),
    ],
)
def test_addresses_of_organizations(given: str, wanted: str) -> None:
    assert organization_url(given) == wanted


@pytest.mark.parametrize(
    "given",
    [
        "contoso",
        "https://dev.azure.com",
        "https://dev.azure.com/contoso/vision",
        "http://dev.azure.com/contoso",
        "ftp://a/b",
        "",
    ],
)
def test_what_is_no_address_of_an_organization(given: str) -> None:
    with pytest.raises(ConfigError, match="https://"):
        organization_url(given)


def test_people_and_licenses_have_hosts_of_their_own_in_the_cloud() -> None:
    client = DevOpsClient("https://dev.azure.com/contoso", lambda: "")
    assert client._host("vssps") == "https://vssps.dev.azure.com/contoso"
    assert client._host("vsaex") == "https://vsaex.dev.azure.com/contoso"
    client.close()


@pytest.mark.parametrize("token", ["", "Bearer nonsense"])
def test_a_page_to_sign_in_on_is_told_as_such(service: AzureDevOps, token: str) -> None:
    client = DevOpsClient(service.url, lambda: token)
    with pytest.raises(AzureError, match="does not accept this sign-in") as caught:
        client.rows("_apis/projects")
    assert (caught.value.status, "AZURE_DEVOPS_EXT_PAT" in caught.value.hint) == (401, True)
    client.close()


def test_another_organization_is_not_there(service: AzureDevOps) -> None:
    client = DevOpsClient(
        service.url.replace("contoso", "fabrikam"), organization_authorization({"AZURE_DEVOPS_EXT_PAT": PAT})
    )
    with pytest.raises(AzureError, match=r"fabrikam is not an organization"):
        client.rows("_apis/projects")
    client.close()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("POST", "_apis/projects", {}, ""), "No api-version was supplied"),
        (("PATCH", "vision/_apis/pipelines/pipelinepermissions/queue/1", {}, "7.1"), "under preview"),
        (("POST", "_apis/projects", {}, "99.1"), "out of range"),
        (("POST", "_apis/projects", {"name": "vision"}, "7.1"), "TF200019.*HTTP 409"),
        (("POST", "_apis/nothing", {}, "7.1"), "controller for path"),
    ],
)
def test_what_the_service_refuses(client: DevOpsClient, call: tuple[str, str, object, str], words: str) -> None:
    with pytest.raises(AzureError, match=words):
        client.send(*call)


def test_something_that_is_not_there_is_found_as_none(client: DevOpsClient) -> None:
    assert client.find("_apis/projects/nowhere") is None
    assert client.find("_apis/projects/vision") is not None


def test_it_waits_as_long_as_the_service_asks(client: DevOpsClient, service: AzureDevOps, waits: list[float]) -> None:
    service.faults.append(Fault(".*", 429, times=2, headers={"Retry-After": "7"}))
    service.organization.polls = 1
    client.send("POST", "vision/_apis/distributedtask/environments", {"name": "dev"})
    assert waits == [7.0, 7.0]
    service.faults.append(Fault("GET .*", 503, times=1))
    assert len(client.rows("vision/_apis/distributedtask/environments")) == 1


def test_its_patience_ends(client: DevOpsClient, service: AzureDevOps, waits: list[float]) -> None:
    service.faults.append(Fault("GET .*", 503, times=DevOpsClient.attempts))
    with pytest.raises(AzureError, match="busy"):
        client.rows("_apis/projects")
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert len(service.seen) == DevOpsClient.attempts


def test_a_read_is_sent_again_and_a_write_that_may_be_done_is_not(client: DevOpsClient, service: AzureDevOps) -> None:
    service.faults.append(Fault("GET .*", 0, times=2))
    assert [row["name"] for row in client.rows("_apis/projects")] == ["vision"]
    service.faults.append(Fault("POST .*", -1))
    with pytest.raises(AzureError, match=r"connection to Azure DevOps at .* was lost"):
        client.send("POST", "vision/_apis/distributedtask/environments", {"name": "dev"})
    assert len(service.writes()) == 1


def test_nobody_answers() -> None:
    client = DevOpsClient("http://127.0.0.1:9/contoso", lambda: "", lambda seconds: None)
    with pytest.raises(AzureError, match="Azure DevOps cannot be reached"):
        client.rows("_apis/projects")
    client.close()
