"""``mlops rollout``: shift the traffic of an endpoint to a new version step by step, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vision_mlops.cli.azure.checks_first import SkipChecks
from vision_mlops.cli.deploy import (
    Bake,
    Cpu,
    DeploymentName,
    Env,
    Image,
    Instances,
    InstanceType,
    Memory,
    ScoreScript,
    Timeout,
    check_deployment,
    variables,
)
from vision_mlops.cli.endpoint import EndpointName, On, target_for
from vision_mlops.cli.options import JsonOption, ModelOption, WorkersOption
from vision_mlops.cli.output import GlobalOptions, emit_json, say, warn

if TYPE_CHECKING:
    from vision_mlops.rollout.driver import RolloutResult
    from vision_mlops.rollout.rollout_endpoint import Controls

app = typer.Typer(no_args_is_help=True)

Images = Annotated[
    Path | None,
    typer.Option(
        "--images", help="Folder of images to probe with, or prepared data.", show_default="the golden examples"
    ),
]
ProbeRate = Annotated[
    float, typer.Option("--probe-rate", min=0.1, max=1000, help="Maximum number of pairs of probes per second.")
]
OnInterrupt = Annotated[
    Literal["pause", "rollback"], typer.Option("--on-interrupt", help="Choose what to do at Ctrl-C and SIGTERM.")
]
TakeOver = Annotated[
    bool, typer.Option("--take-over", help="Take over from another machine that was driving and is gone.")
]


@app.command()
def start(
    name: EndpointName,
    model: ModelOption,
    deployment: DeploymentName = None,
    steps: Annotated[
        str, typer.Option(help="Steps in percent: copies of requests first, then shares.")
    ] = "mirror=50,10,50,100",
    min_requests: Annotated[int, typer.Option(min=1, help="Number of requests to judge a step by.")] = 100,
    max_error_rate: Annotated[float, typer.Option(min=0, max=1, help="Maximum share of failed requests.")] = 0.01,
    max_latency_ratio: Annotated[
        float,
        typer.Option(min=0.1, help="Maximum ratio of latencies, candidate to champion, of p95 and median."),
    ] = 1.5,
    latency_allowance: Annotated[float, typer.Option(min=0, help="Milliseconds of difference that are ignored.")] = 1.0,
    max_disagreement: Annotated[
        float, typer.Option(min=0, max=1, help="Maximum share of images with a different label.")
    ] = 0.1,
    step_timeout: Annotated[float, typer.Option(min=1, help="Seconds within which a step must be passed.")] = 900.0,
    min_seconds: Annotated[float, typer.Option(min=0, help="Minimum seconds of a step.")] = 10.0,
    images: Images = None,
    probe_rate: ProbeRate = 10.0,
    create: Annotated[
        bool,
        typer.Option(
            "--create", help="Create the endpoint if it does not exist; succeed if the candidate serves already."
        ),
    ] = False,
    keep_candidate: Annotated[
        bool, typer.Option("--keep-candidate", help="Keep the candidate deployed after a rollback.")
    ] = False,
    keep_champion: Annotated[
        bool, typer.Option("--keep-champion", help="Keep the champion deployed, without traffic, after success.")
    ] = False,
    no_alias: Annotated[bool, typer.Option("--no-alias", help="Do not move the alias champion.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also roll out other classes, or a version whose verdict is reject or inconclusive."
        ),
    ] = False,
    on_interrupt: OnInterrupt = "pause",
    take_over: TakeOver = False,
    workers: WorkersOption = None,
    image: Image = "",
    bake: Bake = False,
    score_script: ScoreScript = False,
    instance_type: InstanceType = "",
    instances: Instances = None,
    cpu: Cpu = None,
    memory: Memory = None,
    env: Env = None,
    timeout: Timeout = None,
    skip_checks: SkipChecks = False,
    on: On = None,
    json_: JsonOption = False,
) -> None:
    """Deploy a candidate beside the champion and shift the traffic to it step by step, or back at the first failure.

    Exit code 0: the candidate has all traffic; 1: it was rolled back; 130: paused by a signal. The same command again
    continues where it stopped. With `--create`, it also works for the first version of an endpoint.

    Example: `mlops rollout start textile --model textile:4`
    """
    from vision_mlops.endpoints.contract import DeploymentOptions, DeploymentRequest, check_name, deployment_name
    from vision_mlops.rollout.rollout_control import start as run
    from vision_mlops.rollout.rollout_settings import RolloutLimits, RolloutOptions, parse_steps

    planned = parse_steps(steps)
    limits = RolloutLimits(
        min_requests, max_error_rate, max_latency_ratio, latency_allowance, max_disagreement, step_timeout, min_seconds
    )
    options = DeploymentOptions(
        workers=workers, image=image, bake=bake, score_script=score_script, instance_type=instance_type,
        instances=instances, cpu=cpu, memory_gb=memory, environment=variables(env), timeout_s=timeout,
    )  # fmt: skip
    controls = _controls(name, on, images, probe_rate, on_interrupt, take_over=take_over)
    version = controls.registry.get(model)
    wanted = check_name("a deployment", deployment or deployment_name(version.version))
    request = DeploymentRequest(name, wanted, version, controls.registry, options)
    check_deployment(controls.target.name, request, skip=skip_checks)
    wishes = RolloutOptions(keep_candidate, keep_champion, no_alias, force)
    if create:
        from vision_mlops.endpoints.targets import remember
        from vision_mlops.rollout.first_version import make_first

        made = make_first(controls, request, wishes)
        remember(name, controls.target.name)
        if made is not None:
            for reason in made.reasons:
                say(reason)
            _show(made, name, as_json=json_)
            return
    _show(run(controls, request, steps=planned, limits=limits, wishes=wishes), name, as_json=json_)


@app.command()
def resume(
    name: EndpointName,
    images: Images = None,
    probe_rate: ProbeRate = 10.0,
    on_interrupt: OnInterrupt = "pause",
    take_over: TakeOver = False,
    on: On = None,
    json_: JsonOption = False,
) -> None:
    """Continue a rollout that no process is running; its current step starts again.

    Example: `mlops rollout resume textile`
    """
    from vision_mlops.rollout.rollout_control import resume as run

    _show(run(_controls(name, on, images, probe_rate, on_interrupt, take_over=take_over)), name, as_json=json_)


@app.command()
def abort(
    name: EndpointName,
    if_running: Annotated[
        bool, typer.Option("--if-running", help="Exit with code 0 even if no rollout is under way.")
    ] = False,
    take_over: TakeOver = False,
    on: On = None,
    json_: JsonOption = False,
) -> None:
    """Give all traffic back to the champion and remove the candidate; done by the process that drives, or by this one.

    Example: `mlops rollout abort textile`
    """
    from vision_mlops.rollout.rollout_control import abort as run
    from vision_mlops.rollout.rollout_control import is_under_way
    from vision_mlops.rollout.rollout_report import RolloutOutcome

    controls = _controls(name, on, None, 1.0, "pause", take_over=take_over)
    if if_running and not is_under_way(controls):
        say(f"no rollout of {name} is under way: nothing to abort")
        return
    ending = run(controls)
    _show(ending, name, as_json=json_, wanted=RolloutOutcome.ROLLED_BACK)


@app.command()
def promote(name: EndpointName, take_over: TakeOver = False, on: On = None, json_: JsonOption = False) -> None:
    """Give all traffic to the candidate for good, and skip the remaining steps.

    Example: `mlops rollout promote textile`
    """
    from vision_mlops.rollout.rollout_control import promote as run

    _show(run(_controls(name, on, None, 1.0, "pause", take_over=take_over)), name, as_json=json_)


@app.command()
def status(name: EndpointName, on: On = None, json_: JsonOption = False) -> None:
    """Show the step of a rollout, who drives it, and what was observed.

    Example: `mlops rollout status textile`
    """
    from vision_mlops.rollout.driver_process import status as read

    found = read(target_for(name, on), name)
    if json_:
        emit_json(found)
        return
    for line in _lines(found):
        typer.echo(line)


def _lines(found: dict[str, Any]) -> list[str]:
    name, state, last = found["endpoint"], found["rollout"], found.get("last")
    if state is None:
        told = f"; the last one driven from here was {last['outcome']}: {last['report']}" if last else ""
        return [f"no rollout of {name} is under way{told}"]
    shares = [f"{who} {share}%" for who, share in state["traffic"].items()]
    shares += [f"copies of {share}% to {who}" for who, share in state["mirror"].items()]
    lines = [
        f"{name}: {state['candidate']} ({state['model']}) beside {state['champion']}",
        f"at       {state['at']}",
        f"traffic  {', '.join(shares) or 'none'}",
        f"run by   {state['driven_by']}",
    ]
    lines += [f"         {reason}" for reason in (state["seen"] or {}).get("reasons", [])]
    if state["order"]:
        lines.append(f"ordered  {state['order']}")
    if state["driven_by"] == "nobody":
        lines.append(_next_steps(name))
    return lines


def _next_steps(name: str) -> str:
    return f"continue with mlops rollout resume {name}, or end it with mlops rollout abort {name} or promote {name}"


def _controls(
    name: str, on: str | None, images: Path | None, probe_rate: float, on_interrupt: str, *, take_over: bool
) -> Controls:
    from vision_mlops.registry import open_registry
    from vision_mlops.rollout.rollout_endpoint import Controls
    from vision_mlops.rollout.rollout_settings import Pace

    back = on_interrupt == "rollback"
    target = target_for(name, on)
    return Controls(target, open_registry(), name, say, images, Pace(probe_rate=probe_rate), back, take_over)


def _show(ending: RolloutResult, name: str, *, as_json: bool, wanted: str = "promoted") -> None:
    """Print the outcome and the location of the report, the reasons last; ends the process with the exit code."""
    from vision_mlops.rollout.rollout_report import as_text

    report = ending.report
    if as_json:
        emit_json(report.content if report else {"endpoint": name, "outcome": str(ending.outcome)})
    if ending.problem:
        warn(ending.problem)
    if ending.outcome == "paused":
        for reason in ending.reasons:
            say(reason)
        say(_next_steps(name))
        raise typer.Exit(130)
    if report is not None:
        say(f"report: {report.page}")
        if not as_json:
            typer.echo(as_text(report.content, whole=GlobalOptions.verbose), nl=False)
    if ending.outcome != wanted or ending.problem:
        raise typer.Exit(1)
