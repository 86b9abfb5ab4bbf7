"""Prices of machines and services, from the dated table ``prices.yml`` and from a table of a team's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator

from vision_mlops.benchmark.benchmark_result import BenchmarkResult
from vision_mlops.config.workload import StrictModel
from vision_mlops.core.errors import ConfigError, problem_of_file
from vision_mlops.core.text import nearest
from vision_mlops.core.yaml_text import read_yaml
from vision_mlops.teardown import prices as machine_prices

_SHIPPED = Path(__file__).with_name("prices.yml")
_MACHINE = "vm_hour."
_PREDICTIONS = 1000


class Price(StrictModel):
    """The price of one unit, its date, and its source."""

    model_config = ConfigDict(strict=False)

    amount: Annotated[float, Field(ge=0.0, le=1e9, strict=True)]
    date: date
    source: str = ""
    note: str = ""
    free: str = Field("", description="What is free, in words; it is not deducted.")

    @field_validator("source")
    @classmethod
    def _page(cls, value: str) -> str:
        if value and not re.match(r"https?://\S+$", value):
            raise ValueError("must be the address of a page")
        return value


class PriceTable(StrictModel):
    """Prices in one currency. ``machine`` is the size by whose hour local contestants are priced."""

    model_config = ConfigDict(strict=False)

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    machine: str
    prices: dict[str, Price]

    def training(self, result: BenchmarkResult) -> float | None:
        """Return the cost of learning; None if the time, the amounts or a price is not known."""
        if result.usage is not None:  # where it names nothing, the service did not say
            return self._of(result.usage.training) if result.usage.training else None
        return None if result.training_seconds is None else self._machine_time(result.training_seconds)

    def predictions(self, result: BenchmarkResult) -> float | None:
        """Return the cost of 1,000 predictions, one after the other; None if a price is not known."""
        if result.hosted:
            used = {} if result.usage is None else result.usage.per_prediction
            each = self._of(used) if used else None
            return None if each is None else each * _PREDICTIONS
        return self._machine_time(result.latency_ms.median / 1000 * _PREDICTIONS)

    def unknown(self, result: BenchmarkResult) -> list[str]:
        """Return the keys of what a result used that have no price."""
        used = result.usage
        keys = [] if used is None else [*used.training, *used.per_prediction]
        return [key for key in keys if self.price(key) is None]

    def used_by(self, results: list[BenchmarkResult]) -> dict[str, Price]:
        """Return the prices that the costs of some results consist of, by key."""
        keys = [f"{_MACHINE}{self.machine}"]
        for result in results:
            if result.usage is not None:
                keys += [*result.usage.training, *result.usage.per_prediction]
        found = {key: self.price(key) for key in keys}
        return {key: price for key, price in found.items() if price is not None}

    def price(self, key: str) -> Price | None:
        """Return one price; None if it is not known. The hour of a machine may only be in the table of `mlops down`."""
        found = {name.lower(): price for name, price in self.prices.items()}.get(key.lower())
        if found is not None or not key.lower().startswith(_MACHINE) or self.currency != "USD":
            return found
        hour = machine_prices.of_hour(key[len(_MACHINE) :])
        note = "from the price table of `mlops down`"
        return None if hour is None else Price(amount=hour, date=machine_prices.checked(), note=note)

    def _machine_time(self, seconds: float) -> float | None:
        return self._of({f"{_MACHINE}{self.machine}": seconds / 3600})

    def _of(self, used: Mapping[str, float]) -> float | None:
        costs = [(amount, self.price(key)) for key, amount in used.items()]
        if any(price is None for _, price in costs):
            return None
        return sum(amount * price.amount for amount, price in costs if price is not None)


def load_prices(own: Path | None = None) -> PriceTable:
    """Return the table that ships, with the entries of a team's own file in place of the shipped ones.

    Raises:
        ConfigError: the file cannot be read or has a mistake, which is named; or it has another currency and leaves prices
            of the shipped table in place.
    """
    content = read_yaml(_SHIPPED.read_text(encoding="utf-8"))
    if own is None:
        return PriceTable.model_validate(content)
    try:
        given = read_yaml(own.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{own}: the prices cannot be read: {problem_of_file(error)}", f"write it as {_SHIPPED} is written"
        ) from error
    if not isinstance(given, dict):
        raise ConfigError(f"{own} has no keys", f"write it as {_SHIPPED} is written")
    if unknown := given.keys() - PriceTable.model_fields.keys():
        raise ConfigError(f"{own}: unknown key {min(unknown)!r}", nearest(str(min(unknown)), PriceTable.model_fields))
    changed = {} if given.get("prices") is None else given["prices"]
    if not isinstance(changed, dict):
        raise ConfigError(f"{own}: prices: must be a mapping of keys to prices", f"write it as {_SHIPPED} is written")
    # Amounts of another currency must not be added to dollars: then the file has to have all that is used.
    kept = content["prices"] if given.get("currency", content["currency"]) == content["currency"] else {}
    try:
        table = PriceTable.model_validate({**content, **given, "prices": {**kept, **changed}})
    except ValidationError as error:
        raise ConfigError(f"{own}: {problem_of_file(error)}", f"write it as {_SHIPPED} is written") from error
    if table.price(f"{_MACHINE}{table.machine}") is None:
        raise ConfigError(
            f"{own}: no price in {table.currency} for an hour of the machine {table.machine!r}",
            f"add the key {_MACHINE}{table.machine} to prices, or name another machine",
        )
    return table
