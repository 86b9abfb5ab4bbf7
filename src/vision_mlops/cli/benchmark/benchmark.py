"""``mlops benchmark``: the commands, and those that train and judge, and show what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.benchmark import clean, exchange
from vision_mlops.cli.benchmark.benchmark_choice import PricesOption, benchmark_name, prepared_data, report_file
from vision_mlops.cli.jobs.run import ImagesOption
from vision_mlops.cli.options import DEFAULT_WORKLOAD, ChosenWorkloadOption, JsonOption, SetOption, WorkloadOption
from vision_mlops.cli.output import emit_json, emit_table, fail, say, warn, width
from vision_mlops.core.errors import MissingExtraError
from vision_mlops.core.text import counted

if TYPE_CHECKING:
    from vision_mlops.benchmark.arena import Arena, BenchmarkRun
    from vision_mlops.benchmark.contestants import NamedContestant
    from vision_mlops.benchmark.standings import Standings

_FULL = 150
"""Columns of a terminal that the whole table needs; a narrower one shows the most important, and the report all."""
_NARROW = ("contestant", "accuracy", "95% interval", "ms per image", "training", "against ours")

app = typer.Typer(no_args_is_help=True, help="Compare reference models with ours on the same test images.")
app.command("export")(exchange.export)
app.command("import")(exchange.import_)
app.command("clean")(clean.clean)

OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="File of the report.", show_default="outputs/benchmarks/WORKLOAD/report.html"),
]


@app.command("run")
def run(
    workload: ChosenWorkloadOption = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="NAME",
            help="Contestant: a name, or `module:Class` of your own. Repeatable.",
            show_default="ours, linear-probe, knn, from-scratch",
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Prepared data to use instead.")] = None,
    images: ImagesOption = None,
    set_: SetOption = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Train anew; what a contestant made in a service before is removed first."),
    ] = False,
    out: OutOption = None,
    prices: PricesOption = None,
    json_: JsonOption = False,
) -> None:
    """Train contestants on a workload's training images, judge them on its test images, and write a report.

    A result is reused as long as data, settings and the contestant's code are the same. Those that are finished are kept
    when another one fails or the command is interrupted. `custom-vision` and `automl-images` use services of Azure, which
    cost money.

    Exit code 1 where a contestant failed; the others are in the table.

    Example: `mlops benchmark run --workload textile`, or `mlops benchmark run -w textile --with knn --with mine:Mine`
    """
    try:
        from vision_mlops.benchmark.arena import Arena
        from vision_mlops.benchmark.benchmark_tracking import log_new_results
        from vision_mlops.benchmark.contestants import find_contestants
        from vision_mlops.benchmark.service_prices import load_prices
        from vision_mlops.benchmark.standings import standings
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "numpy", "train") from error

    table = load_prices(prices)
    entries = find_contestants(with_ or [])
    loaded, folder = prepared_data(workload, data, images, set_ or ())
    arena = Arena(loaded, folder, say)
    target = report_file(out or arena.folder.report)
    ended = _run(arena, entries, again=again)
    found = standings(arena.folder, table, ended.manifest.fingerprint)
    report = _report(found, target, loaded.gate.significance) if found.rows else None
    _show(found, report, loaded.gate.significance, as_json=json_, failed=ended.failed)
    if report:
        log_new_results(found, arena.folder, report, say, warn)
    if ended.failed:
        fail(f"{counted(len(ended.failed), 'contestant')} failed: {', '.join(ended.failed)}; each says why above")
        raise typer.Exit(1)


@app.command("report")
def report(
    workload: WorkloadOption = DEFAULT_WORKLOAD,
    out: OutOption = None,
    prices: PricesOption = None,
    json_: JsonOption = False,
) -> None:
    """Show the results that there are, and write the report; nothing is trained.

    They are those of the data of the newest result. Results of other data are named.

    Example: `mlops benchmark report --workload textile --out benchmark.html`
    """
    from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
    from vision_mlops.benchmark.service_prices import load_prices
    from vision_mlops.benchmark.standings import standings

    name, significance = benchmark_name(workload)
    folder = BenchmarkFolder(name)
    found = standings(folder, load_prices(prices))
    written = _report(found, report_file(out or folder.report), significance)
    _show(found, written, significance, as_json=json_, failed={})


def _run(arena: Arena, entries: list[NamedContestant], *, again: bool) -> BenchmarkRun:
    try:
        return arena.run(entries, again=again)
    except KeyboardInterrupt:
        words = "the same command, without --again," if again else "the same command"
        say(f"contestants that were finished are kept: {words} goes on with the others")
        raise


def _report(found: Standings, path: Path, significance: float) -> Path:
    try:
        from vision_mlops.benchmark.benchmark_report import write_report
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "matplotlib", "train") from error
    return write_report(found, path, significance)


def _show(found: Standings, report: Path | None, significance: float, *, as_json: bool, failed: dict[str, str]) -> None:
    from vision_mlops.benchmark.benchmark_report import cells, notes

    if as_json:
        emit_json({**found.to_dict(), "failed": failed, "report": str(report) if report else None})
        return
    rows = [{"contestant": row.result.name, **cells(row, found.prices.currency, significance)} for row in found.rows]
    if width(_FULL) < _FULL:
        rows = [{key: row[key] for key in _NARROW} for row in rows]
    emit_table(rows, as_json=False, empty="there is no result")
    for note in notes(found):
        say(f"note: {note}")
    if report:
        say(f"report: {report}")
