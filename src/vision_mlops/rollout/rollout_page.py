"""The report of a rollout as a page: the decision, both versions, and the traffic over time. It needs no network."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vision_mlops.core.figures import Picture
from vision_mlops.core.text import counted
from vision_mlops.evaluation.report_page import render_page, table

_TEMPLATE = Path(__file__).with_name("rollout_page.html")
_LEFT, _TOP, _WIDTH, _HEIGHT = 48.0, 12.0, 900.0, 160.0
WHO = ("candidate", "champion")
_LOOKS = {
    "candidate": 'fill="#2f6fdc" fill-opacity="0.6"',
    "champion": 'fill="#888" fill-opacity="0.27"',
    "copies": 'fill="none" stroke="#9a6700" stroke-width="2" stroke-dasharray="5 3"',
    "grid": 'stroke="#888" stroke-opacity="0.5"',
}
"""Attributes for the parts of a chart that has no style sheet."""


def render(content: Mapping[str, Any]) -> str:
    """Return the page of a report.

    Args:
        content: Content of ``report.json``.
    """
    outcome = str(content["outcome"])
    steps = (
        (_moment(step["began"]), step["what"], step["verdict"] or "not judged", "; ".join(step["reasons"]),
         *_counts(step.get("figures")))
        for step in content["steps"]
    )  # fmt: skip
    return render_page(
        _TEMPLATE,
        title=html.escape(f"Rollout at {content['endpoint']} ({content['target']})"),
        outcome=html.escape(outcome),
        style=html.escape(outcome.replace(" ", "-")),
        reasons=_list(content["reasons"]),
        versions=table(("", "deployment", "model", "accuracy", "verdict of the gate"), _versions(content)),
        chart=_chart(content),
        traffic=table(("from", "candidate", "champion", "copies to the candidate"), _rows(content)),
        steps=table(
            ("began", "step", "judgement", "reasons", "candidate", "champion", "labelled differently"), steps
        ),
        rest=_rest(content),
    )  # fmt: skip


def draw_traffic(content: Mapping[str, Any]) -> Picture:
    """Return the traffic over time as a picture that stands alone: the candidate's share, and copies as a broken line.

    Args:
        content: Content of ``report.json``, of a rollout that has begun.
    """
    chart = _chart(content).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    for name, look in _LOOKS.items():
        chart = chart.replace(f'class="{name}"', look)
    return Picture(chart.replace("<text", '<text font-family="sans-serif" font-size="13" fill="#777"'))


def _versions(content: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for who in WHO:
        version = content[who]
        accuracy = version.get("accuracy")
        shown = "unknown" if accuracy is None else f"{accuracy:.4f}"
        yield (
            who, version["deployment"], version["model"] or "unknown", shown, version.get("verdict") or "not judged"
        )  # fmt: skip


def _counts(figures: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if not figures:
        return "", "", ""
    mine, other = (requests(figures[who]) for who in WHO)
    return mine, other, f"{figures['disagreed']} of {counted(figures['compared'], 'image')}"


def requests(counts: Mapping[str, int]) -> str:
    """Return the numbers of requests and errors in words."""
    return f"{counted(counts['requests'], 'request')}, {counted(counts['errors'], 'error')}"


def _rows(content: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    names = [content[who]["deployment"] for who in WHO]
    for entry in content["traffic"]:
        shares = (f"{entry['traffic'].get(name, 0)}%" for name in names)
        yield _moment(entry["at"]), *shares, f"{entry['mirror'].get(names[0], 0)}%"


def _rest(content: Mapping[str, Any]) -> str:
    parts = [f"<h2>Notes</h2>{_list(content['notes'])}"] if content["notes"] else []
    if content["log"]:
        name = html.escape(content["candidate"]["deployment"])
        parts.append(f"<h2>Last lines of {name}</h2><pre>{html.escape(content['log'])}</pre>")
    return "".join(parts)


def _list(lines: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


def _chart(content: Mapping[str, Any]) -> str:
    """Draw the shares of the traffic over time, as a picture that scales."""
    entries = content["traffic"]
    if not entries:
        return "<p>The traffic is not known.</p>"
    name = content["candidate"]["deployment"]
    times = [_seconds(entry["at"]) for entry in entries]
    first, last = times[0], max(_seconds(content["updated"]), times[-1], times[0] + 1.0)
    # A share lasts until the next change, the last one until the report ends.
    spans = list(zip(times, [*times[1:], last], entries, strict=True))

    def x(seconds: float) -> float:
        return _LEFT + (seconds - first) / (last - first) * _WIDTH

    def corners(kind: str) -> str:
        found = ((at, entry[kind].get(name, 0)) for begin, end, entry in spans for at in (begin, end))
        return " ".join(f"{x(at):.1f},{_height(share):.1f}" for at, share in found)

    base, right = _height(0), _LEFT + _WIDTH
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{_height(share)}" y2="{_height(share)}"/>'
        f'<text x="{_LEFT - 6}" y="{_height(share) + 4}" text-anchor="end">{share}%</text>'
        for share in (0, 50, 100)
    )
    size, label = f"0 0 {right + 12:.0f} {base + 30:.0f}", f"Traffic over {last - first:.0f} seconds"
    return (
        f'<svg viewBox="{size}" role="img" aria-label="{label}">'
        f'<rect class="champion" x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}"/>'
        f'<polygon class="candidate" points="{_LEFT},{base} {corners("traffic")} {right},{base}"/>'
        f'<polyline class="copies" points="{corners("mirror")}"/>{grid}'
        f'<text x="{_LEFT}" y="{base + 20}">{_moment(entries[0]["at"])}</text>'
        f'<text x="{right}" y="{base + 20}" text-anchor="end">{last - first:.0f} s</text></svg>'
    )


def _height(share: float) -> float:
    return _TOP + _HEIGHT * (1 - share / 100)


def _moment(text: str) -> str:
    """Return a time of the report, in words that fit into a column."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
