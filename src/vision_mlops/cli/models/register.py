"""``mlops models register``: register a bundle as a version, and start the next pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.gate import FailOnOption, exit_on
from vision_mlops.cli.models.version_output import public, suffix
from vision_mlops.cli.options import JsonOption, OnRegisteredOption, TokenSecretOption
from vision_mlops.cli.output import emit, say
from vision_mlops.core.errors import MlopsError


def register(
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="Folder that `mlops train` wrote.")],
    name: Annotated[str, typer.Option("--name", "-n", help="Model to add a version to; created if it does not exist.")],
    metrics: Annotated[Path | None, typer.Option(help="metrics.json of `mlops evaluate`.")] = None,
    verdict: Annotated[Path | None, typer.Option(help="verdict.json of `mlops gate`.")] = None,
    data: Annotated[Path | None, typer.Option(help="Prepared data it was trained on, for lineage.")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Make it champion unless its verdict is reject.")] = False,
    promote_if_passed: Annotated[
        bool, typer.Option("--promote-if-passed", help="Make it the champion if its verdict is promote.")
    ] = False,
    fail_on: FailOnOption = "never",
    on_registered: OnRegisteredOption = None,
    token_secret: TokenSecretOption = None,
    force: Annotated[bool, typer.Option("--force", help="Add a version even if this bundle is registered.")] = False,
    json_: JsonOption = False,
) -> None:
    """Verify a bundle and store it as the next version; an identical bundle returns the version that it has already.

    With `--on-registered`, the last step of a training starts the next pipeline, so that none has to wait. The parameter
    `registered` of that pipeline is the version, whatever the verdict. The job signs in to Azure DevOps with its identity,
    and to GitHub with a token.

    Example: `mlops models register --bundle outputs/bundle --name textile --verdict verdict.json --promote`
    """
    from vision_mlops.azure.devops_sign_in import check_token_source, service_token
    from vision_mlops.devops.run_start import run_address, start_run
    from vision_mlops.evaluation.gate import read_verdict
    from vision_mlops.registry import CHAMPION, open_registry

    decision = read_verdict(verdict)["decision"] if verdict else ""
    if (promote_if_passed or fail_on != "never") and not decision:
        raise MlopsError("--promote-if-passed and --fail-on need --verdict", "give the verdict.json of `mlops gate`")
    following = None if on_registered is None else run_address(on_registered)
    if following is not None:
        check_token_source(following.service, token_secret)
    elif token_secret is not None:
        raise MlopsError(
            "--token-secret needs --on-registered", "give the address of the next run, or remove --token-secret"
        )
    aliases = (CHAMPION,) if promote or (promote_if_passed and decision == "promote") else ()
    version = open_registry().register(
        bundle, name, metrics=metrics, verdict=verdict, data=data, aliases=aliases, force=force
    )
    emit(public(version), f"registered {version.reference}{suffix(version)}", as_json=json_)
    if following is not None:
        token = service_token(following.service, secret=token_secret or "")
        say(f"started {start_run(following, {'registered': version.reference}, token)}")
    exit_on(decision, fail_on)
