"""A proxy that does not answer is named, whether nothing listens there or something that is not a proxy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from vision_mlops.azure.proxy_check import silent_proxy
from vision_mlops.core.errors import AzureError
from vision_mlops.devops.devops_client import DevOpsClient
from vision_mlops.devops.run_start import named_pipeline


@pytest.fixture
def closing() -> Iterator[str]:
    """Host and port of what takes every connection, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close_all() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    if not connection.recv(4096):
                        return

        thread = threading.Thread(target=close_all, daemon=True)
        thread.start()
        place = f"127.0.0.1:{server.getsockname()[1]}"
        yield place
        with socket.create_connection(("127.0.0.1", int(place.rpartition(":")[2]))):
            pass
        thread.join()


@pytest.fixture
def gone() -> Iterator[str]:
    """Host and port where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["closing", "gone"])
def test_a_dead_proxy_is_named(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    place: str = request.getfixturevalue(kind)
    for name in ("https_proxy", "all_proxy", "ALL_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://somebody:secret@{place}")
    waits: list[float] = []
    client = DevOpsClient("https://dev.azure.com/contoso", lambda: "Bearer x", waits.append)
    with pytest.raises(AzureError, match=f"{place}, which HTTPS_PROXY names(?s:.*)unset") as caught:
        client.get("_apis/projects")
    client.close()
    assert "secret" not in str(caught.value)
    assert not waits, "it would not come back by itself"
    with pytest.raises(AzureError, match=f"{place}, which HTTPS_PROXY names"):
        named_pipeline("https://dev.azure.com/contoso/vision", "train", "x")
    monkeypatch.setenv("NO_PROXY", "azure.com")
    assert silent_proxy() is None
