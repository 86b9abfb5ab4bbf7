"""``mlops rollout``: a model version takes the traffic of an endpoint over step by step, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mlops.cli.azure.checks_first import SkipChecks
from vision_mlops.cli.deploy import Bake, Env, Image, ScoreScript, Timeout, Workers, check_deployment, variables
from vision_mlops.cli.endpoint import JsonOption, On
from vision_mlops.cli.options import filled
from vision_mlops.cli.output import GlobalOptions, emit_json, say, warn
from vision_mlops.core.errors import DeploymentError

if TYPE_CHECKING:
    from vision_mlops.rollout.driver import RolloutResult
    from vision_mlops.rollout.rollout_control import Controls

app = typer.Typer(no_args_is_help=True, help="Roll a model version out step by step, judged against the champion.")

Name = Annotated[str, typer.Argument(callback=filled, metavar="ENDPOINT", help="Endpoint.")]
Images = Annotated[
    Path | None,
    typer.Option("--images", help="Images to probe with, or prepared data.", show_default="the golden examples"),
]
ProbeRate = Annotated[float, typer.Option("--probe-rate", min=0.1, max=1000, help="Pairs of probes a second, at most.")]
OnInterrupt = Annotated[
    str, typer.Option("--on-interrupt", metavar="pause|rollback", help="What Ctrl-C and SIGTERM do.")
]
TakeOver = Annotated[
    bool, typer.Option("--take-over", help="Do not wait for another machine that was driving: it is gone.")
]


@app.command()
def start(
    name: Name,
    model: Annotated[str, typer.Option("--model", "-m", help="Candidate: `NAME` (latest), `NAME:3` or `NAME@alias`.")],
    deployment: Annotated[
        str | None, typer.Option("--deployment", help="Name of its deployment.", show_default="version-N")
    ] = None,
    steps: Annotated[
        str, typer.Option("--steps", help="Copies of requests first, then shares, in percent.")
    ] = "mirror=50,10,50,100",
    min_requests: Annotated[int, typer.Option("--min-requests", min=1, help="Requests to judge a step by.")] = 100,
    max_error_rate: Annotated[
        float, typer.Option("--max-error-rate", min=0, max=1, help="Share of requests that may fail.")
    ] = 0.01,
    max_latency_ratio: Annotated[
        float, typer.Option("--max-latency-ratio", min=0.1, help="Latency by that of the champion, p95 and median.")
    ] = 1.5,
    latency_allowance: Annotated[
        float, typer.Option("--latency-allowance", min=0, help="Milliseconds that do not count for it.")
    ] = 1.0,
    max_disagreement: Annotated[
        float, typer.Option("--max-disagreement", min=0, max=1, help="Share of images that may get another label.")
    ] = 0.1,
    step_timeout: Annotated[
        float, typer.Option("--step-timeout", min=1, help="Seconds in which a step has to be passed.")
    ] = 900.0,
    min_seconds: Annotated[
        float, typer.Option("--min-seconds", min=0, help="Seconds that a step takes at least.")
    ] = 10.0,
    images: Images = None,
    probe_rate: ProbeRate = 10.0,
    create: Annotated[
        bool,
        typer.Option(
            "--create", help="Make the endpoint where there is none; nothing to do where the candidate serves."
        ),
    ] = False,
    keep_candidate: Annotated[
        bool, typer.Option("--keep-candidate", help="Leave it deployed after a rollback.")
    ] = False,
    keep_champion: Annotated[
        bool, typer.Option("--keep-champion", help="Leave it deployed, without traffic, after success.")
    ] = False,
    no_alias: Annotated[bool, typer.Option("--no-alias", help="Leave the alias champion where it is.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also with other classes, or a version whose verdict is reject or inconclusive."),
    ] = False,
    on_interrupt: OnInterrupt = "pause",
    take_over: TakeOver = False,
    workers: Workers = None,
    image: Image = "",
    bake: Bake = False,
    score_script: ScoreScript = False,
    instance_type: Annotated[str, typer.Option("--instance-type", help="Size of machine, or instance type.")] = "",
    instances: Annotated[int | None, typer.Option("--instances", min=1, help="Machines or pods.")] = None,
    cpu: Annotated[float | None, typer.Option("--cpu", min=0.1, help="Cores of one instance.")] = None,
    memory: Annotated[float | None, typer.Option("--memory", min=0.2, help="GB of one instance.")] = None,
    env: Env = None,
    timeout: Timeout = None,
    skip_checks: SkipChecks = False,
    on: On = None,
    json_: JsonOption = False,
) -> None:
    """Deploy a candidate beside the champion and give it the traffic step by step, or take it back at the first fault.

    Exit code 0: the candidate has all of the traffic; 1: it was rolled back; 130: paused by a signal. The same command again
    goes on where it stands. With `--create` it also does for the first version of an endpoint.

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
        instances=instances, cpu=cpu, memory_gb=memory, environment=variables(env or []), timeout_s=timeout,
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
    name: Name,
    images: Images = None,
    probe_rate: ProbeRate = 10.0,
    on_interrupt: OnInterrupt = "pause",
    take_over: TakeOver = False,
    on: On = None,
    json_: JsonOption = False,
) -> None:
    """Go on with a rollout that nobody drives any more: the step that it stands at begins anew.

    Example: `mlops rollout resume textile`
    """
    from vision_mlops.rollout.rollout_control import resume as run

    _show(run(_controls(name, on, images, probe_rate, on_interrupt, take_over=take_over)), name, as_json=json_)


