"""``mlops config``: show workloads and check them."""

from __future__ import annotations

import typer

from vision_mlops.cli.options import JsonOption, SetOption, WorkloadOption
from vision_mlops.cli.output import emit, say

app = typer.Typer(no_args_is_help=True)


@app.command()
def show(workload: WorkloadOption = "textile", set_: SetOption = None, json_: JsonOption = False) -> None:
    """Print a whole workload, defaults included.

    Example: `mlops config show --workload textile --set training.epochs=2`
    """
    from vision_mlops.config import load_workload
    from vision_mlops.core.yaml_text import write_yaml

    loaded = load_workload(workload, set_ or ())
    emit(loaded.model_dump(), write_yaml(loaded.model_dump()).rstrip(), as_json=json_)


@app.command()
def check(workload: WorkloadOption = "textile", set_: SetOption = None) -> None:
    """Check a workload; exit with code 2 and name the nearest valid key if it is wrong.

    Code of your own that it names is imported and tried on synthetic data: metrics, and if torch is installed, transforms
    and the backbone, without pretrained weights.

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
