"""``mlops pipeline trigger``: start a published pipeline, as pipelines of Azure DevOps and workflows of GitHub do."""

from __future__ import annotations

from typing import Annotated

import typer

from vision_mlops.cli.options import (
    ChosenWorkloadOption,
    InputOption,
    JsonOption,
    OnRegisteredOption,
    RunLocation,
    SetOption,
    TokenSecretOption,
    filled,
    pairs,
)
from vision_mlops.cli.output import emit, say, warn
from vision_mlops.core.errors import MlopsError


def trigger(
    endpoint: Annotated[str, typer.Argument(callback=filled, metavar="ENDPOINT", help="Name of the batch endpoint.")],
    workload: ChosenWorkloadOption = None,
    images: Annotated[
        str | None,
        typer.Option(help="Use this registered data, `azureml:NAME:VERSION`, instead of the images of the workload."),
    ] = None,
    set_: SetOption = None,
    inputs: InputOption = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", "-t", metavar="NAME=VALUE", help="Tag the job. Repeatable.")
    ] = None,
    deployment: Annotated[
        str | None,
        typer.Option(
            "--deployment", "-d", callback=filled, help="Deployment to start.", show_default="the default one"
        ),
    ] = None,
    job: Annotated[str | None, typer.Option(callback=filled, help="Job name.", show_default="new")] = None,
    on_registered: OnRegisteredOption = None,
    token_secret: TokenSecretOption = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end.")] = False,
    json_: JsonOption = False,
) -> None:
    """Start the pipeline behind an endpoint. With `--wait`, exit with code 1 if the job does not complete.

    `--workload`, `--images` and `--set` say what to train, as for `mlops run`; without any of them, the pipeline uses its
    defaults.

    Example: `mlops pipeline trigger vision-train --workload textile --set training.epochs=4 --tag reason=drift --wait`
    """
    from vision_mlops.azure.devops_sign_in import check_token_source
    from vision_mlops.config.azure_settings import AzureSettings
    from vision_mlops.devops.run_start import run_address
    from vision_mlops.jobs.azureml.published_pipelines import trigger as run

    values, marks = pairs(inputs, "--input", "seed=3"), pairs(tags, "--tag", "reason=drift")
    chosen = _chosen(workload, images, set_ or [])
    if on_registered is not None:  # what cannot start a run is refused before anything is paid for
        check_token_source(run_address(on_registered).service, token_secret, environ={})
        chosen["on_registered"] = on_registered
    if token_secret is not None:
        if on_registered is None:
            raise MlopsError(
                "--token-secret needs --on-registered", "give the address of the next run, or remove --token-secret"
            )
        chosen["token_secret"] = token_secret
    if twice := sorted(chosen.keys() & values.keys()):
        raise MlopsError(f"--input {twice[0]} is set by another option already", "remove one of the two")
    settings = AzureSettings.load()
    started = run(
        endpoint, {**chosen, **values}, marks, settings, wait=wait, deployment=deployment, name=job, on_line=say
    )
    emit(started.to_dict(), f"{started.name}: {started.status}", as_json=json_)
    if not wait and not json_:
        say(f"follow it with: mlops job logs {started.name} --on azure")
    if wait and started.status != "Completed":
        raise typer.Exit(1)


def _chosen(reference: str | None, images: str | None, set_: list[str]) -> dict[str, str]:
    """Return the inputs that say what to train; none if no workload, images or keys are given."""
    if reference is None and images is None and not set_:
        return {}
    from vision_mlops.cli.data.image_location import images_for, is_registered
    from vision_mlops.cli.jobs.run import workload_for
    from vision_mlops.config.own_code import references, source_files
    from vision_mlops.config.workload_files import workload_content

    loaded = workload_for(reference, images, set_)
    if own := [found.text for found in references(loaded) if source_files(found)]:
        warn(
            f"a call does not send code of your own ({', '.join(own)}): the `code` of the published components must have it;"
            " `mlops run --on azure` sends it"
        )
    found = {"workload": workload_content(loaded), "model_name": loaded.name}
    place = images_for(loaded, images, RunLocation.AZURE)
    if place is not None:
        found["images"] = place
        if is_registered(place):
            found["source"] = place
    return found
