"""``mlops azure emulate`` and ``python -m azureml_emulator``: bad input, a command, variables, a restart, and an end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from testing.support.emulator_process import EmulatorProcess, emulator, plain_environment
from testing.support.jobs import until

SCOPE = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg"
ENDLESS = f"{9000 + os.getpid() % 997}.125"
"""Seconds that no other process sleeps."""
SCORE = """\
def init(): pass
import json
def run(text): return json.loads(text)
"""


def run_emulator(*words: str, cwd: Path, module: str = "azureml_emulator") -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", module, *words]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, timeout=120, env=plain_environment())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--fault", "PUT x"), "'PUT x' does not have the form METHOD PATTERN WHAT"),
        (("--workspace", "a/b"), "'a/b' cannot be the name of a workspace\n  -> use 2 to 33 letters"),
        (("--env", "--workspace", "prod"), "--env needs a running emulator"),
        (("--port", "70000"), "'70000' is not a port\n  -> give a number from 0 to 65535"),
        (("--port", "http"), "'http' is not a port"),
        (("--state", "file"), "cannot be written: "),
        (("--state", "file/below"), "cannot be written: Not a directory"),
        (("--", "no-such-command", "x"), "the command 'no-such-command' was not found"),
        (("--",), "no command follows --"),
        (("--env",), "no emulator is running with the state folder"),
        (("--env", "--state", "else where"), "/else where'\n"),
        (("--state", "."), "contains something other than the state of an emulator: file\n"),
        (("--state", ".", "--", "true"), "give a new or empty folder with --state"),
        (("--env", "--", "true"), "--env needs a running emulator"),
        (("--nonsense",), "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_input_is_told_on_one_line(tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    (tmp_path / "file").touch()
    ended = run_emulator(*words, cwd=tmp_path)
    assert ended.returncode == 2, ended
    assert ended.stderr.startswith("error: ")
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"], "something was left behind"


@pytest.mark.slow
def test_the_command_of_the_tool_becomes_the_emulator(tmp_path: Path) -> None:
    ended = run_emulator("azure", "emulate", "--fault", "PUT x", cwd=tmp_path, module="vision_mlops")
    assert (ended.returncode, ended.stderr.count("'PUT x' does not have the form")) == (2, 1)
    ended = run_emulator("azure", "emulate", "--env", cwd=tmp_path, module="vision_mlops")
    assert (ended.returncode, f"state folder {tmp_path / 'outputs' / 'emulator'}\n" in ended.stderr) == (2, True)


@pytest.mark.slow
def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = run_emulator("--state", "s", "--port", str(taken.getsockname()[1]), cwd=tmp_path)
    assert ended.returncode == 2
    assert f"the port {taken.getsockname()[1] if taken.fileno() > 0 else ''}".strip() in ended.stderr
    assert "give another --port, or 0 for any free one" in ended.stderr


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """An emulator that nobody ends, with a fault waiting."""
    state = tmp_path_factory.mktemp("emulator") / "state"
    with emulator(state, "--fault", "GET .*/datastores 503 x2", "--workspace", "prod", "--workspace", "ws") as found:
        yield found


@pytest.mark.slow
class TestRunning:
    """What a running emulator answers."""

    def test_two_on_one_folder_are_refused(self, running: EmulatorProcess, tmp_path: Path) -> None:
        ended = run_emulator("--state", str(running.state.path), "--port", "0", cwd=tmp_path)
        assert ended.returncode == 2
        assert (
            f"in use by the emulator at http://127.0.0.1:{running.port} (process {running.process.pid})" in ended.stderr
        )

    def test_a_shell_takes_the_variables(self, running: EmulatorProcess, tmp_path: Path) -> None:
        line = f'"{sys.executable}" -m azureml_emulator --state "{running.state.path}" --env'
        ask = "echo $AZURE_SUBSCRIPTION_ID $MLOPS_AZURE_INFERENCING_IMAGE $MLOPS_AZURE_PULL_IDENTITY; "
        ask += "curl --version > /dev/null; env | grep -c AZURE_CLOUD; true"
        ended = subprocess.run(
            ["sh", "-c", f'export AZURE_CLOUD=Elsewhere MLOPS_AZURE_PULL_IDENTITY=mine; eval "$({line})"; {ask}'],
            capture_output=True, text=True, cwd=tmp_path, timeout=60, env=plain_environment(), check=True,
        )  # fmt: skip
        image = "wsimages.azurecr.io/mlops-inferencing:1"
        assert ended.stdout.split() == [running.variables["AZURE_SUBSCRIPTION_ID"], image, "mine", "0"]

    def test_faults_strike_first(self, running: EmulatorProcess) -> None:
        answers = [running.call("GET", "datastores").status_code for _ in range(3)]
        assert answers == [503, 503, 200]

    def test_a_further_workspace_has_datastores_of_its_own(self, running: EmulatorProcess) -> None:
        scope = f"{SCOPE}/providers/Microsoft.MachineLearningServices/workspaces"
        assert sorted(item["name"] for item in running.call("GET", scope).json()["value"]) == ["prod", "ws"]
        containers = {
            item["properties"]["containerName"]
            for name in ("prod", "ws")
            for item in running.call("GET", f"{scope}/{name}/datastores").json()["value"]
        }
        assert len(containers) == 4

    def test_a_host_has_its_own_paths_only(self, running: EmulatorProcess) -> None:
        assert (
            running.call("GET", "/secrets").json()["error"]["message"] == "management.azure.com has nothing at /secrets"
        )
        assert running.call("GET", f"{SCOPE}/nothing", host="westeurope.api.azureml.ms").status_code == 404
        assert running.call("GET", "computes").json()["value"][0]["name"] == "cpu-cluster"

    def test_what_signing_in_looks_up(self, running: EmulatorProcess) -> None:
        tenant = running.variables["AZURE_TENANT_ID"]
        (found,) = running.call("GET", "/subscriptions").json()["value"]
        assert (found["subscriptionId"], found["tenantId"]) == (running.variables["AZURE_SUBSCRIPTION_ID"], tenant)
        assert [item["tenantId"] for item in running.call("GET", "/tenants").json()["value"]] == [tenant]
        assert running.call("GET", SCOPE).json()["name"] == "rg"
        missing = running.call("GET", SCOPE.removesuffix("rg") + "other")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "ResourceGroupNotFound")
        assert running.call("GET", "/subscriptions/11111111-0000-0000-0000-000000000000").status_code == 404

    def test_another_host_is_out_of_reach(self, running: EmulatorProcess) -> None:
        import requests

        with (
            running.session() as session,
            pytest.raises(requests.exceptions.ProxyError, match=r"pip\.example is not a service"),
        ):
            session.get("https://pip.example/simple", timeout=30)

    def test_a_token_of_another_audience_is_refused(self, running: EmulatorProcess) -> None:
        headers = {"Authorization": f"Bearer {running.token('https://storage.azure.com')}"}
        with running.session() as session:
            answer = session.get(
                f"https://management.azure.com{SCOPE}?api-version=2022-12-01", headers=headers, timeout=30
            )
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "InvalidAuthenticationTokenAudience")

    def test_storage_and_vault_by_their_host_names(self, running: EmulatorProcess, tmp_path: Path) -> None:
        script = tmp_path / "clients.py"
        script.write_text(CLIENTS)
        ended = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, env=running.environment, timeout=120
        )
        assert ended.stdout.split() == ["content", "worth"], ended.stderr


CLIENTS = """\
from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient
from azure.storage.blob import BlobServiceClient