@app.command()
def abort(
    name: Name,
    if_running: Annotated[
        bool, typer.Option("--if-running", help="Exit code 0 also where no rollout is under way.")
    ] = False,
    take_over: TakeOver = False,
    on: On = None,
    json_: JsonOption = False,
) -> None:
    """Give the champion all of the traffic again and remove the candidate; a process that drives does it, else this one.

    Example: `mlops rollout abort textile`
    """
    from vision_mlops.rollout.rollout_control import abort as run
    from vision_mlops.rollout.rollout_control import is_under_way
    from vision_mlops.rollout.rollout_report import RolloutOutcome

    controls = _controls(name, on, None, 1.0, "pause", take_over=take_over)
    if if_running and not is_under_way(controls):
        say(f"{name} is under no rollout: nothing to abort")
        return
    ending = run(controls)
    _show(ending, name, as_json=json_, wanted=RolloutOutcome.ROLLED_BACK)


@app.command()
def promote(name: Name, take_over: TakeOver = False, on: On = None, json_: JsonOption = False) -> None:
    """Give the candidate all of the traffic for good, without the steps that are left.

    Example: `mlops rollout promote textile`
    """
    from vision_mlops.rollout.rollout_control import promote as run

    _show(run(_controls(name, on, None, 1.0, "pause", take_over=take_over)), name, as_json=json_)


@app.command()
def status(name: Name, on: On = None, json_: JsonOption = False) -> None:
    """Show where a rollout stands, who drives it, and what was seen.

    Example: `mlops rollout status textile`
    """
    from vision_mlops.endpoints.targets import open_target, target_of
    from vision_mlops.rollout.driver_process import status as read

    found = read(open_target(on or target_of(name)), name)
    if json_:
        emit_json(found)
        return
    for line in _lines(found):
        typer.echo(line)


def _lines(found: dict[str, Any]) -> list[str]:
    name, state, last = found["endpoint"], found["rollout"], found.get("last")
    if state is None:
        told = f"; the last one from here was {last['outcome']}: {last['report']}" if last else ""
        return [f"{name} is under no rollout{told}"]
    shares = [f"{who} {share} %" for who, share in state["traffic"].items()]
    shares += [f"copies of {share} % to {who}" for who, share in state["mirror"].items()]
    lines = [
        f"{name}: {state['candidate']} ({state['model']}) beside {state['champion']}",
        f"at       {state['at']}",
        f"traffic  {', '.join(shares) or 'none'}",
        f"driven by {state['driven_by']}",
    ]
    lines += [f"         {reason}" for reason in (state["seen"] or {}).get("reasons", [])]
    if state["order"]:
        lines.append(f"ordered  {state['order']}")
    if state["driven_by"] == "nobody":
        lines.append(f"go on: mlops rollout resume {name}; or end it: mlops rollout abort {name}, or promote")
    return lines


def _controls(
    name: str, on: str | None, images: Path | None, probe_rate: float, on_interrupt: str, *, take_over: bool
) -> Controls:
    from vision_mlops.endpoints.targets import open_target, target_of
    from vision_mlops.registry import open_registry
    from vision_mlops.rollout.rollout_control import Controls
    from vision_mlops.rollout.rollout_settings import Pace

    if on_interrupt not in ("pause", "rollback"):
        raise DeploymentError(f"--on-interrupt {on_interrupt}: there is no such thing", "give pause or rollback")
    target = open_target(on or target_of(name))
    back = on_interrupt == "rollback"
    return Controls(target, open_registry(), name, say, images, Pace(probe_rate=probe_rate), back, take_over)


def _show(ending: RolloutResult, name: str, *, as_json: bool, wanted: str = "promoted") -> None:
    """Print how it ended and where the report is, the reasons last; ends the process with the exit code."""
    from vision_mlops.rollout.rollout_report import as_text

    report = ending.report
    if as_json:
        emit_json(report.content if report else {"endpoint": name, "outcome": str(ending.outcome)})
    if ending.problem:
        warn(ending.problem)
    if ending.outcome == "paused":
        for reason in ending.reasons:
            say(reason)
        say(f"go on: mlops rollout resume {name}; or end it: mlops rollout abort {name}, or promote")
        raise typer.Exit(130)
    if report is not None:
        say(f"report: {report.page}")
        if not as_json:
            typer.echo(as_text(report.content, whole=GlobalOptions.verbose), nl=False)
    if ending.outcome != wanted or ending.problem:
        raise typer.Exit(1)
