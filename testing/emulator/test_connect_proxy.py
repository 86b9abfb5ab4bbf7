"""The proxy: tunnels for hosts of Azure, a clear refusal for all others, and the page for browsers."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from azureml_emulator.certificates import Certificates
from azureml_emulator.https_server import HttpsServer
from azureml_emulator.proxy.connect_proxy import ConnectProxy
from azureml_emulator.proxy.host_directory import HostDirectory
from azureml_emulator.rest.cloud_addresses import CERTIFICATE_NAMES, CloudAddresses, host_kind, vision_account

HOSTS = {
    "management.azure.com": 1, "login.microsoftonline.com": 1, "westeurope.api.azureml.ms": 1, "eastus.api.azureml.ms": 1,
    "ml.azure.com": 1, "live.westeurope.inference.ml.azure.com": 1, "emulator.vault.azure.net": 1,
    "devstoreaccount1.blob.core.windows.net": 2, "app.azurewebsites.net": 3, "app.scm.azurewebsites.net": 3,
    "cv.cognitiveservices.azure.com": 1, "westeurope.api.cognitive.microsoft.com": 1,
}  # fmt: skip
STRANGERS = (
    "other.cognitiveservices.azure.com", "other.vault.azure.net", "other.blob.core.windows.net", "other.azurewebsites.net",
    "pip.example", "graph.microsoft.com",
    "management.azure.com.example.org", "blob.core.windows.net", "169.254.169.254", "a.b.blob.core.windows.net",
)  # fmt: skip


def directory() -> HostDirectory:
    return HostDirectory(
        1,
        "devstoreaccount1",
        lambda: 2,
        lambda host: 3 if host.startswith("app.") else None,
        has_vision=lambda host: vision_account(host) in ("cv", "westeurope.api"),
    )


@pytest.mark.parametrize(("host", "port"), HOSTS.items())
def test_hosts_of_azure_are_answered_for(host: str, port: int) -> None:
    assert directory().port_of(host) == directory().port_of(f"{host.upper()}.") == port
    covered = any(
        host == name or (name.startswith("*.") and host.partition(".")[2] == name[2:]) for name in CERTIFICATE_NAMES
    )
    assert covered, "the certificate does not cover it"


@pytest.mark.parametrize("host", STRANGERS)
def test_other_hosts_are_not(host: str) -> None:
    assert directory().port_of(host) is None


def test_every_address_that_is_told_belongs_to_a_service() -> None:
    found = CloudAddresses.azure()
    told = (found.manager, found.login, found.ml, found.vault, found.online("ws", "Live"), found.batch("ws", "b"))
    vision = (found.vision("Cv"), found.vision("", "eastus"))
    assert [host_kind(address.removeprefix("https://")) for address in (*told, *vision)] == [
        "manager", "login", "ml", "vault", "inference", "inference", "vision", "vision",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def proxy(certificates: Certificates) -> Iterator[ConnectProxy]:
    """A proxy before one service, which says its host, and a page."""

    async def host(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.headers['host']} {len(await request.body())}")

    service, page = HttpsServer(certificates), HttpsServer(None)
    service.start(Starlette(routes=[Route("/", host, methods=["GET", "POST"])]))
    page.start(Starlette(routes=[Route("/", lambda request: PlainTextResponse("the page"))]))
    running = ConnectProxy({"management.azure.com": service.port}.get, page.port).start()
    yield running
    running.stop()
    page.stop()
    service.stop()


def said(proxy: ConnectProxy, sent: bytes) -> str:
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as client:
        client.sendall(sent)
        return b"".join(iter(lambda: client.recv(65536), b"")).decode()


def test_a_tunnel_leads_to_the_service_of_a_host(proxy: ConnectProxy, certificates: Certificates) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as client:
        client.sendall(b"CONNECT management.azure.com:443 HTTP/1.1\r\nHost: management.azure.com:443\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        context = ssl.create_default_context(cafile=certificates.authority)
        with context.wrap_socket(client, server_hostname="management.azure.com") as secure:
            body = b"x" * 3_000_000  # more than fits into any buffer on the way
            head = f"POST / HTTP/1.1\r\nHost: management.azure.com\r\nContent-Length: {len(body)}\r\n\r\n"
            secure.sendall(head.encode() + body)
            answer = secure.recv(65536).decode()
            assert "HTTP/1.1 200 OK" in answer
            assert (answer + secure.recv(65536).decode() if "3000000" not in answer else answer).endswith(
                "management.azure.com 3000000"
            )


@pytest.mark.parametrize(
    ("request_line", "host"),
    [
        ("CONNECT pip.example:443", "pip.example"),
        ("CONNECT management.azure.com:80", "management.azure.com"),
        ("GET http://pip.example/simple", "pip.example"),
        ("GET http://management.azure.com/", "management.azure.com"),
        ("CONNECT [::1", "[::1"),
    ],
)
def test_a_refusal_says_what_is_refused_and_what_helps(proxy: ConnectProxy, request_line: str, host: str) -> None:
    answer = said(proxy, f"{request_line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 403 {host} is not a service of Azure that is emulated here\r\n")
    assert answer.endswith("Nothing leaves this machine; to reach that host nevertheless, add it to NO_PROXY.\n")


def test_a_browser_gets_the_page(proxy: ConnectProxy) -> None:
    answer = said(proxy, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 200 OK")
    assert answer.endswith("the page")


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a" * 70_000, b""])
def test_nonsense_ends_the_connection_and_nothing_else(proxy: ConnectProxy, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(10)
        try:
            while client.recv(65536):
                pass
        except ConnectionResetError:
            pass
    test_a_browser_gets_the_page(proxy)


def test_the_certificates_of_a_folder_stay(tmp_path: Path) -> None:
    made = Certificates.make(tmp_path / "tls")
    before = made.authority.read_bytes(), made.chain.read_bytes()
    again = Certificates.make(tmp_path / "tls")
    assert (again.authority.read_bytes(), again.chain.read_bytes()) == before
    assert made.key.stat().st_mode & 0o077 == 0


def test_certificates_of_an_emulator_that_knew_fewer_hosts_are_renewed(tmp_path: Path) -> None:
    made = Certificates.make(tmp_path / "tls")
    before = made.chain.read_bytes()
    (tmp_path / "tls" / "names.txt").write_text("127.0.0.1")
    assert Certificates.make(tmp_path / "tls").chain.read_bytes() != before
