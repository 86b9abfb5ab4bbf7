"""The table of a benchmark: every result of the same data, with what it costs and whether it differs from ours by chance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
from vision_mlops.benchmark.benchmark_result import BenchmarkResult
from vision_mlops.benchmark.contestants import OURS
from vision_mlops.benchmark.service_prices import PriceTable
from vision_mlops.core.errors import DataError
from vision_mlops.evaluation.gate import mcnemar
from vision_mlops.evaluation.prediction_table import PredictionTable

_SHARED = ("backbone", "image_size", "resize", "augment")
"""Settings of a workload that several contestants take over: results that differ in one of them answer other questions."""


@dataclass(frozen=True, slots=True)
class AgainstOurs:
    """A contestant against ours on the same images: what only one of them gets right, and the p-value of McNemar's test."""

    only_it: int
    only_ours: int
    p_value: float

    def verdict(self, significance: float) -> str:
        """Return ``better``, ``worse``, or ``not different`` if the difference may be chance."""
        if self.p_value >= significance:
            return "not different"
        return "better" if self.only_it > self.only_ours else "worse"


@dataclass(frozen=True, slots=True)
class StandingRow:
    """One row.

    Attributes:
        result: Result that the row shows.
        training_cost: Cost of the training; None if a price or amount is not known.
        cost_per_1000: Cost of 1,000 predictions; None likewise.
        against_ours: None if there is no result of ours, or the two were measured with different settings.
        other_settings: In words, settings of the workload that are not those of ours; empty if they agree.
    """

    result: BenchmarkResult
    training_cost: float | None
    cost_per_1000: float | None
    against_ours: AgainstOurs | None
    other_settings: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return all that is known, ready for JSON."""
        compared = self.against_ours
        return {
            **self.result.model_dump(mode="json"),
            "training_cost": self.training_cost,
            "cost_per_1000_predictions": self.cost_per_1000,
            "against_ours": None if compared is None else {
                "only_it_right": compared.only_it, "only_ours_right": compared.only_ours, "p_value": compared.p_value,
            },
            "other_settings": self.other_settings,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standings:
    """All rows of one workload and one fingerprint, the most accurate first.

    Attributes:
        workload: Name of the workload.
        fingerprint: Of the data.
        rows: A row for each contestant.
        prices: Prices that the costs were computed with.
        left_out: Why a result that is there is in no row, by name.
    """

    workload: str
    fingerprint: str
    rows: list[StandingRow]
    prices: PriceTable
    left_out: dict[str, str]

    @property
    def results(self) -> list[BenchmarkResult]:
        """The results of all rows."""
        return [row.result for row in self.rows]

    def unknown_prices(self) -> list[str]:
        """Return keys that a result used and that have no price."""
        return sorted({key for result in self.results for key in self.prices.unknown(result)})

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain JSON values."""
        return {
            "workload": self.workload,
            "data_fingerprint": self.fingerprint,
            "contestants": [row.to_dict() for row in self.rows],
            "currency": self.prices.currency,
            "prices": {key: price.model_dump(mode="json") for key, price in self.prices.used_by(self.results).items()},
            "left_out": self.left_out,
        }


def standings(folder: BenchmarkFolder, prices: PriceTable, fingerprint: str = "") -> Standings:
    """Read all results of a workload on certain data.

    Args:
        folder: Folder of the benchmark.
        prices: Prices of machines and services.
        fingerprint: Fingerprint of the data; that of the newest result if none is given.

    Raises:
        DataError: there is no result, or none that can be read.
    """
    found: dict[str, tuple[BenchmarkResult, PredictionTable]] = {}
    left_out: dict[str, str] = {}
    for name in folder.names():
        try:
            found[name] = folder.read(name)
        except DataError as error:
            left_out[name] = error.on_one_line()
    if not found and not fingerprint:
        raise DataError(
            f"there are no benchmark results of {folder.workload}" + "".join(f"; {why}" for why in left_out.values()),
            f"run mlops benchmark run --workload {folder.workload}",
        )
    chosen = fingerprint or max((result for result, _ in found.values()), key=attrgetter("measured")).data_fingerprint
    same = {name: item for name, item in found.items() if item[0].data_fingerprint == chosen}
    left_out |= dict.fromkeys(sorted(found.keys() - same.keys()), "it was measured on other data")
    rows = [
        StandingRow(
            result, prices.training(result), prices.predictions(result), _compared(same, name), _differing(same, name)
        )
        for name, (result, _) in same.items()
    ]
    rows.sort(key=lambda row: (-row.result.metrics["accuracy"], row.result.name))
    return Standings(folder.workload, chosen, rows, prices, left_out)


def shared_settings(result: BenchmarkResult) -> dict[str, Any]:
    """Return the settings of a result that contestants take over from the workload, by its own `settings`."""
    places = (result.settings, *(result.settings.get(section) for section in ("model", "training")))
    found: dict[str, Any] = {}
    for place in places:
        if isinstance(place, dict):
            found |= {key: place[key] for key in _SHARED if key in place}
    return found


def _differing(found: dict[str, tuple[BenchmarkResult, PredictionTable]], name: str) -> str:
    """Return shared settings that differ from those of ours, or of the newest result if there is none of ours."""
    newest = max((result for result, _ in found.values()), key=attrgetter("measured"))
    reference = found[OURS][0] if OURS in found else newest
    its, others = shared_settings(found[name][0]), shared_settings(reference)
    return ", ".join(
        f"{key} {_in_words(its[key])} ({reference.name} {_in_words(others[key])})"
        for key in _SHARED
        if key in its and key in others and its[key] != others[key]
    )


def _in_words(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _compared(found: dict[str, tuple[BenchmarkResult, PredictionTable]], name: str) -> AgainstOurs | None:
    if name == OURS or OURS not in found or _differing(found, name):
        return None
    its, ours = (table.right(result.classes) for result, table in (found[name], found[OURS]))
    only_it = sum(right and not ours[path] for path, right in its.items())
    only_ours = sum(right and not its[path] for path, right in ours.items())
    return AgainstOurs(only_it, only_ours, mcnemar(only_it, only_ours))
