"""``mlops endpoint``: manage what is deployed, on every target."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mlops.cli.options import JsonOption, filled
from vision_mlops.cli.output import emit_json, emit_table, say, warn
from vision_mlops.core.errors import DeploymentError, MlopsError

if TYPE_CHECKING:
    from vision_mlops.endpoints.contract import Deployment, Endpoint, Target

app = typer.Typer(no_args_is_help=True)

_NOTHING = "nothing is deployed: `mlops deploy --to local --model NAME@champion` deploys a model on this machine"

EndpointName = Annotated[str, typer.Argument(callback=filled, metavar="ENDPOINT", help="Name of the endpoint.")]
On = Annotated[
    str | None,
    typer.Option("--on", metavar="TARGET", help="Target of the endpoint.", show_default="where it was deployed to"),
]


@app.command("list")
def list_(
    on: Annotated[
        str | None, typer.Option(metavar="TARGET", help="List only this target.", show_default="all in use")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """List endpoints as they are now, with their deployments.

    Example: `mlops endpoint list`
    """
    from vision_mlops.endpoints.targets import open_target, targets_used

    found: list[Endpoint] = []
    failed: list[MlopsError] = []
    for name in [on] if on else targets_used():
        try:
            found += open_target(name).endpoints()
        except MlopsError as error:  # an unreachable target does not hide the others
            failed.append(error)
            warn(f"{name}: {error}")
    rows = [row for endpoint in found for row in _rows(endpoint)]
    content = [endpoint.to_dict() for endpoint in found]
    emit_table(rows, as_json=json_, content=content, empty=_NOTHING)
    if failed:
        raise typer.Exit(2)


@app.command()
def show(name: EndpointName, on: On = None, json_: JsonOption = False) -> None:
    """Show an endpoint: address, state, deployments, problems.

    Example: `mlops endpoint show textile`
    """
    endpoint = target_for(name, on).endpoint(name)
    if json_:
        emit_json(endpoint.to_dict())
        return
    say(f"{endpoint.name} on {endpoint.target}: {endpoint.state}, {endpoint.url or 'no address'}, auth {endpoint.auth}")
    for problem in [
        endpoint.problem,
        *(f"{item.name}: {item.problem}" for item in endpoint.deployments if item.problem),
    ]:
        if problem:
            warn(problem)
    emit_table(_rows(endpoint), as_json=False, empty="it has no deployments")


@app.command("test")
def try_out(
    name: EndpointName,
    image: Annotated[list[Path], typer.Option("--image", "-i", help="Image to send. Repeatable.")],
    deployment: Annotated[
        str, typer.Option(help="Send them to this deployment.", show_default="chosen by the traffic")
    ] = "",
    on: On = None,
    json_: JsonOption = False,
) -> None:
    """Send images to an endpoint and show the responses; exit with code 1 if one is not scored.

    Example: `mlops endpoint test textile --image data/examples/nominal.jpg`
    """
    from vision_mlops.endpoints.scoring_client import score_file

    target = target_for(name, on)
    if deployment:
        target.endpoint(name).deployment(deployment)
    access = target.access(name)
    rows: list[dict[str, Any]] = []
    for path in image:
        answer = score_file(access, path, deployment)
        best = answer.body["predictions"][0] if answer.ok else {}
        rows.append(
            {
                "image": path.name,
                "status": answer.status or "none",
                "label": answer.label,
                "probability": best.get("probability"),
                "deployment": answer.deployment,
                "ms": round(answer.seconds * 1000, 1),
                "problem": answer.problem,
            }
        )
    emit_table(rows, as_json=json_)
    if any(row["problem"] for row in rows):
        raise typer.Exit(1)


@app.command()
def logs(
    name: EndpointName,
    deployment: Annotated[str, typer.Option(help="Print its log.", show_default="the one with most traffic")] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000, help="Number of lines, from the end.")] = 50,
    on: On = None,
) -> None:
    """Print the last lines of the log of a deployment.

    Example: `mlops endpoint logs textile --lines 100`
    """
    target = target_for(name, on)
    typer.echo(target.logs(name, _chosen(target.endpoint(name), deployment).name, lines))


@app.command()
def traffic(
    name: EndpointName,
    shares: Annotated[
        list[str], typer.Argument(metavar="DEPLOYMENT=PERCENT...", help="Share of each deployment; they add up to 100.")
    ],
    mirror: Annotated[
        str,
        typer.Option(
            metavar="DEPLOYMENT=PERCENT",
            help="Also send copies of this percentage of requests to a deployment.",
        ),
    ] = "",
    on: On = None,
    json_: JsonOption = False,
) -> None:
    """Split the traffic of an endpoint between its deployments.

    Example: `mlops endpoint traffic textile version-3=90 version-4=10`
    """
    from vision_mlops.endpoints.contract import check_traffic

    target = target_for(name, on)
    if not target.splits_traffic:
        raise DeploymentError(
            f"an endpoint on {target.name} has one deployment",
            "use --to local or managed, or aks with MLOPS_AKS_GATEWAY",
        )
    wanted, mirrored = dict(map(_share, shares)), dict([_share(mirror)] if mirror else [])
    check_traffic(target.endpoint(name), wanted, mirrored)
    endpoint = target.set_traffic(name, wanted, mirrored)
    emit_table(_rows(endpoint), as_json=json_)


@app.command()
def keys(
    name: EndpointName,
    rotate: Annotated[str, typer.Option(metavar="WHICH", help="Generate a new key: primary or secondary.")] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the primary key to this new file, readable by its owner only."),
    ] = None,
    on: On = None,
) -> None:
    """Rotate the keys of an endpoint, or write one to a file; they are never printed.

    On aci, the container restarts to get a new key: for some seconds the endpoint does not respond.

    Example: `mlops endpoint keys textile --rotate secondary`
    """
    if rotate not in ("", "primary", "secondary"):
        raise DeploymentError(f"unknown --rotate {rotate!r}", "give primary or secondary")
    if not rotate and out is None:
        raise DeploymentError("nothing to do", "give --rotate primary, --rotate secondary or --out FILE")
    target = target_for(name, on)
    if rotate:
        target.rotate_key(name, rotate)
        say(f"rotated the {rotate} key of {name}")
    if out is not None:
        value = target.keys(name)["primary"]
        try:
            descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise DeploymentError(f"{out} exists already", "choose another --out, or remove it") from error
        with os.fdopen(descriptor, "w") as stream:
            stream.write(value)
        say(f"wrote the primary key of {name} to {out}")


@app.command()
def delete(
    name: EndpointName,
    deployment: Annotated[
        str, typer.Option(help="Delete only this deployment.", show_default="the whole endpoint")
    ] = "",
    on: On = None,
) -> None:
    """Delete an endpoint with all its deployments, or one deployment that has no traffic.

    Example: `mlops endpoint delete textile`
    """
    from vision_mlops.endpoints.contract import check_no_traffic
    from vision_mlops.endpoints.targets import forget

    target = target_for(name, on)
    endpoint = target.endpoint(name)
    if not deployment:
        target.delete(name)
        forget(name, target.name)
        say(f"deleted endpoint {name} on {target.name}")
        return
    check_no_traffic(endpoint, deployment)
    target.delete_deployment(name, deployment)
    say(f"deleted deployment {deployment} of {name}")


def target_for(name: str, on: str | None) -> Target:
    """Return the target of an endpoint: the given one, or the one that it was deployed to from here."""
    from vision_mlops.endpoints.targets import open_target, target_of

    return open_target(on or target_of(name))


def _chosen(endpoint: Endpoint, name: str) -> Deployment:
    if name:
        return endpoint.deployment(name)
    found = endpoint.serving or next(iter(endpoint.deployments), None)
    if found is None:
        raise DeploymentError(f"endpoint {endpoint.name!r} has no deployments", "mlops deploy --help")
    return found


def _share(text: str) -> tuple[str, int]:
    name, mark, percent = text.partition("=")
    if not mark or not percent.isdecimal():
        raise DeploymentError(f"{text!r} is not of the form DEPLOYMENT=PERCENT", "write for example version-3=90")
    return name, int(percent)


def _rows(endpoint: Endpoint) -> list[dict[str, Any]]:
    first = {"endpoint": endpoint.name, "target": endpoint.target}
    rest = [
        {
            **first,
            "deployment": item.name,
            "model": item.reference,
            "state": str(item.state),
            "traffic": f"{item.traffic}%" + (f" + {item.mirror}% copies" if item.mirror else ""),
            "url": endpoint.url,
        }
        for item in endpoint.deployments
    ]
    empty = {"deployment": "", "model": "", "state": str(endpoint.state), "traffic": "", "url": endpoint.url}
    return rest or [{**first, **empty}]
