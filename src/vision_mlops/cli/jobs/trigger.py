"""``mlops pipeline trigger``: start a published pipeline, as pipelines of Azure DevOps and workflows of GitHub do."""

from __future__ import annotations

from typing import Annotated

import typer

from vision_mlops.cli.options import ChosenWorkloadOption, JsonOption, RunLocation, SetOption, filled, pairs
from vision_mlops.cli.output import emit_json, say, warn


def trigger(
    endpoint: Annotated[str, typer.Argument(callback=filled, metavar="ENDPOINT", help="Name of the batch endpoint.")],
    workload: ChosenWorkloadOption = None,
    images: Annotated[
        str | None,
        typer.Option("--images", help="Registered data, azureml:NAME:VERSION, instead of the images of the workload."),
    ] = None,
    set_: SetOption = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", metavar="NAME=VALUE", help="Input of the pipeline. Repeatable.")
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", "-t", metavar="NAME=VALUE", help="Tag of the job. Repeatable.")
    ] = None,
    deployment: Annotated[
        str | None, typer.Option("--deployment", "-d", callback=filled, help="Another one than the default.")
    ] = None,
    job: Annotated[
        str | None, typer.Option("--job", callback=filled, help="Name of the job; a new one by default.")
    ] = None,
    on_registered: Annotated[
        str | None,
        typer.Option(
            "--on-registered",
            metavar="URL",
            help="Pipeline of Azure DevOps, or workflows of GitHub, that the job starts once it has registered the model.",
        ),
    ] = None,
    token_secret: Annotated[
        str | None,
        typer.Option("--token-secret", metavar="URL", help="Secret of a key vault with the token for --on-registered."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end.")] = False,
    json_: JsonOption = False,
) -> None:
    """Start the pipeline behind an endpoint. With `--wait`, exit code 1 where the job does not complete.

    `--workload`, `--images` and `--set` say what to train, as `mlops run` takes them; without any of them the defaults of
    the pipeline count.

    Example: `mlops pipeline trigger vision-train --workload textile --set training.epochs=4 --tag reason=drift --wait`
    """
    from vision_mlops.azure.devops_sign_in import check_token_source
    from vision_mlops.config.azure_settings import load_azure_settings
    from vision_mlops.core.errors import MlopsError
    from vision_mlops.devops.run_start import run_address
    from vision_mlops.jobs.azureml.published_pipelines import trigger as run

    values, marks = pairs(inputs or (), "--input", "seed=3"), pairs(tags or (), "--tag", "reason=drift")
    chosen = _chosen(workload, images, set_ or [])
    if on_registered is not None:  # what starts nothing is refused before anything is paid for
        check_token_source(run_address(on_registered).service, token_secret, environ={})
        chosen["on_registered"] = on_registered
    if token_secret is not None:
        if on_registered is None:
            raise MlopsError(
                "--token-secret needs --on-registered", "give the address of the next run, or leave it out"
            )
        chosen["token_secret"] = token_secret
    if twice := sorted(chosen.keys() & values.keys()):
        raise MlopsError(f"--input {twice[0]} is given by another option already", "leave one of the two out")
    settings = load_azure_settings()
    started = run(
        endpoint, {**chosen, **values}, marks, settings, wait=wait, deployment=deployment, name=job, on_line=say
    )
    if json_:
        emit_json(started.to_dict())
    else:
        typer.echo(f"{started.name}: {started.status}")
        if not wait:
            say(f"follow it with: mlops job logs {started.name} --on azure")
    if wait and started.status != "Completed":
        raise typer.Exit(1)


def _chosen(reference: str | None, images: str | None, set_: list[str]) -> dict[str, str]:
    """Inputs that say what to train; none where no workload, image or key is given."""
    if reference is None and images is None and not set_:
        return {}
    from vision_mlops.cli.data.image_location import images_for, is_registered
    from vision_mlops.cli.jobs.run import workload_for
    from vision_mlops.config.own_code import references, source_files
    from vision_mlops.config.workload_files import workload_content

    loaded = workload_for(reference, images, set_)
    if own := [found.text for found in references(loaded) if source_files(found)]:
        warn(
            f"own code does not go with a call ({', '.join(own)}): the `code` of the published components must have it;"
            " `mlops run --on azure` sends it along"
        )
    found = {"workload": workload_content(loaded), "model_name": loaded.name}
    place = images_for(loaded, images, RunLocation.AZURE)
    if place is not None:
        found["images"] = place
        if is_registered(place):
            found["source"] = place
    return found
