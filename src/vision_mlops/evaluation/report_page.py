"""The page that all reports share: one HTML file with its style inside, readable without a network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from string import Template

from vision_mlops.core.text import as_html

_FRAME = Path(__file__).with_name("report_page.html")


def render_page(template: Path, **parts: str) -> str:
    """Fill in the template of a report and frame it.

    Args:
        template: Style and content of the report.
        parts: HTML of its placeholders, ``title`` among them.
    """
    content = Template(template.read_text(encoding="utf-8")).substitute(parts)
    return Template(_FRAME.read_text(encoding="utf-8")).substitute(title=parts["title"], content=content)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in HTML that scrolls in a narrow window; its cells are text, which is escaped."""
    header = "".join(f"<th>{as_html(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{as_html(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><tr>{header}</tr>{body}</table></div>"
