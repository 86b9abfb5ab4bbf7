"""``mlops deploy``: deploy a registered model to a target."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.azure.checks_first import SkipChecks, check_first
from vision_mlops.cli.options import JsonOption, ModelOption, WorkersOption, pairs
from vision_mlops.cli.output import emit, say, warn
from vision_mlops.core.errors import DeploymentError
from vision_mlops.core.files import atomic_write

if TYPE_CHECKING:
    from vision_mlops.endpoints.contract import DeploymentRequest

# `mlops rollout start` has the same options of a server.
Image = Annotated[str, typer.Option("--image", help="Inferencing image to run.", show_default="built")]
Bake = Annotated[bool, typer.Option("--bake", help="Build an image that contains the model.")]
ScoreScript = Annotated[
    bool, typer.Option("--score-script", help="managed: use Azure ML's inference server instead of our container.")
]
InstanceType = Annotated[
    str, typer.Option("--instance-type", help="managed: size of machine; kubernetes-endpoint: instance type.")
]
Instances = Annotated[int | None, typer.Option("--instances", min=1, help="Number of machines, pods or nodes.")]
Cpu = Annotated[
    float | None, typer.Option("--cpu", min=0.1, help="docker, aci, aks, kubernetes-endpoint: cores per instance.")
]
Memory = Annotated[
    float | None, typer.Option("--memory", min=0.2, help="docker, aci, aks, kubernetes-endpoint: GB per instance.")
]
Env = Annotated[
    list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="Set a variable of the server. Repeatable.")
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=1, help="Seconds within which the deployment must become ready.")
]
DeploymentName = Annotated[
    str | None, typer.Option("--deployment", help="Name of the new deployment.", show_default="version-N")
]


def deploy(
    to: Annotated[
        str,
        typer.Option(help="Target: local, docker, aci, aks, kubernetes-endpoint, managed or batch.", metavar="TARGET"),
    ],
    model: ModelOption,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", "-e", help="Name of the endpoint.", show_default="that of the model")
    ] = None,
    deployment: DeploymentName = None,
    traffic: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=100,
            help="Percentage of the traffic that the deployment gets.",
            show_default="100; unchanged if it restarts a stopped endpoint",
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep deployments that no longer get traffic.")] = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="local, docker: port on this machine; aks: of the Service."),
    ] = None,
    workers: WorkersOption = None,
    image: Image = "",
    bake: Bake = False,
    score_script: ScoreScript = False,
    instance_type: InstanceType = "",
    instances: Instances = None,
    min_instances: Annotated[
        int | None, typer.Option(min=1, help="managed: minimum number of instances; autoscaling.")
    ] = None,
    max_instances: Annotated[
        int | None, typer.Option(min=1, help="managed: maximum number of instances; autoscaling.")
    ] = None,
    cpu: Cpu = None,
    memory: Memory = None,
    compute: Annotated[str, typer.Option(help="batch: cluster; kubernetes-endpoint: attached cluster.")] = "",
    namespace: Annotated[str, typer.Option(help="aks: namespace in the cluster.")] = "",
    dns_label: Annotated[str, typer.Option(help="aci: first label of the host name.")] = "",
    auth: Annotated[
        str,
        typer.Option(help="managed: key or aad_token; kubernetes-endpoint: key or aml_token.", show_default="key"),
    ] = "",
    host: Annotated[str, typer.Option(help="aks: host name of the Ingress, over TLS.", show_default="no Ingress")] = "",
    env: Env = None,
    timeout: Timeout = None,
    force: Annotated[bool, typer.Option("--force", help="Also deploy a version whose verdict is reject.")] = False,
    render: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="aks: write the manifests to FILE, - for stdout, and deploy nothing."),
    ] = None,
    skip_checks: SkipChecks = False,
    json_: JsonOption = False,
) -> None:
    """Serve a registered model at an endpoint; a new version takes over once it is ready.

    Example: `mlops deploy --to local --model textile@champion`
    """
    from vision_mlops.endpoints.contract import (
        DeploymentOptions,
        DeploymentRequest,
        check_name,
        deployment_name,
        endpoint_name,
    )
    from vision_mlops.endpoints.deployment import TrafficPlan, resolve
    from vision_mlops.endpoints.deployment import deploy as run
    from vision_mlops.endpoints.deployment import render as rendered
    from vision_mlops.endpoints.targets import open_target, remember
    from vision_mlops.registry import open_registry
    from vision_mlops.registry.version_index import UNFIT

    target = open_target(to)
    registry = open_registry()
    version = resolve(registry, model, force=force)
    if version.verdict in UNFIT:
        warn(f"the verdict of the gate on {version.reference} is {version.verdict}")
    options = DeploymentOptions(
        port=port, workers=workers, image=image, bake=bake, score_script=score_script, instance_type=instance_type,
        instances=instances, min_instances=min_instances, max_instances=max_instances,
        cpu=cpu, memory_gb=memory, compute=compute, namespace=namespace, dns_label=dns_label, host=host,
        auth=auth, environment=variables(env), timeout_s=timeout,
    )  # fmt: skip
    request = DeploymentRequest(
        check_name("an endpoint", endpoint or endpoint_name(version.name)),
        check_name("a deployment", deployment or deployment_name(version.version)),
        version,
        registry,
        options,
    )
    if render is not None:
        _write(rendered(target, request), render)
        return
    checks = partial(check_deployment, to, request, skip=skip_checks)
    made = run(target, request, TrafficPlan(traffic, keep), say, checks)
    remember(made.name, target.name)
    emit(made.to_dict(), f"{version.reference} is served at {made.url or made.name}", as_json=json_)
    if not json_:
        batch = f"batch score FOLDER --on azure --endpoint {made.name} --out FILE"
        say(f"try it: mlops {batch if to == 'batch' else f'endpoint test {made.name} --image FILE'}")


def check_deployment(target: str, request: DeploymentRequest, *, skip: bool) -> None:
    """Check what a deployment to a target needs of Azure, before anything is created. Raises AzureError."""
    if target not in ("managed", "kubernetes-endpoint", "aci", "batch") or skip:
        return
    from vision_mlops.azure.preflight.purposes import managed_demand
    from vision_mlops.config.azure_settings import AzureSettings

    settings, options = AzureSettings.load(), request.options
    machines, name = options.instances or options.min_instances or 1, (request.endpoint, request.deployment)
    demands = [managed_demand(settings, options.instance_type, machines, name)] if target == "managed" else []
    check_first(target, settings=settings, demands=demands)


def _write(text: str, file: Path) -> None:
    if str(file) == "-":
        typer.echo(text, nl=False)
        return
    try:
        atomic_write(file, text)
    except OSError as error:
        raise DeploymentError(f"{file} cannot be written: {error.strerror}", "choose another --render") from error
    say(f"wrote the manifests to {file}, without the Secret of the keys; its first lines say how to create that")


def variables(given: list[str] | None) -> dict[str, str]:
    """Read ``--env NAME=VALUE``. Raises MlopsError, also for what looks like a secret."""
    found = pairs(given, "--env", "LEVEL=debug")
    for name in (item.partition("=")[0] for item in given or ()):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name):
            raise DeploymentError(
                f"--env: {name!r} cannot be the name of a variable",
                "write letters, digits and _ before the =, without spaces",
            )
        if "KEY" in name.upper() or "SECRET" in name.upper() or "PASSWORD" in name.upper():
            raise DeploymentError(
                f"--env {name}: a secret does not belong in a definition", "see `mlops endpoint keys --help`"
            )
    return found
