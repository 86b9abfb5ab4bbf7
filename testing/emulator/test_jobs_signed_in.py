"""What a job on the emulator finds: who it is, which run it is, where it was submitted, and no sign-in of the machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from testing.support.emulator_process import EmulatorProcess, emulator
from testing.support.jobs import until

from azureml_emulator.identity.sign_in_routes import COMPUTE

pytestmark = pytest.mark.slow
BASE = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.MachineLearningServices"
)
LOOK = """\
python - <<'END'
import json, os
from pathlib import Path
from azure.ai.ml import MLClient
from azure.ai.ml.entities import Model
from azure.identity import DefaultAzureCredential
have = os.environ
client = MLClient(
    DefaultAzureCredential(), have["AZUREML_ARM_SUBSCRIPTION"], have["AZUREML_ARM_RESOURCEGROUP"],
    have["AZUREML_ARM_WORKSPACE_NAME"],
)
print(client.compute.get("cpu-cluster").provisioning_state)
Path("weights").write_text("1")
client.models.create_or_update(Model(path="weights", name="found", version="7"))
print(json.dumps({**have, "sign-in": os.listdir(have["AZURE_CONFIG_DIR"])}))
END
"""


def environment(running: EmulatorProcess) -> str:
    running.call("PUT", "environments/e/versions/1", {"properties": {"image": "python:3.11"}}).raise_for_status()
    return f"{BASE}/workspaces/ws/environments/e/versions/1"


def log_of(running: EmulatorProcess, run: str) -> str:
    details = running.call(
        "GET", f"/history/v1.0{BASE}/workspaces/ws/runs/{run}/details", host="westeurope.api.azureml.ms"
    ).json()
    texts = []
    with running.session() as session:
        for address in details["logFiles"].values():
            texts.append(session.get(address, timeout=30).text)
    return "\n".join(texts)


def ended(running: EmulatorProcess, name: str, body: dict[str, Any]) -> str:
    running.call("PUT", f"jobs/{name}", {"properties": body}).raise_for_status()
    found = running.call("GET", f"jobs/{name}")
    until(lambda: running.call("GET", f"jobs/{name}").json()["properties"]["status"] in ("Completed", "Failed"), 120)
    found = running.call("GET", f"jobs/{name}").json()["properties"]
    assert found["status"] == "Completed", (found["properties"], log_of(running, name))
    return str(found["services"]["Studio"]["endpoint"])


def test_a_job_is_signed_in_as_its_compute_and_knows_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / ".azure").mkdir(parents=True)
    for name in ("AZURE_CONFIG_DIR", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT"):
        monkeypatch.setenv(name, str(home / ".azure"))
    with emulator(tmp_path / "state") as running:
        used = environment(running)
        page = ended(running, "one", {
            "jobType": "Command", "command": LOOK, "environmentId": used,
            "environmentVariables": {"AZURE_LOCATION": "elsewhere"},
        })  # fmt: skip
        seen = json.loads(log_of(running, "one").splitlines()[-1])
        assert running.call("GET", "models/found/versions/7").status_code == 200
        component = {"type": "command", "command": "echo $AZUREML_RUN_ID $AZUREML_ROOT_RUN_ID", "environment": used}
        running.call(
            "PUT",
            "components/c/versions/1",
            {"properties": {"componentSpec": {"name": "c", "version": "1", **component}}},
        ).raise_for_status()
        step = {"type": "command", "componentId": f"{BASE}/workspaces/ws/components/c/versions/1"}
        ended(running, "two", {"jobType": "Pipeline", "jobs": {"say": step}})
        (child,) = running.call(
            "GET", f"/history/v1.0{BASE}/workspaces/ws/runs/two/children", host="westeurope.api.azureml.ms"
        ).json()["value"]
        assert log_of(running, child["runId"]).split() == [child["runId"], "two"]
        nowhere = {
            "type": "uri_folder",
            "jobInputType": "uri_folder",
            "uri": "azureml://datastores/workspaceblobstore/paths/x",
        }
        lost = {"jobType": "Command", "command": "ls", "environmentId": used, "inputs": {"data": nowhere}}
        running.call("PUT", "jobs/lost", {"properties": lost}).raise_for_status()
        until(lambda: running.call("GET", "jobs/lost").json()["properties"]["status"] == "Failed", 60)
        with running.session() as session:
            session.proxies = {}
            reason = "there is nothing at "
            assert reason in log_of(running, "lost")
            assert reason in session.get(f"http://127.0.0.1:{running.port}/workspaces/ws/jobs/lost", timeout=30).text
            assert (
                reason in session.get(f"http://127.0.0.1:{running.port}/workspaces/ws/jobs/lost/log", timeout=30).text
            )
            shown = session.get(page, timeout=30)
    assert {name: seen[name] for name in ("AZUREML_RUN_ID", "AZUREML_ROOT_RUN_ID", "AZUREML_ARM_WORKSPACE_NAME")} == {
        "AZUREML_RUN_ID": "one", "AZUREML_ROOT_RUN_ID": "one", "AZUREML_ARM_WORKSPACE_NAME": "ws",
    }  # fmt: skip
    assert (seen["AZURE_CLIENT_ID"], seen["MLOPS_REGISTRY"], seen["sign-in"]) == (COMPUTE, "azure", [])
    assert seen["HTTPS_PROXY"] == running.variables["HTTPS_PROXY"]
    assert seen["AZURE_LOCATION"] == "elsewhere", "what the job itself sets wins"
    assert not {"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT"} & seen.keys()
    assert page.startswith(f"http://127.0.0.1:{running.port}/runs/one?")
    assert (shown.status_code, "one" in shown.text) == (200, True)
