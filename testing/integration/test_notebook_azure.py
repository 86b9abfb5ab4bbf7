"""Azure in a notebook: an emulator that lives as long as the notebook, and a workspace of one's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from testing.support.jobs import until

from vision_mlops.core.errors import AzureError
from vision_mlops.notebooks.azure_session import connect_azure

NOTEBOOK = """\
import sys
from vision_mlops.notebooks.azure_session import connect_azure
print(connect_azure(), flush=True)
sys.stdin.read()
"""


def runs(home: Path) -> bool:
    return (home / "emulator" / "emulator.json").exists()


@pytest.mark.slow
def test_the_emulator_is_that_of_one_notebook_and_ends_with_its_session(home: Path) -> None:
    before = dict(os.environ)
    azure = connect_azure()
    try:
        assert azure.emulated
        assert str(azure) == "workspace ws in resource group rg, on the emulator on this machine"
        assert os.environ["MLOPS_REGISTRY"] == "azure"
        assert os.environ["HTTPS_PROXY"].startswith("http://127.0.0.1:")
        line = [sys.executable, "-c", "from vision_mlops.notebooks.azure_session import connect_azure; connect_azure()"]
        other = subprocess.run(
            line, env={**before, "MLOPS_HOME": str(home)}, capture_output=True, text=True, check=False
        )
        assert "the emulator cannot start: the state folder" in other.stderr
        assert "-> shut down the kernel of the notebook that uses it" in other.stderr
        (home / "context" / "bundle").mkdir(parents=True)
        (home / "context" / "bundle" / "bundle.json").write_text("{}")
        azure.build_image("ws.azurecr.io/mlops-colours:1-abc", home / "context")
        assert (home / "emulator/work/images/ws.azurecr.io/mlops-colours/1-abc/bundle.json").is_file()
    finally:
        azure.close()
    assert dict(os.environ) == before
    assert not runs(home)
    azure.close()


@pytest.mark.slow
def test_the_emulator_ends_with_a_kernel_that_is_killed(home: Path) -> None:
    line = [sys.executable, "-c", NOTEBOOK]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as notebook:
        assert notebook.stdout is not None
        assert "emulator on this machine" in notebook.stdout.readline()
        assert json.loads((home / "emulator" / "emulator.json").read_text())["process"] != notebook.pid
        notebook.send_signal(signal.SIGKILL)
        until(lambda: not runs(home))


def test_settings_of_a_workspace_win(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        "AZURE_SUBSCRIPTION_ID=1\nAZURE_RESOURCE_GROUP=rg-vision\nAZUREML_WORKSPACE_NAME=mlw\n"
    )
    azure = connect_azure()
    try:
        assert not azure.emulated
        assert str(azure) == "workspace mlw in resource group rg-vision, on Azure"
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(AzureError, match=r"r\.azurecr\.io/m:1 could not be built: .*az"):
            azure.build_image("r.azurecr.io/m:1", tmp_path)
    finally:
        azure.close()
    assert "MLOPS_REGISTRY" not in os.environ
    assert not home.exists()
