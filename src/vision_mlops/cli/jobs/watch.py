"""``mlops pipeline watch``: retrains on this machine when images change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.jobs.training_pipeline import PIPELINE, PipelineOption, read_pipeline
from vision_mlops.cli.options import Place, SetOption, WorkloadOption
from vision_mlops.cli.output import say


def watch(
    data: Annotated[Path, typer.Option("--data", help="Folder of class folders to watch.")],
    workload: WorkloadOption = "textile",
    set_: SetOption = None,
    pipeline: PipelineOption = PIPELINE,
    poll: Annotated[float, typer.Option("--poll", min=0.1, help="Seconds between two looks.")] = 5.0,
    settle: Annotated[
        float, typer.Option("--settle", min=0.0, help="Seconds without a change before a run starts.")
    ] = 30.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end, as a scheduled task does.")] = False,
) -> None:
    """Run the training pipeline whenever the content of a folder of images has changed, one run at a time.

    What was trained on is remembered in `outputs/watch`, so a restart does not train again. A failed run is not
    repeated until the images change.

    Example: `mlops pipeline watch --data photos/birds`
    """
    from vision_mlops.cli.jobs.run import run_pipeline, tell_verdict, workload_for
    from vision_mlops.core import paths
    from vision_mlops.jobs.local.engine.image_watch import Rhythm, Watch
    from vision_mlops.jobs.local.state.job_display import duration
    from vision_mlops.jobs.local.state.job_state import Status

    loaded = workload_for(workload, data, set_ or ())

    def train(fingerprint: str) -> bool:
        ended = run_pipeline(loaded, data, pipeline=pipeline)
        say(f"job {ended.state.name}: {ended.state.status.value.lower()} after {duration(ended.state.seconds)}")
        if ended.state.status is not Status.COMPLETED:
            return False
        tell_verdict(ended)
        return True

    memory = paths.home() / "watch" / f"{loaded.name}.json"
    read_pipeline(pipeline).changes(loaded, data, Place.LOCAL)  # a pipeline that cannot take them is refused at once
    watching = Watch(data, memory, train, rhythm=Rhythm(poll, settle), say=say)
    if not once:
        watching.forever()
        return
    good = watching.once()
    if good is None:
        say("the images are those of the last run")
    elif not good:
        raise typer.Exit(1)
