"""The table of retirements: what it finds, when it warns, and that nothing which this repository uses is over."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from vision_mlops.config.azure_settings import _RETIRED
from vision_mlops.config.retirements import WARNING_DAYS, Use, retired_uses, retirements
from vision_mlops.doctor.check_results import failed
from vision_mlops.doctor.project_uses import check_retirements, uses_of_files, uses_of_line

ROOT = Path(__file__).resolve().parents[3]


def test_nothing_that_is_used_here_is_retired() -> None:
    """Fails from the day on which something that this repository uses is over: use what the table names instead."""
    over = failed(check_retirements(ROOT, date.today(), {}))
    assert "\n".join(f"{item.detail}: {item.fix}" for item in over) == ""


def test_with_the_clock_set_ahead_that_test_fails() -> None:
    found = failed(check_retirements(ROOT, date(2028, 5, 1), {}))
    assert any("Standard_DS3_v2" in item.detail and "was retired on 2028-05-01" in item.detail for item in found)
    assert any("use a size of the series Dsv5" in item.fix for item in found)


@pytest.mark.parametrize(
    ("kind", "name", "day"),
    [
        ("sku", "Standard_NC6", "2023-09-06"), ("sku", "STANDARD_NC24RS_V3", "2025-09-30"), ("sku", "Standard_D4s_v5", ""),
        ("sku", "Standard_DS3_v2", "2028-05-01"), ("sku", "Standard_F4s_v2", "2028-11-15"),
        ("sku", "Standard_NC4as_T4_v3", ""),
        ("agent", "ubuntu-20.04", "2025-04-15"), ("agent", "ubuntu-24.04", ""),
        ("agent", "Hosted Ubuntu 1604", "2021-09-20"),
        ("agent", "Hosted VS2017", "2022-06-30"), ("agent", "Hosted", "2020-03-23"), ("agent", "Hosted Pool of ours", ""),
        ("action", "actions/checkout@v4.2.2", "2026-09-16"), ("action", "actions/checkout@v6", ""),
        ("python", "3.9", "2025-10-31"), ("python", "3.13", ""), ("package", "azureml-core", "2026-06-30"),
        ("package", "azureml-mlflow", ""), ("package", "azure-ai-ml", ""), ("service", "CustomVision", "2028-09-25"),
        ("agent", "macOS-10.15", "2022-08-30"), ("agent", "macos-13-large", "2025-12-04"), ("agent", "macos-15", ""),
        ("task", "AzureCLI@1", "2026-11-30"), ("task", "AzureCLI@2", ""), ("python", "2.7", "2020-01-01"),
        ("python", "3.5", "2020-09-30"), ("package", "azureml-widgets", "2026-06-30"),
        ("task", "publisher.extension.MLPublishedPipelineRestAPITask@0", "2026-06-30"),
        ("image", "mcr.microsoft.com/azureml/openmpi3.1.2-ubuntu18.04:20200723.v1", "2023-05-31"),
        ("image", "python:3.8-slim-buster", "2024-06-30"),
        ("image", "nvidia/cuda:10.1-cudnn7-devel-ubuntu16.04", "2021-04-30"),
        ("image", "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest", ""),
    ],
)  # fmt: skip
def test_the_table(kind: str, name: str, day: str) -> None:
    assert [str(found.retirement.day) for found in retired_uses([Use(kind, name, "here")])] == ([day] if day else [])


def test_it_warns_before_and_fails_after() -> None:
    (found,) = retired_uses([Use("sku", "Standard_DS3_v2", "here")])
    day = found.retirement.day
    assert not found.is_near(day - timedelta(days=WARNING_DAYS + 1))
    assert (found.is_near(day - timedelta(days=WARNING_DAYS)), found.is_over(day - timedelta(days=1))) == (True, False)
    assert found.is_over(day)


def test_sizes_that_the_settings_refuse_are_in_the_table() -> None:
    for size in ("NC6", "NC24r", "NC6s_v2", "NC6s_v3", "ND6s", "NV6", "NV12s_v2", "NC6_Promo"):
        assert _RETIRED.fullmatch(f"Standard_{size}")
        assert retired_uses([Use("sku", f"Standard_{size}", "")]), size


FILES = {
    ".github/workflows/ci.yml": "runs-on: ubuntu-20.04\n- uses: actions/checkout@0123 # v4.1.0\n# runs-on: windows-2019\n",
    "ado_pipelines/ci_pipeline.yml": "pool:\n  vmImage: 'windows-2019'\n- task: AzureCLI@1\n  versionSpec: '3.8'\n",
    "environments/conda/train.yml": "dependencies:\n  - python=3.9\n  - azureml-sdk=1.5\n",
    "environments/docker/Dockerfile": "ARG BASE_IMAGE=python:3.10-slim\n",
    "infrastructure/main.bicep": "param size string = 'Standard_NC6'\n  kind: 'CustomVision.Training'\n",
    "workloads/job.yml": "resources:\n  instance_type: Standard_D4s_v5\n  tier: low_priority\n",
}


def test_files_are_looked_through(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    here = {
        (use.kind, use.name, use.where) for use in uses_of_files(tmp_path) if not use.where.startswith("vision_mlops")
    }
    assert here == {
        ("agent", "ubuntu-20.04", ".github/workflows/ci.yml:1"),
        ("action", "actions/checkout@v4.1.0", ".github/workflows/ci.yml:2"),
        ("agent", "windows-2019", "ado_pipelines/ci_pipeline.yml:2"),
        ("task", "AzureCLI@1", "ado_pipelines/ci_pipeline.yml:3"),
        ("python", "3.8", "ado_pipelines/ci_pipeline.yml:4"),
        ("python", "3.9", "environments/conda/train.yml:2"),
        ("package", "azureml-sdk", "environments/conda/train.yml:3"),
        ("python", "3.10", "environments/docker/Dockerfile:1"),
        ("image", "python:3.10-slim", "environments/docker/Dockerfile:1"),
        ("sku", "Standard_NC6", "infrastructure/main.bicep:1"),
        ("service", "CustomVision", "infrastructure/main.bicep:2"),
        ("sku", "Standard_D4s_v5", "workloads/job.yml:2"),
    }


def test_settings_count_with_their_variable(tmp_path: Path) -> None:
    found = list(check_retirements(tmp_path, date(2026, 11, 30), {"MLOPS_AZURE_GPU_SKU": "Standard_NC6s_v3"}))
    assert [item.detail for item in failed(found)] == [
        "Standard_NC6s_v3 (MLOPS_AZURE_GPU_SKU): the series NCv3 was retired on 2025-09-30"
    ]


def test_spot_machines_are_advised_and_so_no_failure(tmp_path: Path) -> None:
    (tmp_path / "workloads").mkdir()
    (tmp_path / "workloads" / "job.yml").write_text("tier: low_priority\n")
    environ = {"MLOPS_AZURE_GPU_TIER": "low_priority", "MLOPS_AZURE_CPU_TIER": "low_priority"}
    assert not [item for item in check_retirements(tmp_path, date(2026, 11, 30), environ) if "priority" in item.detail]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pool: Hosted Ubuntu 1604", [("agent", "Hosted Ubuntu 1604")]),
        ("  name: 'Hosted VS2017'  # old", [("agent", "Hosted VS2017")]),
        ("pool: {name: Hosted macOS}", [("agent", "Hosted macOS")]),
        ("- name: Hosted on our own machines (fast)", []),
    ],
)
def test_pools_of_before_are_found(line: str, found: list[tuple[str, str]]) -> None:
    assert list(uses_of_line(line)) == found


def test_each_row_says_where_it_is_known_from() -> None:
    assert len(retirements()) > 15
    assert all(row.source and row.replacement for row in retirements())
