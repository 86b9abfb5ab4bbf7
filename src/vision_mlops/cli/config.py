"""``mlops config``: look at a workload and check it."""

from __future__ import annotations

import typer

from vision_mlops.cli.options import JsonOption, SetOption, WorkloadOption
from vision_mlops.cli.output import emit_json, say

app = typer.Typer(no_args_is_help=True, help="Show and check workload files.")


@app.command()
def show(workload: WorkloadOption = "textile", set_: SetOption = None, json_: JsonOption = False) -> None:
    """Print the whole workload, defaults included.

    Example: `mlops config show --workload textile --set training.epochs=2`
    """
    from vision_mlops.config import load_workload

    loaded = load_workload(workload, set_ or ())
    if json_:
        emit_json(loaded.model_dump())
        return
    from vision_mlops.core.yaml_text import write_yaml

    typer.echo(write_yaml(loaded.model_dump()).rstrip())


@app.command()
def check(workload: WorkloadOption = "textile", set_: SetOption = None) -> None:
    """Check a workload; exit code 2 and the nearest valid key where it is wrong.

    Own code that it names is imported and tried on made-up data: metrics, and where torch is installed, transforms and the
    backbone, without pretrained weights.

    Example: `mlops config check --workload textile`
    """
    from vision_mlops.cli.jobs.own_code_trial import try_metrics, try_network
    from vision_mlops.config import load_workload
    from vision_mlops.config.own_code import load, references

    loaded = load_workload(workload, set_ or ())
    for reference in references(loaded):
        load(reference)
    try_metrics(loaded)
    try_network(loaded)
    say(f"ok: workload {loaded.name}")
