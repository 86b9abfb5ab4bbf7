"""Which accounts of Custom Vision a benchmark uses, and how it trains there; from the environment or ``.env``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, model_validator

from vision_mlops.config.azure_settings import Address
from vision_mlops.config.variable_settings import VariableSettings

PREFIX = "MLOPS_CUSTOM_VISION_"
TRAINING_KEY, PREDICTION_KEY = f"{PREFIX}TRAINING_KEY", f"{PREFIX}PREDICTION_KEY"
TRAINING_ENDPOINT, PREDICTION_ENDPOINT = f"{PREFIX}TRAINING_ENDPOINT", f"{PREFIX}PREDICTION_ENDPOINT"
PREDICTION_ID = f"{PREFIX}PREDICTION_ID"
_SHOW = "az cognitiveservices account show --resource-group GROUP --name"
_REGIONAL = ".api.cognitive.microsoft.com"


def _is_header(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("a key is one word of letters and digits")
    return value


Key = Annotated[SecretStr, AfterValidator(_is_header)]
AccountId = Annotated[
    str,
    Field(
        pattern=r"(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.CognitiveServices/accounts/[^/]+$"
    ),
]


class CustomVisionSettings(VariableSettings):
    """All settings of Custom Vision."""

    model_config = ConfigDict(alias_generator=lambda name: f"{PREFIX}{name.upper()}")
    prefix: ClassVar[str] = PREFIX

    training_endpoint: Address = Field(
        examples=["https://cv-vision-train.cognitiveservices.azure.com"],
        description=f"the address of the account that trains: {_SHOW} NAME-train --query properties.endpoint",
    )
    prediction_endpoint: Address = Field(
        examples=["https://cv-vision-predict.cognitiveservices.azure.com"],
        description=f"the address of the account that predicts: {_SHOW} NAME-predict --query properties.endpoint",
    )
    prediction_id: AccountId = Field(
        examples=[
            "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-vision/providers"
            "/Microsoft.CognitiveServices/accounts/cv-vision-predict"
        ],
        description=f"the resource id of the account that predicts: {_SHOW} NAME-predict --query id",
    )
    training_key: Key | None = Field(
        None,
        description="Key of the account that trains; without it you sign in as to everything else in Azure.",
    )
    prediction_key: Key | None = Field(
        None,
        description="Key of the account that predicts; without it you sign in as to everything else in Azure.",
    )
    sku: Literal["F0", "S0"] = Field("F0", description="SKU of the accounts, which decides limits and prices.")
    domain: str = Field("General", description="Domain of the project, as Custom Vision calls it.")
    training: Literal["quick", "advanced"] = Field(
        "quick", description="quick, or advanced with the hours that it may take."
    )
    hours: Annotated[int, Field(ge=1, le=24)] = Field(
        1, examples=["1"], description="Maximum hours of an advanced training."
    )

    @model_validator(mode="after")
    def _tokens_need_own_addresses(self) -> CustomVisionSettings:
        for endpoint, key, variable in (
            (self.training_endpoint, self.training_key, TRAINING_KEY),
            (self.prediction_endpoint, self.prediction_key, PREDICTION_KEY),
        ):
            if key is None and endpoint.rstrip("/").endswith(_REGIONAL):
                raise ValueError(
                    f"{endpoint}, the address of a region, takes no sign-in; set {variable}, or use the account's own"
                    " address, such as https://NAME.cognitiveservices.azure.com"
                )
        return self
