"""Values in the YAML of pipelines before a run: what ``${{ variables.x }}`` and ``$(x)`` may stand for.

A name may have several values: one for each environment, or for each allowed value of a parameter. A text with such names
stands for every combination of them. Conditions are not evaluated: both branches count.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Choices = tuple[Any, ...]
"""All values that a name may have, in the order of their discovery."""

_REFERENCE = re.compile(
    r"\$\{\{\s*(?P<head>parameters|variables)(?:\.(?P<name>[\w.-]+)|\['(?P<quoted>[^']+)'\])\s*\}\}"
    r"|\$\{\{\s*(?P<bound>[A-Za-z_]\w*)(?P<rest>(?:\.\w+)*)\s*\}\}"
    r"|\$\((?P<macro>[\w.-]+)\)"
)
_EXPRESSION = re.compile(r"^\$\{\{\s*(if|elseif|else|each|insert)\b(.*)\}\}$", re.DOTALL)
_EACH = re.compile(r"\s*(\w+)\s+in\s+(parameters|variables)\.([\w.-]+)\s*")
_MOST = 256


@dataclass(frozen=True)
class Scope:
    """The names that are known at a place in the YAML."""

    parameters: Mapping[str, Choices] = field(default_factory=dict)
    variables: Mapping[str, Choices] = field(default_factory=dict)
    bound: Mapping[str, Choices] = field(default_factory=dict)

    def with_variables(self, found: Mapping[str, Choices]) -> Scope:
        """Return the scope with further variables; a later variable replaces an earlier one of the same name."""
        return Scope(self.parameters, {**self.variables, **found}, self.bound)

    def with_bound(self, name: str, choices: Choices) -> Scope:
        """Return the scope inside a loop."""
        return Scope(self.parameters, self.variables, {**self.bound, name: choices})

    def values(self, text: str) -> tuple[str, ...] | None:
        """Return all values that a text may stand for; None if a name in it has no value before a run."""
        matches = list(_REFERENCE.finditer(text))
        options: list[tuple[str, ...]] = []
        for match in matches:
            found = self._choices(match)
            if found is None:
                return None
            options.append(found)
        combined = []
        for chosen in itertools.islice(itertools.product(*options), _MOST):
            pieces, end = [], 0
            for match, value in zip(matches, chosen, strict=True):
                pieces += [text[end : match.start()], value]
                end = match.end()
            combined.append("".join([*pieces, text[end:]]))
        if any("${{" in value or "$[" in value for value in combined):
            return None
        return tuple(dict.fromkeys(combined))

    def choices(self, value: Any) -> Choices:
        """Return all values that a YAML value may stand for: itself, if it is no text or unknown before a run."""
        if not isinstance(value, str):
            return (value,)
        whole = _REFERENCE.fullmatch(value.strip())
        if whole and whole["head"]:
            kept = self.parameters if whole["head"] == "parameters" else self.variables
            return kept.get(whole["name"] or whole["quoted"], (value,))
        return self.values(value) or (value,)

    def _choices(self, match: re.Match[str]) -> tuple[str, ...] | None:
        if match["head"]:
            kept = self.parameters if match["head"] == "parameters" else self.variables
            name = match["name"] or match["quoted"]
            return self._texts(kept, name)
        if match["bound"]:
            found: Choices = self.bound.get(match["bound"], ())
            for key in match["rest"].split(".")[1:]:
                found = tuple(item[key] for item in found if isinstance(item, dict) and key in item)
            return tuple(map(str, found)) or None
        return self._texts(self.variables, match["macro"])

    def _texts(self, kept: Mapping[str, Choices], name: str) -> tuple[str, ...] | None:
        if name not in kept:
            return None
        found: list[str] = []
        for item in kept[name]:
            if not isinstance(item, str):
                found.append(str(item))
                continue
            inner = Scope(
                self.parameters, {key: value for key, value in self.variables.items() if key != name}, self.bound
            )
            values = inner.values(item)
            if values is None:
                return None
            found += values
        return tuple(dict.fromkeys(found))


def loop_of(key: object) -> tuple[str, str, str] | None:
    """Return variable, kind and name of the loop ``${{ each x in parameters.y }}``; None for other keys."""
    match = _EXPRESSION.fullmatch(key.strip()) if isinstance(key, str) else None
    loop = _EACH.fullmatch(match[2]) if match and match[1] == "each" else None
    return (loop[1], loop[2], loop[3]) if loop else None


def is_expression(key: object) -> bool:
    """Return whether a key of a mapping is a condition, a loop or an insertion."""
    return isinstance(key, str) and _EXPRESSION.fullmatch(key.strip()) is not None
