"""Variables while a job runs: set by the definition, by groups, and by steps; secret and read-only ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from testing.support.azure_pipelines.expression import with_macros
from testing.support.azure_pipelines.pipeline_errors import PipelineError
from testing.support.azure_pipelines.predefined_variables import SECRET, environment_name

_DEEPEST = 50


@dataclass(frozen=True)
class Setting:
    """The value of a variable."""

    name: str
    value: str
    secret: bool = False
    readonly: bool = False


class RuntimeVariables:
    """The variables of one job. Names are found in upper and lower case alike; values may name other variables."""

    def __init__(self, predefined: Mapping[str, str]) -> None:
        self._settings: dict[str, Setting] = {}
        for name, value in predefined.items():
            self.put(Setting(name, value, secret=name in SECRET, readonly=True))

    def put(self, setting: Setting) -> None:
        """Set one, as the definition does."""
        self._settings[setting.name.lower()] = setting

    def set_by_step(self, setting: Setting) -> None:
        """Set one, as ``task.setvariable`` does.

        Raises:
            PipelineError: it is read-only.
        """
        before = self._settings.get(setting.name.lower())
        if before and before.readonly:
            raise PipelineError(f"the variable {setting.name} is read-only")
        # Once secret, always secret.
        secret = setting.secret or bool(before and before.secret)
        self.put(Setting(setting.name, setting.value, secret, setting.readonly))

    def get(self, name: str) -> str | None:
        """The value with the variables that it names; None for unknown ones."""
        return self._value(name, 0)

    def text(self, text: str) -> str:
        """A text with its ``$(name)``; unknown names stay as they are."""
        return with_macros(text, self.get)

    def environment(self) -> dict[str, str]:
        """What scripts find in their environment: all but secrets."""
        return {
            environment_name(one.name): self.get(one.name) or "" for one in self._settings.values() if not one.secret
        }

    def masked(self, text: str) -> str:
        """A text without the values of secrets."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def as_context(self) -> dict[str, str]:
        """What ``variables`` is in a condition."""
        return {one.name: self.get(one.name) or "" for one in self._settings.values()}

    def _secrets(self) -> Iterator[str]:
        for one in self._settings.values():
            if one.secret and len(one.value) > 2:
                yield one.value

    def _value(self, name: str, depth: int) -> str | None:
        found = self._settings.get(name.lower())
        if found is None:
            return None
        if depth > _DEEPEST:
            raise PipelineError(f"the variable {name} names itself")
        return with_macros(found.value, lambda inner: self._value(inner, depth + 1))
