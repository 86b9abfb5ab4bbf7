"""``mlops models register``: a bundle becomes a version, and the next pipeline may hear of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.gate import FailOnVerdict, exit_on
from vision_mlops.cli.models.version_output import emit_version, suffix
from vision_mlops.cli.options import JsonOption
from vision_mlops.cli.output import say
from vision_mlops.core.errors import MlopsError


def register(
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="Folder that `mlops train` wrote.")],
    name: Annotated[str, typer.Option("--name", "-n", help="Model to add a version to; created when new.")],
    metrics: Annotated[Path | None, typer.Option("--metrics", help="metrics.json of `mlops evaluate`.")] = None,
    verdict: Annotated[Path | None, typer.Option("--verdict", help="verdict.json of `mlops gate`.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Prepared data it was trained on, for lineage.")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Make it champion, unless it was rejected.")] = False,
    promote_if_passed: Annotated[
        bool, typer.Option("--promote-if-passed", help="Make it champion where its verdict is promote.")
    ] = False,
    fail_on: Annotated[
        FailOnVerdict, typer.Option("--fail-on", help="Verdict that gives exit code 1, after it is registered.")
    ] = FailOnVerdict.NEVER,
    on_registered: Annotated[
        str | None,
        typer.Option(
            "--on-registered",
            metavar="URL",
            help="Start the pipeline of Azure DevOps, or the workflows of GitHub, at this address, with the version.",
        ),
    ] = None,
    token_secret: Annotated[
        str | None,
        typer.Option("--token-secret", metavar="URL", help="Secret of a key vault with the token for --on-registered."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Add a version though this bundle is registered.")] = False,
    json_: JsonOption = False,
) -> None:
    """Verify a bundle and store it as the next version; the identical bundle again gives the version it has.

    With `--on-registered`, the last step of a training starts the next pipeline, so that none has to wait: its parameter
    `registered` is the version, whatever the verdict. Azure DevOps is signed in to with the identity of the job, GitHub with
    a token.

    Example: `mlops models register --bundle outputs/bundle --name textile --verdict verdict.json --promote`
    """
    from vision_mlops.azure.devops_sign_in import check_token_source, service_token
    from vision_mlops.devops.run_start import run_address, start_run
    from vision_mlops.evaluation.gate import read_verdict
    from vision_mlops.registry import CHAMPION, open_registry

    decision = read_verdict(verdict)["decision"] if verdict else ""
    if (promote_if_passed or fail_on is not FailOnVerdict.NEVER) and not decision:
        raise MlopsError("--promote-if-passed and --fail-on need --verdict", "give the verdict.json of `mlops gate`")
    following = None if on_registered is None else run_address(on_registered)
    if following is not None:
        check_token_source(following.service, token_secret)
    elif token_secret is not None:
        raise MlopsError("--token-secret needs --on-registered", "give the address of the next run, or leave it out")
    aliases = (CHAMPION,) if promote or (promote_if_passed and decision == "promote") else ()
    version = open_registry().register(
        bundle, name, metrics=metrics, verdict=verdict, data=data, aliases=aliases, force=force
    )
    emit_version(version, as_json=json_, text=f"registered {version.reference}{suffix(version)}")
    if following is not None:
        token = service_token(following.service, secret=token_secret or "")
        say(f"started {start_run(following, {'registered': version.reference}, token)}")
    exit_on(decision, fail_on)
