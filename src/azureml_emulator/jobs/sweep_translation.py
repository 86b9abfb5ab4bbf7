"""Translation of sweeps between the terms of the service and YAML."""

from __future__ import annotations

import re
from typing import Any

from azureml_emulator.rest.rest_calls import Json, malformed

# Names of the arguments that the service keeps as a list.
_ARGUMENTS = {
    "choice": ("values",),
    "uniform": ("min_value", "max_value"),
    "loguniform": ("min_value", "max_value"),
    "quniform": ("min_value", "max_value", "q"),
    "qloguniform": ("min_value", "max_value", "q"),
    "normal": ("mu", "sigma"),
    "lognormal": ("mu", "sigma"),
    "qnormal": ("mu", "sigma", "q"),
    "qlognormal": ("mu", "sigma", "q"),
    "randint": ("upper",),
}
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.\d+)?S)?)?")
_POLICIES = {"bandit": "bandit", "medianstopping": "median_stopping", "truncationselection": "truncation_selection"}


def search_space(given: Json) -> Json:
    """Return the search space of a sweep job.

    Raises:
        RefusalError: 400, a distribution is not known.
    """
    found: Json = {}
    for name, (kind, arguments) in given.items():
        names = _ARGUMENTS.get(kind)
        if names is None:
            raise malformed(f"the distribution {kind!r} of {name!r} is unknown")
        values: list[Any] = [arguments[0]] if kind == "choice" else list(arguments)
        found[name] = {"type": kind, **dict(zip(names, values, strict=True))}
    return found


def sampling(given: Json) -> Json | str:
    """Return the sampling algorithm of a sweep job."""
    kind = str(given["samplingAlgorithmType"]).lower()
    options = {key: given[key] for key in ("seed", "rule", "logbase") if given.get(key) is not None}
    if "rule" in options:
        options["rule"] = str(options["rule"]).lower()
    return {"type": kind, **options} if options else kind


def early_termination(given: Json) -> Json:
    """Return the policy that ends trials early."""
    found = {key: value for key, value in given.items() if value not in (None, 0, 0.0) or key == "delay_evaluation"}
    kind = str(found.pop("policy_type", None) or found.pop("type", ""))
    return {"type": _POLICIES.get(kind.lower().replace("_", ""), kind.lower()), **found}


def seconds(duration: str) -> int:
    """Return the seconds of a duration such as ``PT1H30M``.

    Raises:
        RefusalError: 400, it is not a duration.
    """
    found = _DURATION.fullmatch(duration)
    if found is None or not any(found.groups()):
        raise malformed(f"{duration!r} is not a duration")
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
