"""The environments of a project, such as dev and prod: the Azure settings of each, and its identities."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vision_mlops.azure.identities import IdentityDirectory
from vision_mlops.config.azure_settings import VARIABLES, AzureSettings
from vision_mlops.config.variable_settings import read_env_file
from vision_mlops.core.errors import ConfigError


@dataclass(frozen=True)
class Stage:
    """One environment.

    Attributes:
        name: Such as ``dev``.
        settings: Its Azure settings.
        values: Everything that its file sets, by variable.
        source: The file, or ``environment``.
    """

    name: str
    settings: AzureSettings
    values: Mapping[str, str]
    source: str

    @cached_property
    def directory(self) -> IdentityDirectory:
        """Identities of its resource group."""
        return IdentityDirectory(self.settings)

    @property
    def identity(self) -> str:
        """Name of the identity that its pipelines act as; the same as in ``infrastructure/main.bicep``."""
        return f"id-{self.settings.workspace_name.removeprefix('mlw-')}-pipelines"

    @property
    def clusters(self) -> tuple[str, ...]:
        """Names of the compute clusters that its jobs run on."""
        settings = self.settings
        return (settings.cpu_cluster, settings.gpu_cluster) if settings.gpu_is_set else (settings.cpu_cluster,)


def read_stages(names: tuple[str, ...], root: Path, environ: Mapping[str, str] = os.environ) -> tuple[Stage, ...]:
    """Read the settings of each environment from ``.env.NAME`` of the project, or from ``.env`` if there is only one.

    Such a file takes precedence over the environment of the process, which only has the settings of one of them.

    Raises:
        ConfigError: a file is missing or has a mistake, or two environments share a workspace.
        MissingExtraError: python-dotenv is not installed.
    """
    found = tuple(_read(name, root, environ, alone=len(names) == 1) for name in names)
    places = [stage.directory.workspace.lower() for stage in found]
    if len(set(places)) < len(places):
        raise ConfigError(
            f"the environments {' and '.join(names)} have the same workspace {found[0].settings.workspace_name!r}",
            "give each its own settings in .env.NAME, or only one of them with --environments",
        )
    return found


def _read(name: str, root: Path, environ: Mapping[str, str], *, alone: bool) -> Stage:
    file = root / f".env.{name}"
    if not file.exists() and alone:
        file = root / ".env"
    if not file.exists() and not alone:
        raise ConfigError(
            f"{file} is missing: it holds the Azure settings of the environment {name}",
            f"write the lines to it that `make infra-up ENVIRONMENT={name}` prints, or remove {name} from --environments",
        )
    written = {key: value.strip() for key, value in read_env_file(file).items() if value.strip()}
    others = {key: value for key, value in environ.items() if key not in written}
    settings = AzureSettings.load(env_file=file, environ=others)
    values = {
        variable: str(getattr(settings, field))
        for variable, field in VARIABLES.items()
        if field in settings.model_fields_set
    }
    extra = {key: value for key, value in {**others, **written}.items() if key not in VARIABLES}
    return Stage(name, settings, {**extra, **values}, str(file) if file.exists() else "environment")
