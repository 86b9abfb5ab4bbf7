"""An account of Custom Vision: its address and sign-in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr

from vision_mlops.config.custom_vision_settings import PREFIX, CustomVisionSettings

Verb = Literal["train", "predict"]
_NOUNS: Mapping[Verb, str] = {"train": "TRAINING", "predict": "PREDICTION"}
_PATHS: Mapping[Verb, str] = {
    "train": "customvision/v3.3/training",
    "predict": "customvision/v3.1/prediction",
}


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """An account.

    Args:
        verb: What it does.
        endpoint: Its address, without a slash at the end.
        key: Its key; None for a sign-in with Microsoft Entra ID.
        token: Returns a token if there is no key.
        workload: Workload of the benchmark, for commands in messages.
    """

    verb: Verb
    endpoint: str
    key: SecretStr | None
    token: Callable[[], str]
    workload: str = "WORKLOAD"

    @property
    def url(self) -> str:
        """Address below which all paths of the service are."""
        return f"{self.endpoint}/{_PATHS[self.verb]}"

    def variable(self, what: Literal["ENDPOINT", "KEY"]) -> str:
        """Name of the variable of one of its settings."""
        return f"{PREFIX}{_NOUNS[self.verb]}_{what}"

    def headers(self) -> dict[str, str]:
        """Return headers that sign in. Raises AzureError if there is no sign-in."""
        if self.key:
            return {f"{_NOUNS[self.verb].capitalize()}-Key": self.key.get_secret_value()}
        return {"Authorization": f"Bearer {self.token()}"}


def accounts_of(settings: CustomVisionSettings, workload: str = "WORKLOAD") -> tuple[ServiceAccount, ServiceAccount]:
    """Return the accounts that train and predict; nothing is sent.

    Raises:
        MissingExtraError: there is no key, and the Azure packages are not installed.
        AzureError: the variables of a sign-in have invalid values.
    """
    token: Callable[[], str] = str
    if not (settings.training_key and settings.prediction_key):
        from vision_mlops.azure.clients import cognitive_token_provider

        token = cognitive_token_provider(os.environ)
    return (
        ServiceAccount("train", settings.training_endpoint.rstrip("/"), settings.training_key, token, workload),
        ServiceAccount("predict", settings.prediction_endpoint.rstrip("/"), settings.prediction_key, token, workload),
    )
