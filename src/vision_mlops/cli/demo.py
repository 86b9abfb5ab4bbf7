"""``mlops demo``: go from images to a served model: `mlops run`, then `mlops serve`."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.jobs.run import run_pipeline, workload_for
from vision_mlops.cli.jobs.run_verdict import run_verdict, tell
from vision_mlops.cli.options import ChosenWorkloadOption, ImagesOption, SetOption
from vision_mlops.cli.output import say
from vision_mlops.core import paths
from vision_mlops.core.errors import RegistryError, ServingError
from vision_mlops.core.interruption import Interruption

if TYPE_CHECKING:
    from vision_mlops.config.workload import Workload


def demo(
    workload: ChosenWorkloadOption = None,
    images: ImagesOption = None,
    set_: SetOption = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the server; 0 takes a free one.")] = 8000,
) -> None:
    """Prepare, train, evaluate, judge, register and serve: the pipeline of `mlops run`, then its champion.

    A second run reuses what has not changed, and continues where the first was interrupted. On a terminal it serves until
    Ctrl-C; otherwise it scores samples and exits. `--images` means the same as for `mlops run`.

    Example: `mlops demo`, or with images of your own, after `mlops new birds --images photos/birds`, `mlops demo -w birds`
    """
    from vision_mlops.cli.jobs.on_this_machine import report
    from vision_mlops.cli.jobs.own_code_trial import try_metrics

    started = time.perf_counter()
    loaded = workload_for(workload, images, set_ or ())
    try_metrics(loaded, images)
    ended = run_pipeline(loaded, images)
    report(ended, as_json=False)
    tell(run_verdict(ended.state.outputs, loaded.name))
    _serve(loaded, paths.home() / "data" / loaded.name, port, time.perf_counter() - started)


def _serve(workload: Workload, data: Path, port: int, seconds: float) -> None:
    """Serve the champion until Ctrl-C on a terminal, otherwise for as long as the sample images take."""
    from vision_mlops.data.manifest import read_manifest
    from vision_mlops.endpoints.contract import Access
    from vision_mlops.endpoints.scoring_client import score_file
    from vision_mlops.registry import open_registry
    from vision_mlops.serving.launch import running_server

    registry = open_registry()
    try:
        champion = registry.get(f"{workload.name}@champion")
    except RegistryError:
        say("\nThe gate did not pass the model, and there is no champion to serve. See the reasons above;")
        say(
            f"`--set gate.min_accuracy=0.8` lowers a floor, `mlops models list {workload.name}` shows what was registered."
        )
        raise typer.Exit(1) from None
    bundle = registry.bundle_path(champion)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    chosen = _free(port) if interactive else 0
    if chosen != port and interactive:
        say(f"\nport {port} is in use: taking a free one instead")
    typer.secho(f"\n$ mlops serve {workload.name}@champion --port {chosen}", err=True, bold=True)
    with running_server(bundle, port=chosen, name=workload.name, version=str(champion.version)) as url:
        manifest = read_manifest(data)
        key = os.environ.get("MLOPS_SCORING_KEY")
        access = Access(f"{url}/score?top_k=2", {"X-Api-Key": key} if key else {})
        for label in manifest.classes:
            record = next(record for record in manifest.of_split("test") if record.label == label)
            answer = score_file(access, data / record.path)
            if not answer.ok:
                raise ServingError(f"the server did not score {record.path}: {answer.problem}")
            shown = (f"{item['label']} {item['probability']:.1%}" for item in answer.body["predictions"])
            typer.echo(f"{record.path}: {', '.join(shown)}")
        say(f"\n{workload.title or workload.name} version {champion.version} is ready at {url}, after {seconds:.0f} s")
        if interactive:
            say(f"Open {url} in a browser to score your own images; Ctrl-C stops the server.")
            with Interruption() as interruption:
                while not interruption.asked:
                    time.sleep(0.2)
            with contextlib.suppress(OSError):  # the terminal may have been closed
                say("stopping")
    if not interactive:
        say("The server has stopped, because there is no terminal to stop it from.")
        say(f"Serve it again with: mlops serve {workload.name}@champion --port {port}")


def _free(port: int) -> int:
    """Return the port, or 0 (any) if it is in use: the command must not train for minutes and then fail on that."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port
