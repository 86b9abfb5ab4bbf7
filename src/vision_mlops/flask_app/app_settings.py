"""Settings of the web frontend: each is one variable of the environment, ``MLOPS_APP_`` and its name in capitals."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from vision_mlops.core.errors import ConfigError, in_plain_words
from vision_mlops.core.text import nearest

PREFIX = "MLOPS_APP_"
VAULT_REFERENCE = "@Microsoft.KeyVault("
"""How a setting begins whose value App Service takes from a key vault, before the app starts."""
MANAGED_HOST = ".inference.ml.azure.com"
_MANAGED_IMAGE_MB = 1.5
_SECRET_LENGTH = 16
_RATE = re.compile(r"none|[1-9]\d{0,8} per (second|minute|hour|day)")
_HOST = re.compile(r"[A-Za-z0-9._-]+")

Megabytes = Annotated[float, Field(ge=0.001, le=1024)]


def _scoring_url(text: str) -> str:
    """Return the address of a scoring route; one without a path means ``/score``."""
    if not text:
        return ""
    if not text.isprintable() or " " in text:  # urlsplit takes line breaks out of an address
        raise ValueError("must be one address without spaces and line breaks")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address such as http://127.0.0.1:8000 or https://HOST/score")
    _ = parts.port  # raises ValueError if it is not a number
    if parts.username or parts.password:
        raise ValueError(f"must not contain a key: set {PREFIX}ENDPOINT_KEY instead")
    if parts.fragment:
        raise ValueError("must not contain a fragment (#...)")
    path = parts.path if parts.path.strip("/") else "/score"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _long_enough(secret: SecretStr) -> SecretStr:
    if 0 < len(secret.get_secret_value()) < _SECRET_LENGTH:
        raise ValueError(f"must have at least {_SECRET_LENGTH} characters")
    return secret


def _sendable(secret: SecretStr) -> SecretStr:
    """Refuse a key that cannot travel in a header, which holds printable ASCII."""
    text = secret.get_secret_value()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("must have only printable ASCII characters, on one line: copy the key again")
    return secret


def _names(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _host_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _HOST.fullmatch(name) and not _is_ipv6(name):
            raise ValueError(f"{name!r} is not a host name such as app.example.com, without scheme, port and path")
    return names


def _rate(text: str) -> str:
    if not _RATE.fullmatch(text):
        raise ValueError("must be a number per second, minute, hour or day, such as 300 per minute, or none")
    return text


def _existing_folder(path: Path) -> Path:
    try:
        found = path.is_dir()
    except OSError:  # such as a name that is too long
        found = False
    if not found:
        raise ValueError(f"{str(path)[:200]!r} is not a folder")
    return path


class AppSettings(BaseModel):
    """All settings of the web frontend."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: Annotated[str, AfterValidator(_scoring_url)] = Field(
        "", description="Address of the scoring endpoint; `mlops app` finds the local deployment."
    )
    endpoint_key: Annotated[SecretStr, AfterValidator(_sendable)] = Field(
        SecretStr(""), description="Key or token of the endpoint, which never leaves the server."
    )
    endpoint_auth: Literal["", "key", "identity", "none"] = Field(
        "",
        description="How to sign in to the endpoint: key, identity (a token of Microsoft Entra ID for Azure ML, as a managed"
        " identity gets) or none. By default key if one is set, identity for a managed endpoint, else none.",
    )
    secret_key: Annotated[SecretStr, AfterValidator(_long_enough)] = Field(
        SecretStr(""), description="Signs the session cookie; at least 16 characters, the same in each instance."
    )
    title: str = Field("", max_length=80, description="Heading of the pages; by default the title of the model.")
    max_upload_mb: Megabytes = Field(20, description="Largest upload that is accepted.")
    max_image_mb: Megabytes | None = Field(
        None,
        description="Largest image that is sent to the endpoint; larger ones are scaled down first. By default the limit"
        f" that the endpoint reports, and {_MANAGED_IMAGE_MB} for a managed endpoint.",
    )
    max_pixels: Annotated[int, Field(ge=10_000, le=150_000_000)] = Field(
        50_000_000, description="Maximum number of pixels of an image."
    )
    timeout_s: Annotated[float, Field(ge=0.1, le=230)] = Field(
        15, description="Seconds that the endpoint may take for an image, including retries."
    )
    corrections: str = Field(
        "", description="Folder or Blob Storage address where corrections are stored; off if empty."
    )
    corrections_limit_mb: Megabytes = Field(512, description="Maximum size of all corrections.")
    trust_sign_in: bool = Field(
        False, description="Take the user's name from App Service's sign-in headers. Only behind App Service."
    )
    trust_proxy: Annotated[int, Field(ge=0, le=5)] = Field(
        0, description="Number of proxies in front whose X-Forwarded-For and -Proto are trusted; 1 on App Service."
    )
    hosts: Annotated[tuple[str, ...], BeforeValidator(_names), AfterValidator(_host_names)] = Field(
        (), description="Host names that the app responds to, separated by commas; all if empty."
    )
    rate_limit: Annotated[str, AfterValidator(_rate)] = Field(
        "300 per minute", description="Maximum rate of images and corrections of one client address, or none."
    )
    brand: Annotated[Path, AfterValidator(_existing_folder)] | None = Field(
        None, description="Folder with your own name, colours, texts (`brand.yml`) and logo (`logo.svg`)."
    )
    samples: Annotated[Path, AfterValidator(_existing_folder)] | None = Field(
        None, description="Folder of sample images for the gallery; without it there is no gallery."
    )

    @model_validator(mode="after")
    def _has_its_key(self) -> AppSettings:
        if self.endpoint_auth == "key" and not self.endpoint_key.get_secret_value():
            raise ValueError(f"{PREFIX}ENDPOINT_AUTH is key, but {PREFIX}ENDPOINT_KEY is not set")
        return self

    @property
    def managed(self) -> bool:
        """Whether the endpoint is a managed online endpoint of Azure ML."""
        return (urlsplit(self.endpoint).hostname or "").endswith(MANAGED_HOST)

    @property
    def auth(self) -> Literal["key", "identity", "none"]:
        """How to sign in to the endpoint."""
        if self.endpoint_auth:
            return self.endpoint_auth
        if self.endpoint_key.get_secret_value():
            return "key"
        return "identity" if self.managed else "none"

    def image_bytes(self, body_bytes: int | None) -> int:
        """Return the size in bytes of the largest image that is sent to the endpoint.

        Args:
            body_bytes: Largest body that the endpoint accepts, if it reports that.
        """
        given = self.max_image_mb or (_MANAGED_IMAGE_MB if self.managed else None)
        known = [int(given * 2**20)] if given else []
        known += [body_bytes] if body_bytes else []
        return min(known, default=int(self.max_upload_mb * 2**20))


