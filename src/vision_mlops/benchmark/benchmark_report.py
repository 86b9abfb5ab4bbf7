"""The report of a benchmark: one HTML file with the table, the picture and the prices, readable without a network."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vision_mlops.benchmark.standings import StandingRow, Standings
from vision_mlops.core.figures import FigureWords, Picture
from vision_mlops.core.files import atomic_write
from vision_mlops.core.text import as_html, counted
from vision_mlops.evaluation.report_page import render_page, table
from vision_mlops.storage.transfer_summary import size_text

_TEMPLATE = Path(__file__).with_name("benchmark_report.html")
_UNKNOWN = "unknown"
_SMALLEST = 0.0001
"""Less than this is as good as nothing."""


def write_report(found: Standings, path: Path, significance: float) -> Path:
    """Write the report.

    Args:
        found: The table; it has at least one result.
        path: The file.
        significance: Level of the paired test.
    """
    results, currency = found.results, found.prices.currency
    titles = [item.title if item.title == item.name else f"{item.title} ({item.name})" for item in results]
    rows = [
        {"contestant": title, **cells(row, currency, significance)}
        for title, row in zip(titles, found.rows, strict=True)
    ]
    against = (
        " Against ours: how many images only this contestant and only ours classified correctly, with McNemar's exact"
        f" test at the level {significance:g}."
    )
    page = render_page(
        _TEMPLATE,
        title=html.escape(f"Benchmark of {found.workload}"),
        about=as_html(
            "All contestants learned the same images and were judged on the same"
            f" {counted(results[0].metrics['images'], 'test image')} (data {found.fingerprint[:12]})."
            + (against if any(row.against_ours for row in found.rows) else "")
        ),
        contestants=table(rows[0], (row.values() for row in rows)),
        notes="".join(f"<p>{as_html(note)}</p>" for note in notes(found)),
        plot=f"data:image/svg+xml;base64,{base64.b64encode(draw(found).svg.encode()).decode()}",
        costs=as_html(
            f"Costs are estimates. Time on your own machine is priced at the hourly rate of a {found.prices.machine}, one"
            " image at a time; services are priced by usage. Free allowances are not deducted."
        ),
        prices=table(
            ("price", currency, "date", "note", "free", "source"),
            (
                (key, f"{price.amount:g}", str(price.date), price.note, price.free, price.source)
                for key, price in found.prices.used_by(results).items()
            ),
        ),
    )  # fmt: skip
    atomic_write(path, page)
    return path


def cells(row: StandingRow, currency: str, significance: float) -> dict[str, str]:
    """Return a row of the table in words, by column."""
    result = row.result
    low, high = result.metrics["accuracy_interval"]
    compared = row.against_ours
    when = f"recorded on {result.recorded}" if result.recorded else result.measured[:10]
    return {
        "accuracy": f"{result.metrics['accuracy']:.4f}",
        "95% interval": f"{low:.3f} to {high:.3f}",
        "macro F1": f"{result.metrics['macro_f1']:.4f}",
        "calibration error": f"{result.metrics['expected_calibration_error']:.4f}",
        "ms per image": f"{result.latency_ms.median:.1f}" + (" (round trip)" if result.hosted else ""),
        "training": _UNKNOWN if result.training_seconds is None else f"{result.training_seconds:.0f} s",
        "size": _UNKNOWN if result.size_bytes is None else size_text(result.size_bytes),
        f"{currency} training": _money(row.training_cost),
        f"{currency} 1,000 predictions": _money(row.cost_per_1000),
        "against ours": ("other settings" if row.other_settings else "") if compared is None
        else f"{compared.verdict(significance)} ({compared.only_it}:{compared.only_ours}, p = {compared.p_value:.2g})",
        "measured": when,
    }  # fmt: skip


def _money(amount: float | None) -> str:
    if amount is None:
        return _UNKNOWN
    if 0 < amount < _SMALLEST:
        return f"< {_SMALLEST:f}".rstrip("0")
    return f"{amount:,.2f}" if amount >= 1 else str(np.format_float_positional(amount, 2, fractional=False, trim="-"))


def notes(found: Standings) -> Iterator[str]:
    """Return notes that readers need besides the numbers."""
    for result in found.results:
        if result.remark:
            yield f"{result.title}: {result.remark}"
    for result in found.results:
        if result.recorded:
            yield (
                f"{result.title}: recorded on {result.recorded} on another machine ({result.machine}), where its times were"
                " measured; nothing about it was measured here."
            )
    for row in found.rows:
        if row.other_settings:
            yield (
                f"{row.result.title}: measured with other settings and not compared: {row.other_settings}. Run the"
                " benchmark with the same settings for both to compare them."
            )
    for name, why in found.left_out.items():
        yield f"{name} is not in the table: {why}"
    for key in found.unknown_prices():
        yield f"No price is known for {key}: costs that depend on it are unknown."


def draw(found: Standings) -> Picture:
    """Draw accuracy with its interval over the time of an image, a mark for each contestant."""
    # Not imported with the module: it writes a list of fonts to the cache, and a command may still be refused.
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    words = FigureWords()
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    for row in found.rows:
        result = row.result
        accuracy, (low, high) = result.metrics["accuracy"], result.metrics["accuracy_interval"]
        errors = [[max(0.0, accuracy - low)], [max(0.0, high - accuracy)]]
        marker = "s" if result.hosted else "o"
        label = words.stand_in(result.name)
        axes.errorbar([max(result.latency_ms.median, 1e-3)], [accuracy], errors, fmt=marker, capsize=3, label=label)
    axes.set(xlabel="ms per image (logarithmic)", ylabel="accuracy, 95% interval", xscale="log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(StrMethodFormatter("{x:g}"))
    figure.legend(loc="outside right upper", fontsize="small")
    return Picture(words.svg(figure))
