"""``mlops models verdict``: show the verdict of the gate on a version, to people and to pipelines."""

from __future__ import annotations

from typing import Annotated

import typer

from vision_mlops.cli.gate import FailOnOption, exit_on
from vision_mlops.cli.models.version_output import Ref
from vision_mlops.cli.options import AzureDevOps, GitHub, JsonOption
from vision_mlops.cli.output import emit_json
from vision_mlops.registry.version_digest import ANY


def verdict(
    ref: Ref,
    digest: Annotated[str, typer.Option(help="Digest that the version must have, or `any`.")] = ANY,
    fail_on: FailOnOption = "never",
    azure_devops: AzureDevOps = False,
    github: GitHub = False,
    json_: JsonOption = False,
) -> None:
    """Show the verdict of the gate on a version, with its reasons and its digest.

    A pipeline gets the outputs `model` (NAME:VERSION), `name`, `version`, `digest` and `decision`, and the reasons as a
    page. Azure DevOps also tags the run with the verdict.

    Example: `mlops models verdict textile:3 --azure-devops`
    """
    from vision_mlops.devops.build_results import open_build
    from vision_mlops.registry import CHAMPION, open_registry
    from vision_mlops.registry.verdict_summary import NOT_JUDGED, decision_on, reasons_of, verdict_summary
    from vision_mlops.registry.version_digest import digest_of, version_with

    build = open_build(typer.echo, azure_devops=azure_devops, github=github)
    registry = open_registry()
    version = version_with(registry, ref, digest)
    decision = decision_on(version)
    champion = next((each for each in registry.versions(version.name) if CHAMPION in each.aliases), None)
    found = {
        "model": version.reference,
        "name": version.name,
        "version": str(version.version),
        "digest": digest_of(version),
        "decision": decision,
    }
    page = verdict_summary(version, champion)
    if json_:
        emit_json({**found, "reasons": reasons_of(version), "champion": champion.reference if champion else None})
    else:
        typer.echo(page, nl=False)
    if build is not None:
        for name, value in found.items():
            build.output(name, value)
        build.tag(decision)
        build.summary(f"Verdict on {version.name} {version.version}", page)
    exit_on("inconclusive" if decision == NOT_JUDGED else decision, fail_on)