def load_app_settings(environ: Mapping[str, str] | None = None, **arguments: Any) -> AppSettings:
    """Load the settings of the environment; an empty variable counts as not set.

    Args:
        environ: The environment, by default that of the process.
        arguments: Values by field name, which take precedence; None counts as not given.

    Raises:
        ConfigError: a variable is unknown or has a wrong value; the message names it, and what is accepted.
    """
    variables = {PREFIX + name.upper(): name for name in AppSettings.model_fields}
    values: dict[str, Any] = {}
    for variable, value in (os.environ if environ is None else environ).items():
        if variable.startswith(PREFIX) and variable not in variables:
            raise ConfigError(f"unknown setting {variable}", nearest(variable, variables))
        if variable in variables and value.startswith(VAULT_REFERENCE):
            raise ConfigError(
                f"{variable}: App Service could not read the secret that the value refers to",
                "give the identities of the web app and of its slot the role Key Vault Secrets User on the vault",
            )
        if variable in variables and value.strip():
            values[variables[variable]] = value.strip()
    values |= {name: value for name, value in arguments.items() if value is not None}
    try:
        return AppSettings.model_validate(values)
    except ValidationError as error:
        # Values are left out, also of a traceback: one of them may be a key.
        told = [
            f"{PREFIX}{str(item['loc'][0]).upper()}: {text}" if item["loc"] else text
            for item in error.errors(include_url=False, include_input=False)
            if (text := in_plain_words(item)[0])
        ]
        raise ConfigError("; ".join(told), "docs/how_to/web_app.md lists all settings") from None
