"""Azure settings: where each value may come from, which of them wins, and what a mistake says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values
from pydantic import ValidationError

import vision_mlops
from vision_mlops.config.azure_settings import CLOUD_ADDRESSES, VARIABLES, AzureSettings, Cloud
from vision_mlops.core.errors import ConfigError

ROOT = Path(vision_mlops.__file__).parents[2]
NEEDED = {
    "AZURE_SUBSCRIPTION_ID": "12345678-9abc-def0-1234-56789abcdef0",
    "AZURE_RESOURCE_GROUP": "rg-vision",
    "AZUREML_WORKSPACE_NAME": "mlw-vision",
}


def settings(tmp_path: Path, environ: dict[str, str] | None = None, **arguments: str | int | None) -> AzureSettings:
    """Settings of an environment with the needed ones and some more, and of ``tmp_path/.env``."""
    return AzureSettings.load(env_file=tmp_path / ".env", environ={**NEEDED, **(environ or {})}, **arguments)


def refused(tmp_path: Path, environ: dict[str, str], **arguments: str | int | None) -> str:
    with pytest.raises(ConfigError) as caught:
        AzureSettings.load(env_file=tmp_path / ".env", environ=environ, **arguments)
    return str(caught.value)


def test_defaults(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert found.subscription_id == NEEDED["AZURE_SUBSCRIPTION_ID"]
    assert (found.tenant_id, found.registry_name, found.location) == (None, None, "westeurope")
    assert found.cpu.reference == "azureml:cpu-cluster"
    assert (found.gpu.sku, found.gpu.min_nodes, found.gpu.tier) == ("Standard_NC4as_T4_v3", 0, "dedicated")


def test_argument_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    name = "MLOPS_AZURE_CPU_MAX_NODES"
    assert settings(tmp_path).cpu.max_nodes == 4
    (tmp_path / ".env").write_text(f"{name}=5\nexport AZURE_LOCATION='northeurope' # near\nUNRELATED=x\n")
    assert settings(tmp_path).cpu.max_nodes == 5
    assert settings(tmp_path).location == "northeurope"
    assert settings(tmp_path, {name: "6"}).cpu.max_nodes == 6
    assert settings(tmp_path, {name: ""}).cpu.max_nodes == 5, "an empty value counts as none"
    assert settings(tmp_path, {name: "6"}, cpu_max_nodes=7).cpu.max_nodes == 7
    assert settings(tmp_path, {name: "6"}, cpu_max_nodes=None).cpu.max_nodes == 6


def test_the_process_environment_and_the_current_folder_are_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    Path(".env").write_text("MLOPS_AZURE_GPU_CLUSTER=a100\n")
    assert AzureSettings.load().gpu_cluster == "a100"


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    text = refused(tmp_path, {})
    assert text.startswith(
        "AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP, AZUREML_WORKSPACE_NAME are not set\n  -> export"
    )
    text = refused(tmp_path, {**NEEDED, "AZUREML_WORKSPACE_NAME": " ", "AZUREML_WORKSPACE": "mlw"})
    assert text.startswith("AZUREML_WORKSPACE_NAME is not set\n")
    assert "is AZUREML_WORKSPACE meant to be AZUREML_WORKSPACE_NAME? export" in text


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("AZURE_SUBSCRIPTION_ID", "my subscription", "write it like 00000000-0000"),
        ("AZURE_SUBSCRIPTION_ID", "$(SUBSCRIPTION)", "write it like 00000000-0000"),
        ("AZURE_TENANT_ID", "contoso", "write it like 00000000-0000"),
        ("AZURE_RESOURCE_GROUP", "ends.", "write it like rg-vision"),
        ("AZUREML_WORKSPACE_NAME", "my workspace", "write it like mlw-vision"),
        ("AZURE_LOCATION", "West Europe", "write it like westeurope"),
        ("MLOPS_AZURE_CPU_CLUSTER", "cpu_cluster", "write it like cpu-cluster"),
        ("MLOPS_AZURE_CPU_SKU", "DS3", "write it like Standard_DS3_v2"),
        ("MLOPS_AZURE_GPU_SKU", "Standard_NC6", "Azure has retired this size; use for example Standard_NC4as_T4_v3"),
        ("MLOPS_AZURE_GPU_SKU", "STANDARD_NC6s_v3", "Azure has retired this size"),
        ("MLOPS_AZURE_CPU_TIER", "spot", "Valid here: dedicated, low_priority"),
        ("MLOPS_AZURE_CPU_MAX_NODES", "many", "give a whole number from 0 to 1000"),
        ("MLOPS_AZURE_CPU_IDLE_SECONDS", "5", "give a whole number from 60 to 86400"),
        ("MLOPS_AZURE_AUTOML_MODEL", "vitb16", "did you mean 'vitb16r224'? Valid here: mobilenetv2, "),
        ("MLOPS_AZURE_AUTOML_TIMEOUT_MINUTES", "0", "give a whole number from 1 to 10080"),
    ],
)
def test_a_malformed_value_is_named_with_its_fix(tmp_path: Path, name: str, value: str, fix: str) -> None:
    message, hint = refused(tmp_path, {**NEEDED, name: value}).split("\n  -> ")
    assert message == f"{name}={value!r} (environment) is not valid"
    assert fix in hint
    assert name not in hint


def test_several_mistakes_are_told_together(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AZURE_LOCATION=a b\n")
    text = refused(tmp_path, {}, cpu_sku="big", workspace_name="mlw", resource_group="rg")
    assert text.startswith("AZURE_SUBSCRIPTION_ID is not set; AZURE_LOCATION='a b' (")
    assert "; MLOPS_AZURE_CPU_SKU='big' (argument) is not valid\n" in text


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"MLOPS_AZURE_CPU_MAX_NODES": "0"}, "MLOPS_AZURE_CPU_MAX_NODES=0 must be at least 1\n  -> export"),
        (
            {"MLOPS_AZURE_GPU_MIN_NODES": "3"},
            "MLOPS_AZURE_GPU_MAX_NODES=1 must be at least MLOPS_AZURE_GPU_MIN_NODES=3\n"
            "  -> raise MLOPS_AZURE_GPU_MAX_NODES or lower MLOPS_AZURE_GPU_MIN_NODES",
        ),
        ({"MLOPS_AZURE_GPU_CLUSTER": "CPU-cluster"}, "MLOPS_AZURE_GPU_CLUSTER are both 'cpu-cluster'"),
        (
            {"MLOPS_AZURE_CPU_SKUU": "x"},
            "unknown setting MLOPS_AZURE_CPU_SKUU (environment)\n  -> did you mean MLOPS_",
        ),
    ],
)
def test_settings_that_do_not_go_together(tmp_path: Path, environ: dict[str, str], message: str) -> None:
    assert message in refused(tmp_path, {**NEEDED, **environ})


def test_clouds(tmp_path: Path) -> None:
    assert settings(tmp_path).cloud == Cloud(
        "AzureCloud", "https://login.microsoftonline.com", "https://management.azure.com", {}
    )
    assert settings(tmp_path, {"AZURE_CLOUD": "AzureUSGovernment"}).cloud.authority_host.endswith(".us")
    text = refused(tmp_path, {**NEEDED, "AZURE_CLOUD": "Stack", "AZURE_PORTAL": "https://portal.example.org"})
    assert (
        "AZURE_CLOUD='Stack' is not one of AzureCloud, AzureUSGovernment, AzureChinaCloud, and AZURE_AUTHORITY" in text
    )
    assert "AZURE_PORTAL" not in text
    text = refused(tmp_path, {**NEEDED, "AZURE_RESOURCE_MANAGER": "https://management.example.org"})
    assert "AZURE_RESOURCE_MANAGER is for another cloud\n  -> give that cloud a name with AZURE_CLOUD" in text
    assert "AZURE_PORTAL" in refused(tmp_path, {**NEEDED, "AZURE_CLOUD": "Stack", "AZURE_PORTAL": "http://insecure"})
    whole = {name: f"https://{name.lower().replace('_', '-')}.example.org:8443" for name in CLOUD_ADDRESSES}
    cloud = settings(tmp_path, {**whole, "AZURE_CLOUD": "Stack", "AZURE_STORAGE_SUFFIX": "core.example.org"}).cloud
    assert cloud.addresses["resource_manager"] == "https://azure-resource-manager.example.org:8443"
    assert cloud.addresses["storage_endpoint"] == "core.example.org"
    assert cloud.authority_host == cloud.addresses["active_directory"]


def test_unknown_arguments_and_broken_files(tmp_path: Path) -> None:
    text = refused(tmp_path, NEEDED, workspace="mlw")
    assert text == "unknown setting 'workspace'\n  -> did you mean workspace_name?"
    assert refused(tmp_path, NEEDED, colour="red").endswith("\n  -> .env.example lists all settings")
    file = tmp_path / ".env"
    file.write_text("A=1\n= 3\n")
    assert refused(tmp_path, NEEDED).startswith(f"{file}:2: not of the form NAME=value")
    file.write_bytes(b"\xff\xfe")
    assert refused(tmp_path, NEEDED).startswith(f"{file} cannot be read")
    file.unlink()
    file.mkdir()
    assert refused(tmp_path, NEEDED).startswith(f"{file} cannot be read")


def test_settings_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings(tmp_path), "location", "eastus")  # noqa: B010


def test_variables_stay_clear_of_workload_overrides() -> None:
    assert len(VARIABLES) == len(AzureSettings.model_fields)
    assert not [name for name in VARIABLES if name.startswith("MLOPS_") and "__" in name]


def test_the_example_file_has_every_setting_with_its_default(tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    file = tmp_path / ".env"
    file.write_text(text.replace("\n# MLOPS_AZURE_", "\nMLOPS_AZURE_").replace("\n# AZURE", "\nAZURE"))
    assert set(dotenv_values(file)) == set(VARIABLES)
    # The addresses in it are those of another cloud.
    found = AzureSettings.load(env_file=file, environ={"AZURE_CLOUD": "Another"})
    plain = settings(tmp_path / "nothing")
    told = {"subscription_id", "tenant_id", "registry_name"}
    told |= {"cloud_name", *(name for name, value in plain.model_dump().items() if value is None)}
    assert found.model_dump(exclude=told) == plain.model_dump(exclude=told)
    assert all(getattr(found, name) for name in told)


def test_nothing_is_read_on_import() -> None:
    code = (
        "import sys, vision_mlops.config.azure_settings; print([m for m in ('dotenv', 'azure.ai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
