"""``mlops data upload`` and ``download`` as one types them: exit codes, secrets, and ends in the middle."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from testing.support.blob_containers import Container, connection_string, contents, many, write
from testing.support.proxy import Proxy, proxied

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.identity.sign_in_routes import by_secret
from azureml_emulator.storage.azurite import KEY, Azurite
from vision_mlops.cli.main import main

SECRET = "c0ffeeDISTINCTIVE+secret/of=this+test0000000000="
QUOTED = quote(SECRET, safe="")
SAS = f"sv=2022-11-02&sp=racwdl&sr=c&se=2099-01-01T00:00:00Z&sig={QUOTED}"

Mlops = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mlops(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Mlops:
    """Run ``mlops`` in this process: exit code, standard output, and standard error with traceback and log."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlops", *words])
        caplog.set_level(logging.DEBUG)
        code, trace = 0, ""
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        except Exception as error:  # noqa: BLE001 - with --verbose
            code, trace = 2, "".join(traceback.format_exception(error))
        printed = capsys.readouterr()
        return code, printed.out, printed.err + trace + caplog.text

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "folder", {"a.txt": b"one", "b/ü.txt": b"two!"})


def hidden(*texts: str) -> bool:
    """Whether none of these shows the secret in any way of writing it, nor Azurite's key."""
    forms = (SECRET, QUOTED, QUOTED.lower(), SECRET[:16], KEY, quote(KEY, safe=""), KEY[:16])
    return not any(form in text for form in forms for text in texts)


