"""Costs follow from amounts and a dated table, which a team can replace key by key."""

from __future__ import annotations

from pathlib import Path

import pytest

from vision_mlops.benchmark.benchmark_result import BenchmarkResult
from vision_mlops.benchmark.service_prices import load_prices
from vision_mlops.core.errors import ConfigError


def result(**changes: object) -> BenchmarkResult:
    content = {
        "name": "some", "title": "Some", "hosted": False, "workload": "colours", "data_fingerprint": "a" * 64,
        "classes": ["a", "b"], "settings": {}, "code": "", "measured": "2026-01-02T03:04:05+00:00", "machine": "Linux",
        "training_seconds": 1800.0, "size_bytes": 1, "metrics": {},
        "latency_ms": {"median": 36.0, "median_low": 1.0, "median_high": 99.0, "p95": 99.0, "images": 50.0},
    }  # fmt: skip
    return BenchmarkResult.model_validate({**content, **changes})


def test_what_runs_here_costs_the_time_of_a_machine() -> None:
    prices = load_prices()
    assert prices.training(result()) == pytest.approx(0.05)
    assert prices.predictions(result()) == pytest.approx(0.001)  # 36 s
    assert prices.training(result(training_seconds=None)) is None


def test_a_service_costs_what_it_was_asked_for() -> None:
    used = {"training": {"vm_hour.STANDARD_NC4AS_T4_V3": 2.0, "custom_vision_training_hour": 1.0}, "per_prediction": {}}
    local = result(usage=used)
    assert load_prices().training(local) == pytest.approx(2 * 0.526 + 10)
    assert load_prices().predictions(local) == pytest.approx(0.001)  # its network runs here
    assert load_prices().predictions(result(hosted=True, usage=used)) is None
    assert load_prices().training(result(usage={})) is None
    unknown = result(hosted=True, usage={"training": {"gold": 1.0}, "per_prediction": {"custom_vision_prediction": 1}})
    assert load_prices().training(unknown) is None
    assert load_prices().unknown(unknown) == ["gold"]
    assert load_prices().predictions(unknown) == pytest.approx(2.0)


def test_a_team_replaces_what_differs(tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    own.write_text("prices: {vm_hour.Standard_D2as_v5: {amount: 0.2, date: 2026-12-01}}")
    assert load_prices(own).training(result()) == pytest.approx(0.1)
    assert load_prices(own).price("custom_vision_prediction") is not None
    own.write_text("{currency: EUR, machine: rack, prices: {vm_hour.rack: {amount: 1, date: 2026-12-01}}}")
    assert load_prices(own).training(result()) == pytest.approx(0.5)
    assert load_prices(own).price("custom_vision_prediction") is None  # dollars


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price: {}", "unknown key 'price'\n  -> did you mean 'prices'?"),
        ("prices: []", "prices: must be a mapping of keys to prices"),
        ("prices: {gold: {amount: -1, date: 2026-12-01}}", "prices.gold.amount: -1"),
        ("prices: {gold: {amount: true, date: 2026-12-01}}", "prices.gold.amount: True is not a number"),
        ("prices: {gold: {amount: 1}}", "prices.gold.date: the key is missing"),
        ("prices: {gold: {amount: 1, date: 2026-12-01, sorce: x}}", "prices.gold.sorce: the key is unknown"),
        ("machine: rack", "no price in USD for an hour of the machine 'rack'"),
        ("- a", "has no keys"),
        ("a: [", "the prices cannot be read"),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_prices(tmp_path / "own.yml")
    assert message in str(caught.value)
