"""The estimate of what a month costs: by machine, by container and by plan, and what nobody knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.endpoints.appservice.site_definition import SKU
from vision_mlops.teardown import prices


@pytest.mark.parametrize(
    ("machine", "count", "usd"),
    [
        ("Standard_DS3_v2", 1, 213.89), ("standard_ds3_v2", 2, 427.78), ("Standard_DS3_v2", 0, 0.0),
        ("1 CPU, 2 GB", 1, 36.06), ("Standard_X9", 1, None), ("", 1, None),
    ],
)  # fmt: skip
def test_machines(machine: str, count: int, usd: float | None) -> None:
    assert prices.of_machines(machine, count) == usd


def test_defaults_have_a_price() -> None:
    sizes = [str(AzureSettings.model_fields[name].default) for name in ("instance_type", "cpu_sku", "gpu_sku")]
    assert None not in [prices.of_machines(size) for size in sizes]
    assert prices.of_plan(SKU)
    assert (prices.of_plan("F1"), prices.of_plan("I1v2")) == (0.0, None)


def test_the_assumption_is_told_with_its_day() -> None:
    assert "pay-as-you-go" in prices.assumption()
    assert "2026-" in prices.assumption()


def test_figures_of_the_guide_are_those_of_the_table() -> None:
    text = (Path(__file__).parents[3] / "docs" / "how_to" / "cost.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| .+? \| (.+?) \| ([\d,; ]+) \|", text, re.MULTILINE))
    month: dict[str, tuple[float | None, ...]] = {
        "`Standard_DS3_v2`": (prices.of_machines("Standard_DS3_v2"),),
        "1 core, 2 GB": (prices.of_machines("1 CPU, 2 GB"),),
        "3 × `Standard_D4s_v5`": (prices.of_machines("Standard_D4s_v5", 3),),
        "`S1`; `P0v3`": (prices.of_plan("S1"), prices.of_plan("P0v3")),
        "`Standard_NC4as_T4_v3`": (prices.of_machines("Standard_NC4as_T4_v3"),),
        "`Standard_NC24ads_A100_v4`": (prices.of_machines("Standard_NC24ads_A100_v4"),),
    }
    assert rows == {size: "; ".join(f"{price:,.0f}" for price in found if price) for size, found in month.items()}
    assert f"`Standard_NC4as_T4_v3` costs about {prices.of_hour('Standard_NC4as_T4_v3'):.2f}." in text
    assert f"of {prices.checked()}" in text