def test_there_and_back(
    mlops: Mlops, container: Container, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(container.account_url))
    code, out, err = mlops("data", "upload", str(folder), "--to", container.url(), "--json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["uploaded"], told["unchanged"]["files"]) == ({"files": 2, "bytes": 7}, 0)
    assert set(told) >= {"failed", "deleted", "seconds", "megabytes_per_second", "failures", "place", "folder"}
    assert err.splitlines()[0] == f"uploading {folder} to {container.url()}"
    code, out, err = mlops("data", "upload", str(folder), "--to", container.url())
    assert (code, out) == (0, "")
    assert "uploaded 0 files (0 B), unchanged 2 files (7 B) in" in err
    code, _, err = mlops("data", "download", "--from", container.url(), "--out", str(tmp_path / "out"))
    assert code == 0
    assert "downloaded 2 files (7 B), unchanged 0 files (0 B) in" in err
    assert contents(tmp_path / "out") == contents(folder)
    (folder / "a.txt").unlink()
    code, _, err = mlops("data", "upload", str(folder), "--to", container.url(), "--delete", "--dry-run")
    assert code == 0
    assert "would delete a.txt" in err
    code, _, err = mlops("data", "upload", str(folder), "--to", container.url(), "--delete")
    assert "deleted 1 file (3 B)" in err
    assert container.contents() == contents(folder)


@pytest.mark.parametrize(
    ("address", "message", "mend"),
    [
        (
            "https://account.blob.core.windows.net/photos?" + SAS,
            "contains a signature or key",
            "AZURE_STORAGE_SAS_TOKEN",
        ),
        ("https://account.blob.core.windows.net/photos?sp=r&SIG=" + QUOTED, "contains a signature or key", "export"),
        (
            f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={SECRET}",
            "contains a signature or key",
            "CONNECTION",
        ),
        (
            f"https://user:{QUOTED}@account.blob.core.windows.net/photos",
            "contains a user name or password",
            "environment",
        ),
        (f"https://account.blob.core.windows.net/photos?x={QUOTED}", "has a query string", "%3F"),
        ("http://account.blob.core.windows.net/photos", "not encrypted", "https://"),
        ("https://account.blob.core.window.net/photos", "is not a storage account", "AZURE_STORAGE_SUFFIX"),
        ("https://account.blob.core.windows.net/", "does not name a container", "CONTAINER/PATH"),
        ("https://account.blob.core.windows.net/Photos", "is not a valid container name", "lower-case"),
        ("https://account.blob.core.windows.net/photos/a#b", "contains a #", "%23"),
        ("https://account.blob.core.windows.net/photos/a/../../b", "empty parts, . or ..", "without them"),
        ("https://account.blob.core.windows.net/photos/%ff", "is not UTF-8", "%25"),
        ("https://account.blob.core.windows.net:x/photos", "is not a valid address", "write https://"),
        ("photos/birds", "is not an address in Blob Storage", "datastore:NAME/PATH"),
        ("azureml://datastores/a b/paths/x", "is not a valid datastore name", "letters"),
        ("", "is not an address in Blob Storage", "datastore:NAME/PATH"),
    ],
)
def test_an_address_that_cannot_be_meant(mlops: Mlops, folder: Path, address: str, message: str, mend: str) -> None:
    for words in (
        ("data", "upload", str(folder), "--to", address),
        ("data", "download", "--from", address, "--out", "x"),
    ):
        code, out, err = mlops(*words)
        assert code == 2
        first, _, hint = err.partition("\n  -> ")
        assert message in first
        assert mend in hint
        assert hidden(out, err)


@pytest.mark.parametrize("verbose", [(), ("--verbose",)])
@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"AZURE_STORAGE_SAS_TOKEN": SAS}, "HTTP 403"),
        (
            {"AZURE_STORAGE_SAS_TOKEN": "?" + SAS.replace("2099", "2020")},
            "the signature expired at 2020-01-01T00:00:00Z",
        ),
        ({"AZURE_STORAGE_SAS_TOKEN": SECRET}, "AZURE_STORAGE_SAS_TOKEN is not a shared access signature"),
        (
            {"AZURE_STORAGE_SAS_TOKEN": f"sv=1\n&sig={QUOTED}"},
            "AZURE_STORAGE_SAS_TOKEN is not a shared access signature",
        ),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": f"AccountName=devstoreaccount1;AccountKey={SECRET}!"},
            "malformed account key",
        ),
        ({"AZURE_STORAGE_CONNECTION_STRING": f"AccountName=devstoreaccount1;AccountKey={'AAAA' + KEY}"}, "HTTP 403"),
        ({"AZURE_STORAGE_CONNECTION_STRING": f"AccountName=other;AccountKey={SECRET}"}, "is for the account 'other'"),
        ({"AZURE_STORAGE_CONNECTION_STRING": SECRET}, "has neither AccountKey nor SharedAccessSignature"),
        ({}, "your token could be read on the way"),
    ],
)
def test_a_wrong_sign_in_is_explained_and_never_shown(
    mlops: Mlops,
    container: Container,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: Mapping[str, str],
    message: str,
    verbose: tuple[str, ...],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, out, err = mlops(
        *verbose, "data", "upload", str(folder), "--to", container.url(), "--json", "--create-container"
    )
    assert code == 2
    assert message in err
    assert hidden(out, err)


@pytest.mark.parametrize("kind", ["redirect", "echo", "refused", "no host", "cut"])
def test_errors_of_the_way_never_show_the_signature(
    mlops: Mlops, proxy: Proxy, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    address = f"{proxy.account_url}/photos/x"
    if kind == "redirect":
        proxy.trouble("answer", times=99, status=302, headers={"Location": f"http://127.0.0.1:9/?sig={QUOTED}"})
    elif kind == "echo":  # a service that repeats what it was sent
        proxy.trouble("answer", times=99, status=400, code=f"sig={SECRET.replace('+', ' ')} sig={QUOTED} {SECRET}")
    elif kind == "refused":
        address = "http://127.0.0.1:9/devstoreaccount1/photos/x"
    elif kind == "no host":
        address = "https://no-such-account-here.blob.core.invalid/photos"
        monkeypatch.setenv("AZURE_STORAGE_SUFFIX", "core.invalid")
    else:
        proxy.trouble("cut request", times=99)
        monkeypatch.setattr(
            "vision_mlops.storage.blob_service.StorageRetryPolicy.__init__.__defaults__", (2, 0.01, 0.1, 5.0)
        )
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", SAS)
    for verbose in ((), ("--verbose",)):
        code, out, err = mlops(*verbose, "data", "upload", str(folder), "--to", address, "--json")
        assert code == 2, err
        assert {"redirect": "redirects", "echo": "HTTP 400", "refused": "nothing listens at 127.0.0.1:9"}.get(
            kind, "host"
        ) in err or (kind == "cut" and "failed: it was cut" in err)
        assert hidden(out, err)


@pytest.mark.parametrize(
    ("minutes", "permission", "message"),
    [
        (-5, "racwdl", "the signature expired at"),
        (60, "rl", "with the permissions racwdl"),
        (60, "w", "with the permissions racwdl"),
    ],
)
def test_a_signature_that_has_ended_or_allows_too_little(
    mlops: Mlops,
    container: Container,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    minutes: int,
    permission: str,
    message: str,
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", container.sas(permission, minutes))
    code, _, err = mlops("data", "upload", str(folder), "--to", container.url())
    assert code == 2
    assert message in err
    assert "sig=" not in err


def test_a_missing_container_and_a_missing_folder(
    mlops: Mlops, container: Container, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(container.account_url))
    code, _, err = mlops("data", "upload", str(folder), "--to", f"{container.account_url}/nowhere/x")
    assert code == 2
    assert "HTTP 404 ContainerNotFound)\n  -> check the address; an upload makes it with --create-container" in err
    code, _, err = mlops("data", "download", "--from", f"{container.account_url}/nowhere/x", "--out", "y")
    assert code == 2
    assert not Path("y").exists()
    code, _, err = mlops("data", "upload", "nowhere", "--to", container.url())
    assert code == 2
    assert "error: nowhere does not exist\n  -> " in err


def test_one_failure_is_exit_code_one(
    mlops: Mlops, container: Container, proxy: Proxy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", container.sas())
    proxy.trouble("answer", method="PUT", part="a.txt", times=99, status=409, code="BlobImmutableDueToPolicy")
    code, out, err = mlops("data", "upload", str(folder), "--to", container.through(proxy.account_url).url(), "--json")
    assert code == 1
    assert json.loads(out)["failures"]["a.txt"].startswith("BlobImmutableDueToPolicy on demand.")
    assert "failed: 'a.txt': " in err
    assert "failed 1 file (3 B)" in err


def test_the_default_sign_in_sends_a_token_and_renews_it(
    mlops: Mlops,
    azurite: Azurite,
    cloud: EmulatedCloud,
    container: Container,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**by_secret(), "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"}.items():
        monkeypatch.setenv(name, value)
    bundle = tmp_path / "authorities.pem"
    with proxied(azurite, tls=tmp_path / "tls", bearer=container.sas) as proxy:
        bundle.write_text(
            Path(os.environ["REQUESTS_CA_BUNDLE"]).read_text() + (tmp_path / "tls/authority.pem").read_text()
        )
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        url = container.through(proxy.account_url).url()
        assert url.startswith("https://127.0.0.1")
        code, _, err = mlops("data", "upload", str(folder), "--to", url)
        assert code == 0, err
        token = proxy.seen[0].headers["Authorization"].removeprefix("Bearer ")
        assert token.count(".") == 2
        assert "sig=" not in proxy.seen[0].target
        code, _, err = mlops("data", "download", "--from", url, "--out", str(tmp_path / "out"))
        assert code == 0, err
        assert contents(tmp_path / "out") == contents(folder)
        proxy.trouble("answer", times=99, status=401, code="InvalidAuthenticationInfo")
        code, _, err = mlops("--verbose", "data", "upload", str(folder), "--to", url)
        assert code == 2
        assert "the credentials are not valid here" in err
        assert token not in err
        proxy.calm()
        proxy.trouble("answer", times=99, status=403, code="AuthorizationPermissionMismatch")
        code, _, err = mlops("data", "upload", str(folder), "--to", url)
        assert "ask for the role Storage Blob Data Contributor" in err
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "tls/../" / Path(bundle).name))
        bundle.write_text(Path(cloud.folder.parent / "tls/authority.pem").read_text())
        code, _, err = mlops("data", "upload", str(folder), "--to", url)
        assert code == 2
        assert "is not trusted" in err
        assert "REQUESTS_CA_BUNDLE" in err


def start(container: Container, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "AZURE_STORAGE_SAS_TOKEN": container.sas()}
    return subprocess.Popen(
        [sys.executable, "-m", "vision_mlops", "data", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


ENDING = 50
"""Seconds in which an interrupted transfer ends: it does not wait for answers that do not come, as it would for 60."""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_upload_that_ends_in_the_middle_goes_on(
    mlops: Mlops,
    container: Container,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    files = {**many(60, 5000), "large": os.urandom(20_000_000)}
    folder, through = write(tmp_path / "f", files), container.through(proxy.account_url)
    proxy.trouble("hold", method="PUT", part=".bin", skip=30, times=3, seconds=1000)
    proxy.trouble("hold", method="PUT", part="comp=block&", skip=2, times=3, seconds=1000)
    with start(through, "upload", str(folder), "--to", through.url()) as process:
        try:
            # What is held is all that is left: a request on its way could still arrive once the process has ended.
            wait_for(lambda: all(trouble.struck == 3 for trouble in proxy.troubles) and len(container.contents()) == 57)
        except AssertionError:
            process.kill()
            raise
        process.send_signal(number)
        _, err = process.communicate(timeout=ENDING)
    if number is signal.SIGINT:
        assert process.returncode == 130
        assert err.splitlines()[-1] == "interrupted; the same command continues where it stopped"
        assert "Traceback" not in err
    found = container.contents()
    assert len(found) == 57
    assert all(content == files[name] for name, content in found.items())
    proxy.calm()
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", container.sas())
    code, out, _ = mlops("data", "upload", str(folder), "--to", through.url(), "--json")
    assert code == 0
    told = json.loads(out)
    assert told["unchanged"]["files"] == len(found)
    assert told["uploaded"]["files"] == len(files) - len(found)
    assert proxy.count("PUT", "comp=block&") == 3
    assert container.contents() == files


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_download_that_ends_in_the_middle_goes_on(
    mlops: Mlops,
    container: Container,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    from vision_mlops import storage

    files = {**many(60, 5000), "large": os.urandom(20_000_000)}
    storage.upload(write(tmp_path / "f", files), container.place())
    through, out = container.through(proxy.account_url), tmp_path / "out"
    proxy.trouble("stall", method="GET", part=".bin", skip=30, times=3, seconds=1000)
    proxy.trouble("stall", method="GET", part="/large", skip=2, times=3, seconds=1000)
    with start(through, "download", "--from", through.url(), "--out", str(out)) as process:
        try:
            wait_for(lambda: all(trouble.struck == 3 for trouble in proxy.troubles))
            wait_for(lambda: any(len(path.read_text().split()) == 2 for path in out.glob(".mlops-download/*.parts-*")))
        except AssertionError:
            process.kill()
            raise
        process.send_signal(number)
        process.communicate(timeout=ENDING)
    assert number is signal.SIGKILL or process.returncode == 130
    there = {name: content for name, content in contents(out).items() if not name.startswith(".mlops-download/")}
    assert 0 < len(there) < len(files)
    assert all(content == files[name] for name, content in there.items())
    proxy.calm()
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", container.sas())
    code, told, _ = mlops("data", "download", "--from", through.url(), "--out", str(out), "--json")
    assert code == 0
    assert json.loads(told)["unchanged"]["files"] == len(there)
    assert proxy.count("GET", "/large") == 3
    assert contents(out) == files
