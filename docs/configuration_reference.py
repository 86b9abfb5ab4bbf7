"""The text of docs/configuration.md: every key of a workload and every setting, from their models."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from pydantic import BaseModel

from vision_mlops.cli.main import app
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.config.cluster_settings import ClusterSettings
from vision_mlops.config.custom_vision_settings import CustomVisionSettings
from vision_mlops.config.workload import Workload
from vision_mlops.flask_app.app_settings import PREFIX, AppSettings

Schema = Mapping[str, Any]
INTRODUCTION = """\
# Configuration

`make docs` generates this page from the models that check the values, so it lists exactly what is accepted.

- A **workload** is one file, `workloads/NAME.yml`: [its keys](#workload) are below. `mlops config show` prints it with all
  defaults.
- What differs from machine to machine is in **variables**. Those of Azure, of a cluster and of Custom Vision are also read
  from the file `.env` in the current folder; exported variables take precedence over it. `.env.example` lists all of them.

An argument on the command line takes precedence over a variable, and a variable over a file. An empty variable counts as
unset. An unknown key or variable is an error that names the nearest one.
"""
WORKLOAD = """\
## Workload

`--set training.epochs=8` changes a key for one command, and so does the variable `MLOPS_TRAINING__EPOCHS=8`: `MLOPS_`, the
section, two underscores, and the key. Write a section inside another in the same way: `MLOPS_DATA__SPLIT__SEED=1`.
"""
# Variables that no model or option describes. Those that another program sets are in the second table.
VARIABLES = {
    "MLOPS_HOME": ("outputs", "Folder for everything that a run writes."),
    "MLOPS_WORKLOAD": ("", "Workload of the notebooks; by default the first of the project, or else textile."),
    "MLOPS_REGISTRY": (
        "mlflow",
        "Registry of models: mlflow, azure (the workspace), azureml://registries/NAME or azureml://workspaces/NAME.",
    ),
    "MLOPS_SCORING_KEY": (
        "",
        "Key that clients of the scoring server send. Without one, it listens on this machine only.",
    ),
    "MLOPS_SCORING_KEY_FILE": ("", "File with one key per line, each valid; read again when it changes."),
    "MLOPS_ADMIN_KEY": ("", "Key for POST /admin/reload of the scoring server; not valid for scoring."),
    "MLOPS_BUNDLE": (
        "",
        "Bundle that `mlops serve` serves if the command names none: a folder, or a reference such as NAME@champion.",
    ),
    "MLOPS_CONTAINER_ENGINE": ("docker, else podman", "Command line of the container engine, such as sudo docker."),
    "MLOPS_CONTAINER_RUN_OPTIONS": ("", "Additional options of its run command."),
    "MLOPS_CONTAINER_BUILD_OPTIONS": ("", "Additional options of its build command."),
    "MLFLOW_TRACKING_URI": ("outputs/mlflow.db", "Tracking store of MLflow."),
    "AZURE_STORAGE_CONNECTION_STRING": ("", "Connection string of one storage account, instead of an identity."),
    "AZURE_STORAGE_SAS_TOKEN": ("", "Shared access signature of one storage account, instead of an identity."),
    "APPLICATIONINSIGHTS_CONNECTION_STRING": (
        "",
        "Application Insights resource to which the scoring server sends traces.",
    ),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("", "OpenTelemetry collector to which the scoring server sends traces."),
}
# Variables that scripts of infrastructure, pipelines and other programs read, by the guide that explains them.
OUTSIDE = {
    "Infrastructure": (
        "`make infra-up` reads these variables when it creates the [resources](how_to/infrastructure.md).",
        {
            "MLOPS_NAME": ("vision", "Part of every name, 2 to 8 letters and digits."),
            "MLOPS_DATA_SCIENTISTS": ("", "Object id of the group of people who work on models."),
            "MLOPS_KUBERNETES_ADMINS": ("", "Object id of the group that administers the cluster."),
            "MLOPS_INSTANCE_USER": ("", "Object id of the person who gets the compute instance."),
            "MLOPS_FEDERATIONS": (
                "[]",
                "JSON list of name, issuer and subject: service connections and workflows that may deploy.",
            ),
            "MLOPS_BUDGET_CONTACTS": ("[]", "JSON list of mail addresses; without one, no budget is created."),
            "MLOPS_WAIT_SECONDS": (
                "15",
                "Seconds between two checks of something that takes effect later, such as a role.",
            ),
            "MLOPS_WAIT_TRIES": ("40", "Maximum number of these checks."),
            "MLOPS_CONTAINER_PUSH_OPTIONS": (
                "",
                "Additional options of the container engine's push command, in `make images-push`.",
            ),
        },
    ),
    "Pipelines": (
        "[Set these variables](how_to/ci_cd.md) for the repository or for an environment on GitHub.",
        {
            "MLOPS_WORKFLOWS": ("", "Set to `on` to let workflows start automatically."),
            "MLOPS_GITHUB_TOKEN_SECRET": (
                "",
                "Address of the key vault secret with the token that a finished training job uses to start a workflow.",
            ),
            "MLOPS_TRAINING_ENDPOINT": ("vision-train", "Name of the batch endpoint that trains."),
            "MLOPS_STAGING_ENDPOINT": ("vision-staging", "Name of the endpoint for staging."),
            "MLOPS_SERVING_ENDPOINT": ("vision-serving", "Name of the endpoint in production."),
            "MLOPS_WEB_APP_TARGET": ("managed", "Target whose endpoint the web frontend uses."),
        },
    ),
    "Sign-in": (
        "Microsoft's libraries read them to sign in [to Azure](how_to/azure.md) and [Azure DevOps](how_to/devops_init.md).",
        {
            "AZURE_TOKEN_CREDENTIALS": ("", "Only sign-in method to use, such as AzureCliCredential."),
            "AZURE_CLIENT_ID": ("", "Application, or managed identity of a machine, to sign in as."),
            "AZURE_TENANT_ID": ("", "Directory of the application or identity."),
            "AZURE_CLIENT_SECRET": (
                "",
                "Secret of the application, if there is neither a federation nor a managed identity.",
            ),
            "AZURE_DEVOPS_EXT_PAT": ("", "Personal access token for Azure DevOps, instead of `az login`."),
        },
    ),
}
SET_FOR_YOU = {
    "MLOPS_GIT_COMMIT": "The commit that a job was started from; the engine sets it for its steps.",
    "MLOPS_STEP_VARIABLES": "File with variables for the steps of a job; set by whatever starts the engine.",
    "MLOPS_RELEASE": "Release that `mlops app deploy` deployed to a slot; `/health` of the web frontend shows it.",
    "MLOPS_WEB_APP": "Name of the web app, a variable of a pipeline's environment; `mlops devops init` writes it.",
    "MLOPS_KUBERNETES_CLUSTER": "Name of the cluster that a pipeline deploys to; `mlops devops init` writes it.",
    "MLOPS_BUDGET_START": "First day of the budget; `infrastructure/up.sh` keeps the one of an existing budget.",
    "AZUREML_MODEL_DIR": "Folder of the model on Azure ML, used if MLOPS_BUNDLE is not set.",
}


def reference() -> str:
    """Return the whole reference in Markdown."""
    return "\n".join(
        [
            INTRODUCTION,
            WORKLOAD,
            *_workload(),
            *_settings(
                "Azure", AzureSettings, "Names of resources in Azure. [Use Azure](how_to/azure.md) explains them."
            ),
            *_settings("Kubernetes cluster", ClusterSettings, "Settings of the [target `aks`](how_to/deploy_aks.md)."),
            *_settings(
                "Custom Vision",
                CustomVisionSettings,
                "Settings of the [contestant `custom-vision`](how_to/custom_vision.md) of `mlops benchmark`.",
            ),
            *_settings(
                "Web frontend", AppSettings, "Settings of the [web frontend](how_to/web_app.md), `mlops app`.", PREFIX
            ),
            *_options(),
            *_others(),
            *_outside(),
        ]
    )


def _workload() -> Iterator[str]:
    schema = Workload.model_json_schema()
    sections: list[tuple[str, Schema]] = [("", schema)]
    while sections:
        path, section = sections.pop(0)
        yield f"### `{path}`\n\n{_first_line(section)}\n" if path else "### Top level\n"
        yield _head("key")
        inner: list[tuple[str, Schema]] = []
        for key, value in section["properties"].items():
            name = f"{path}.{key}" if path else key
            if found := _section(value, schema):
                inner.append((name, found))
                shown = f"[section](#{name.replace('.', '')})"
                shown = f"list of {shown}" if value.get("type") == "array" else shown
                needed = "**needed**" if key in section.get("required", ()) else ""
                yield f"| `{key}` | {shown} | {needed} | {value.get('description') or _first_line(found)} |"
            else:
                yield _row(key, value, key in section.get("required", ()))
        yield ""
        sections = [*inner, *sections]


def _settings(title: str, model: type[BaseModel], text: str, prefix: str = "") -> Iterator[str]:
    schema = model.model_json_schema(by_alias=True)
    yield f"## {title}\n\n{text}\n"
    yield _head("variable")
    for name, value in schema["properties"].items():
        yield _row(f"{prefix}{name.upper()}", value, name in schema.get("required", ()))
    yield ""


def _options() -> Iterator[str]:
    """Yield the options of commands that can also be given as a variable."""
    yield "## Options as variables\n\nEach variable sets an option of a command; the option itself takes precedence.\n"
    yield "| variable | command | meaning |\n| --- | --- | --- |"
    found: dict[str, tuple[str, list[str]]] = {}
    _collect(typer.main.get_command(app), "mlops", found)
    for variable, (meaning, commands) in sorted(found.items()):
        yield f"| `{variable}` | {', '.join(f'`{command}`' for command in commands)} | {meaning} |"
    yield ""


def _collect(command: Any, path: str, found: dict[str, tuple[str, list[str]]]) -> None:
    for option in command.params:
        if option.envvar:
            found.setdefault(str(option.envvar), (option.help or "", []))[1].append(f"{path} {option.opts[0]}")
    for name, child in sorted(getattr(command, "commands", {}).items()):
        _collect(child, f"{path} {name}", found)


def _outside() -> Iterator[str]:
    yield "## Infrastructure and pipelines\n\nExport these variables, or set them where pipelines run.\n"
    for heading, (text, variables) in OUTSIDE.items():
        yield f"### {heading}\n\n{text}\n"
        yield from _variables(variables)
        yield ""


def _variables(variables: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    yield "| variable | default | meaning |\n| --- | --- | --- |"
    for name, (default, meaning) in variables.items():
        yield f"| `{name}` | {f'`{default}`' if default else ''} | {meaning} |"


def _others() -> Iterator[str]:
    yield "## Other variables\n"
    yield from _variables(VARIABLES)
    yield "\nThese are set for you; do not set them by hand:\n\n| variable | meaning |\n| --- | --- |"
    yield from (f"| `{name}` | {meaning} |" for name, meaning in SET_FOR_YOU.items())
    yield ""


def _head(name: str) -> str:
    return f"| {name} | accepts | default | meaning |\n| --- | --- | --- | --- |"


def _row(name: str, value: Schema, needed: bool) -> str:
    if "description" not in value:
        sys.exit(f"error: {name} has no description: add one to its field")
    default = value.get("default")
    secret = value.get("format") == "password"
    shown = "**needed**" if needed else "" if default in (None, "", []) or secret else f"`{_yaml(default)}`"
    meaning = re.sub(r"^the ", "The ", value["description"])  # some are also part of a message
    return f"| `{name}` | {_accepts(value)} | {shown} | {meaning} |"


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _section(value: Schema, schema: Schema) -> Schema | None:
    """Return the schema of the section in a key, even if it is optional or a list of sections."""
    for kind in (value, value.get("items", {}), *value.get("anyOf", ())):
        if "$ref" in kind:
            found: Schema = schema["$defs"][kind["$ref"].rpartition("/")[2]]
            return found
    return None


def _first_line(section: Schema) -> str:
    return str(section.get("description", "")).partition("\n")[0].replace("``", "`")


def _accepts(value: Schema) -> str:
    """Return in words what a value may be."""
    kinds = [kind for kind in value.get("anyOf", [value]) if kind.get("type") != "null"]
    examples = value.get("examples", ())
    example = f", such as `{examples[0]}`" if examples and kinds[0].get("type") == "string" else ""
    return " or ".join(_kind(kind) for kind in kinds) + example


def _kind(kind: Schema) -> str:
    if "enum" in kind:
        return ", ".join(f"`{choice}`" for choice in kind["enum"] if choice)
    if kind.get("format") == "password":
        return "secret"
    if kind["type"] == "array":
        return f"list of {_kind(kind['items'])}"
    if kind["type"] == "object":
        return f"{_kind(kind['additionalProperties'])} by name"
    if kind["type"] in ("integer", "number"):
        word = "whole number" if kind["type"] == "integer" else "number"
        return f"{word}{_range(kind)}"
    return {"string": "text", "boolean": "`true`, `false`"}[kind["type"]]


def _range(kind: Schema) -> str:
    low, high = kind.get("minimum"), kind.get("maximum")
    above, below = kind.get("exclusiveMinimum"), kind.get("exclusiveMaximum")
    lower = f" from {_number(low)}" if low is not None else f" above {_number(above)}" if above is not None else ""
    upper = f" to {_number(high)}" if high is not None else f" to below {_number(below)}" if below is not None else ""
    return f"{lower}{upper}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
