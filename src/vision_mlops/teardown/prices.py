"""Monthly costs of things in Azure, from the dated table ``prices.yml``; what is missing there has no known price."""

from __future__ import annotations

import re
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_TABLE = Path(__file__).with_name("prices.yml")
_CONTAINER = re.compile(r"([\d.]+) CPU, ([\d.]+) GB")


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return found


def assumption() -> str:
    """Return what the prices apply to, with the date of the last check of the table."""
    return f"{_table()['assumption']}; prices of {_table()['checked']}"


def checked() -> date:
    """Return the date of the last check of the table."""
    found: date = _table()["checked"]
    return found


def of_hour(size: str) -> float | None:
    """Return the price of a machine per hour; None if it is not known."""
    return _hour("machines", size)


def of_machines(machine: str, count: int = 1) -> float | None:
    """Return the price of machines of a size, or of containers as ``2 CPU, 4 GB``, per month; None if it is not known."""
    if container := _CONTAINER.fullmatch(machine):
        prices = _table()["containers"]
        hour: float | None = float(container[1]) * float(prices["cpu"]) + float(container[2]) * float(prices["gb"])
    else:
        hour = of_hour(machine)
    return None if hour is None else round(hour * float(_table()["hours"]) * count, 2)


def of_plan(sku: str, count: int = 1) -> float | None:
    """Return the price of an App Service plan per month; None if it is not known."""
    hour = _hour("plans", sku)
    return None if hour is None else round(hour * float(_table()["hours"]) * count, 2)


def _hour(kind: str, size: str) -> float | None:
    known: dict[str, float] = {name.lower(): price for name, price in _table()[kind].items()}
    return known.get(size.lower())