credential = DefaultAzureCredential()
service = BlobServiceClient("https://devstoreaccount1.blob.core.windows.net", credential)
container = service.create_container("own")
container.upload_blob("a/b", b"content")
print(container.download_blob("a/b").readall().decode())
vault = SecretClient("https://emulator.vault.azure.net", credential)
vault.set_secret("key", "worth")
print(vault.get_secret("key").value)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)])
def test_a_command_gets_the_variables_and_its_exit_code_is_told(tmp_path: Path, command: str, code: int) -> None:
    shell = f"echo $AZUREML_WORKSPACE_NAME $LOOPBACK_CLOUD_STATE; {command}"
    ended = run_emulator("--state", "s", "--", "sh", "-c", shell, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (code, "ws\n"), ended.stderr


def put_job(running: EmulatorProcess, name: str, command: str) -> None:
    environment = f"{SCOPE}/providers/Microsoft.MachineLearningServices/workspaces/ws/environments/e/versions/1"
    running.call("PUT", "environments/e/versions/1", {"properties": {"image": "python:3.11"}}).raise_for_status()
    body = {"properties": {"jobType": "Command", "command": command, "environmentId": environment, "computeId": ""}}
    running.call("PUT", f"jobs/{name}", body).raise_for_status()


def sleeping() -> bool:
    """Whether the command of an endless job runs."""
    lines = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    return ["sleep", ENDLESS] in lines


def job_status(running: EmulatorProcess, name: str) -> Any:
    return running.call("GET", f"jobs/{name}").json()["properties"]["status"]


def succeeded(running: EmulatorProcess, path: str, body: Any) -> None:
    """Put a resource and wait until the service says that it is made."""
    answer = running.call("PUT", path, body)
    assert answer.status_code in (200, 201, 202), answer.text
    until(lambda: running.call("GET", path).json()["properties"]["provisioningState"] == "Succeeded", 60)


def serve_endpoint(running: EmulatorProcess) -> dict[str, Any]:
    """An endpoint with two deployments of a scoring script; returns what is sent to change it."""
    code = running.call("POST", "codes/c/versions/1/startPendingUpload", {}).json()["blobReferenceForConsumption"]
    address, _, signature = code["credential"]["sasUri"].partition("?")
    with running.session() as session:
        sent = session.put(
            f"{address}/score.py?{signature}", SCORE.encode(), headers={"x-ms-blob-type": "BlockBlob"}, timeout=30
        )
    sent.raise_for_status()
    running.call("PUT", "codes/c/versions/1", {"properties": {"codeUri": code["blobUri"]}}).raise_for_status()
    base = f"{SCOPE}/providers/Microsoft.MachineLearningServices/workspaces/ws"
    endpoint: dict[str, Any] = {"location": "westeurope", "properties": {"authMode": "Key"}}
    succeeded(running, "onlineEndpoints/live", endpoint)
    deployment = {
        "endpointComputeType": "Managed",
        "instanceType": "Standard_DS3_v2",
        "environmentId": f"{base}/environments/e/versions/1",
        "codeConfiguration": {"codeId": f"{base}/codes/c/versions/1", "scoringScript": "score.py"},
    }
    for name in ("blue", "green"):
        content = {"location": "westeurope", "sku": {"name": "Default", "capacity": 1}, "properties": deployment}
        succeeded(running, f"onlineEndpoints/live/deployments/{name}", content)
    endpoint["properties"]["traffic"] = {"blue": 90, "green": 10}
    succeeded(running, "onlineEndpoints/live", endpoint)
    return endpoint


def score(running: EmulatorProcess) -> Any:
    key = running.call("POST", "onlineEndpoints/live/listKeys").json()["primaryKey"]
    address = running.call("GET", "onlineEndpoints/live").json()["properties"]["scoringUri"]
    assert address == "https://live.westeurope.inference.ml.azure.com/score"
    with running.session() as session:
        return session.post(address, json={"a": 7}, headers={"Authorization": f"Bearer {key}"}, timeout=60).json()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_was_made_is_there_after_a_kill(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with emulator(state) as first:
        put_job(first, "done", "echo hello && sleep 0")
        until(lambda: job_status(first, "done") == "Completed", 120)
        put_job(first, "endless", f"sleep {ENDLESS}")
        until(sleeping, 120)
        serve_endpoint(first)
        vault = {"value": "worth"}
        token = {"Authorization": f"Bearer {first.token('https://vault.azure.net')}"}
        with first.session() as session:
            session.put("https://emulator.vault.azure.net/secrets/key", json=vault, headers=token, timeout=30)
        key = first.call("POST", "onlineEndpoints/live/listKeys").json()
        before = [kept(first, path) for path in ("jobs/done", "environments/e/versions/1")]
        assert len(first.descendants()) >= 2, "Azurite and the job"
        first.process.kill()
        first.process.wait()
        until(lambda: not first.descendants() and not sleeping(), 60)
    with emulator(state) as second:
        assert second.port != 0
        assert [kept(second, path) for path in ("jobs/done", "environments/e/versions/1")] == before
        details = second.call("GET", history(second, "done"), host="westeurope.api.azureml.ms").json()
        (log,) = [url for name, url in details["logFiles"].items() if name.startswith("user_logs")]
        with second.session() as session:
            assert session.get(log, timeout=30).text == "hello\n"
        ended = second.call("GET", "jobs/endless").json()["properties"]
        assert (ended["status"], ended["properties"]["message"]) == (
            "Failed", "the emulator was ended while this job ran",
        )  # fmt: skip
        assert second.call("POST", "onlineEndpoints/live/listKeys").json() == key
        assert second.call("GET", "onlineEndpoints/live").json()["properties"]["traffic"] == {"blue": 90, "green": 10}
        assert score(second) == {"a": 7}
        with second.session() as session:
            found = session.get("https://emulator.vault.azure.net/secrets/key", headers=token, timeout=30).json()
        assert found["value"] == "worth"
        put_job(second, "later", "echo again")
        until(lambda: job_status(second, "later") == "Completed", 120)
        put_job(second, "cancelled", f"sleep {ENDLESS}")
        until(sleeping, 120)
        assert second.stop() == 0
        assert not second.descendants()
        assert not sleeping()
    with emulator(state) as third:
        assert [job_status(third, name) for name in ("done", "endless", "later", "cancelled")] == [
            "Completed", "Failed", "Completed", "Canceled",
        ]  # fmt: skip
        assert third.stop(signal.SIGTERM) == 0


def kept(running: EmulatorProcess, path: str) -> Any:
    """Something, with the address of the pages as if they had no port: it is another after a restart."""
    return json.loads(running.call("GET", path).text.replace(f"http://127.0.0.1:{running.port}/", "PAGES/"))


def history(running: EmulatorProcess, run: str) -> str:
    base = f"{SCOPE}/providers/Microsoft.MachineLearningServices/workspaces/ws"
    return f"/history/v1.0{base}/runs/{run}/details"


@pytest.mark.slow
def test_ctrl_c_while_a_command_runs_ends_the_command_first(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "azureml_emulator", "--state", "s", "--"]
    shell = "trap 'echo ended; exit 3' INT; echo begun; while true; do sleep 0.1; done"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*line, "sh", "-c", shell],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env=plain_environment(),
            start_new_session=True,
        )
    try:
        until(lambda: "begun" in (tmp_path / "log").read_text(), 120)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(60) == 3
        assert (tmp_path / "log").read_text() == "begun\nended\n"
    finally:
        if process.poll() is None:
            process.kill()


@pytest.mark.slow
def test_a_slow_walk_needs_nothing_of_this_project(tmp_path: Path) -> None:
    """The example with Microsoft's SDK, where neither the tool nor the emulator can be imported."""
    root = Path(__file__).parents[2]
    bare = tmp_path / "bare.py"
    bare.write_text(BARE)
    shutil.copy(root / "examples" / "azure_ml_walk.py", tmp_path)
    packages = str(Path(sys.modules["pytest"].__file__ or "").parents[1])
    started = time.monotonic()
    with emulator(tmp_path / "state") as running:
        ended = subprocess.run(
            [sys.executable, "-I", "-S", str(bare), packages, str(tmp_path / "azure_ml_walk.py")],
            capture_output=True, text=True, cwd=tmp_path, env=running.environment, timeout=280,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "160 g are: apple" in ended.stdout
    assert time.monotonic() - started < 280


BARE = """\
import importlib.util, runpy, sys
sys.path.append(sys.argv[1])  # packages of others; without the module site, no link to this project's source is followed
for name in ("vision_mlops", "azureml_emulator", "testing"):
    assert importlib.util.find_spec(name) is None, f"{name} can be imported"
runpy.run_path(sys.argv[2], run_name="__main__")
"""
