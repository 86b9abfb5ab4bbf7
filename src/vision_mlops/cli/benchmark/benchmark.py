"""``mlops benchmark``: the group of commands, and those that run a benchmark and show its results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.benchmark import clean, exchange
from vision_mlops.cli.benchmark.benchmark_choice import PricesOption, benchmark_name, prepared_data
from vision_mlops.cli.options import (
    DEFAULT_WORKLOAD,
    ChosenWorkloadOption,
    ImagesOption,
    JsonOption,
    SetOption,
    WorkloadOption,
)
from vision_mlops.cli.output import emit_json, emit_table, fail, say, warn, width
from vision_mlops.core.text import counted

if TYPE_CHECKING:
    from vision_mlops.benchmark.standings import Standings

_FULL = 150
"""Columns of a terminal that fit the whole table; a narrower one shows the most important, and the report all of them."""
_NARROW = ("contestant", "accuracy", "95% interval", "ms per image", "training", "against ours")

app = typer.Typer(no_args_is_help=True)
app.command("export")(exchange.export)
app.command("import")(exchange.import_)
app.command("clean")(clean.clean)

OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        dir_okay=False,
        help="HTML file to write the report to.",
        show_default="outputs/benchmarks/WORKLOAD/report.html",
    ),
]


@app.command("run")
def run(
    workload: ChosenWorkloadOption = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="NAME",
            help="Contestant to run: a name, or `module:Class` of your own. Repeatable.",
            show_default="ours, linear-probe, knn, from-scratch",
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Use this prepared data.")] = None,
    images: ImagesOption = None,
    set_: SetOption = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Train again; what a contestant created in a service before is removed first."),
    ] = False,
    out: OutOption = None,
    prices: PricesOption = None,
    json_: JsonOption = False,
) -> None:
    """Train contestants on a workload's training images, judge them on its test images, and write a report.

    A result is reused as long as data, settings and the contestant's code are unchanged. Finished results are kept when
    another contestant fails or the command is interrupted. `custom-vision` and `automl-images` use services of Azure, which
    cost money.

    Exit code 1 if a contestant failed; the others are in the table. Exit code 2 if none could run because of wrong settings.

    Example: `mlops benchmark run --workload textile`, or `mlops benchmark run -w textile --with knn --with mine:Mine`
    """
    from vision_mlops.benchmark.arena import Arena
    from vision_mlops.benchmark.benchmark_report import write_report
    from vision_mlops.benchmark.benchmark_tracking import log_new_results
    from vision_mlops.benchmark.contestants import find_contestants
    from vision_mlops.benchmark.service_prices import load_prices
    from vision_mlops.benchmark.standings import standings

    table = load_prices(prices)
    entries = find_contestants(with_ or [])
    loaded, folder = prepared_data(workload, data, images, set_ or ())
    arena = Arena(loaded, folder, say)
    try:
        ended = arena.run(entries, again=again)
    except KeyboardInterrupt:
        words = "the same command, without --again," if again else "the same command"
        say(f"finished contestants are kept: {words} continues with the others")
        raise
    if len(ended.refused) == len(entries):
        raise ended.refused[0]
    found = standings(arena.folder, table, ended.manifest.fingerprint)
    report = write_report(found, out or arena.folder.report, loaded.gate.significance) if found.rows else None
    _show(found, report, loaded.gate.significance, as_json=json_, failed=ended.failed)
    if report:
        log_new_results(found, arena.folder, report, say, warn)
    if ended.failed:
        fail(f"{counted(len(ended.failed), 'contestant')} failed: {', '.join(ended.failed)}; see the reasons above")
        raise typer.Exit(1)


@app.command("report")
def report(
    workload: WorkloadOption = DEFAULT_WORKLOAD,
    out: OutOption = None,
    prices: PricesOption = None,
    json_: JsonOption = False,
) -> None:
    """Show the existing results, and write the report; nothing is trained.

    The results are those of the same data as the newest one. Results of other data are named.

    Example: `mlops benchmark report --workload textile --out benchmark.html`
    """
    from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
    from vision_mlops.benchmark.benchmark_report import write_report
    from vision_mlops.benchmark.service_prices import load_prices
    from vision_mlops.benchmark.standings import standings

    name, significance = benchmark_name(workload)
    folder = BenchmarkFolder(name)
    found = standings(folder, load_prices(prices))
    written = write_report(found, out or folder.report, significance)
    _show(found, written, significance, as_json=json_, failed={})


def _show(found: Standings, report: Path | None, significance: float, *, as_json: bool, failed: dict[str, str]) -> None:
    from vision_mlops.benchmark.benchmark_report import cells, notes

    if as_json:
        emit_json({**found.to_dict(), "failed": failed, "report": str(report) if report else None})
        return
    rows = [{"contestant": row.result.name, **cells(row, found.prices.currency, significance)} for row in found.rows]
    if width(_FULL) < _FULL:
        rows = [{key: row[key] for key in _NARROW} for row in rows]
    emit_table(rows, as_json=False, empty="no results")
    for note in notes(found):
        say(f"note: {note}")
    if report:
        say(f"report: {report}")
