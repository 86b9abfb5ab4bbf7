"""The report of a check: one page with thumbnails that needs nothing else, and everything as JSON."""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from string import Template

from PIL import Image

from vision_mlops.core.errors import DataError, ImageError, Severity
from vision_mlops.core.files import atomic_folder
from vision_mlops.core.text import as_html, counted
from vision_mlops.data.check.dataset_check import CheckResult
from vision_mlops.data.check.dataset_findings import KINDS, DatasetFinding, ImageFile, by_kind, by_severity
from vision_mlops.data.manifest import UNSPLIT
from vision_mlops.images.decoding import open_reduced

PAGE = "report.html"
DATA = "report.json"
_TEMPLATE = Path(__file__).with_name("check_report.html")

_EDGE = 160  # of a thumbnail, in pixels
_THUMBNAILS = 300
_THUMBNAIL_BYTES = 6_000_000  # of all, encoded
_GROUPS = 12  # shown of a kind whose findings are about several files
_SINGLES = 18
_MEMBERS = 6  # shown of one group
_LINES = 40
_CLASSES = 40
_GROUPED = ("conflict", "leak", "exact-duplicate", "near-duplicate")


def check_target(out: Path, root: Path) -> None:
    """Refuse a folder that contains anything but an older report, or that overlaps the images.

    Raises:
        DataError: names it.
    """
    target = out.resolve()
    if target == root or root in target.parents or target in root.parents:
        raise DataError(f"{out} overlaps the images in {root}", "choose an --out outside of it")
    existing = next(path for path in (target, *target.parents) if path.exists())
    if not existing.is_dir():
        raise DataError(f"{existing} is a file", "choose another --out")
    if target.is_dir() and {path.name for path in target.iterdir()} - {PAGE, DATA}:
        raise DataError(f"{out} is not empty and contains more than a report", "choose another --out")


def write(result: CheckResult, out: Path) -> Path:
    """Write page and JSON to ``out``, both or none; an older report there is replaced. Returns the page."""
    check_target(out, result.listing.root)
    with atomic_folder(out, overwrite=True) as folder:
        (folder / PAGE).write_text(render(result), encoding="utf-8")
        text = json.dumps(result.to_dict(), indent=1, ensure_ascii=False)
        (folder / DATA).write_text(text + "\n", encoding="utf-8")
    return out / PAGE


def render(result: CheckResult) -> str:
    """Return the page as HTML."""
    severities = by_severity(result.findings)
    tiles = [_count_tile(len(result.listing.entries), "image", "")]
    tiles += [_count_tile(count, name, name if count else "zero") for name, count in severities.items()]
    if result.labels.accuracy is not None:
        tiles.append(_tile(f"{result.labels.accuracy:.0%}", "of the labels predicted from the other images", ""))
    thumbnails = _Thumbnails(result)
    kinds = by_kind(result.findings)
    report = result.to_dict()
    what = "prepared data" if result.listing.prepared else "images"
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(f"Check of {result.name}"),
        facts=html.escape(f"{what} in {report['folder']}, {report['created']}, {result.seconds:.0f} s"),
        tiles="".join(tiles),
        counts=_counts(result),
        summary=_summary(kinds),
        sections="".join(_section(kind, found, thumbnails) for kind, found in kinds.items()),
    )


def _tile(value: str, text: str, style: str) -> str:
    return f'<div class="tile {style}"><b>{html.escape(value)}</b><span>{html.escape(text)}</span></div>'


def _count_tile(count: int, noun: str, style: str) -> str:
    number, _, text = counted(count, noun).partition(" ")
    return _tile(number, text, style)


def _counts(result: CheckResult) -> str:
    splits = result.listing.splits or [UNSPLIT]
    totals = {label: sum(of.values()) for label, of in result.counts.items()}
    largest = max([*totals.values(), 1])
    head = "".join(f"<th class=n>{split}</th>" for split in splits)
    rows = []
    for label in sorted(totals, key=lambda name: -totals[name])[:_CLASSES]:
        cells = "".join(f"<td class=n>{result.counts[label][split]:,}</td>" for split in splits)
        share = 100 * totals[label] / largest
        rows.append(f'<tr><td>{as_html(label)}</td>{cells}<td class=bar><i style="width:{share:.1f}%"></i></td></tr>')
    return f"<table><tr><th>class</th>{head}<th></th></tr>{''.join(rows)}</table>" + _more(
        len(totals) - _CLASSES, "class"
    )


def _summary(kinds: dict[str, list[DatasetFinding]]) -> str:
    if not kinds:
        return "<p>Nothing was found.</p>"
    rows = (
        f'<tr><td><a href="#{kind}">{KINDS[kind].title}</a></td><td>{_badge(found[0].level)}</td>'
        f"<td class=n>{len(found):,}</td></tr>"
        for kind, found in kinds.items()
    )
    return f"<table><tr><th>kind</th><th></th><th class=n>findings</th></tr>{''.join(rows)}</table>"


def _badge(severity: Severity) -> str:
    return f'<span class="badge {severity.value}">{severity.value}</span>'


def _section(kind: str, found: list[DatasetFinding], thumbnails: _Thumbnails) -> str:
    description = KINDS[kind]
    head = (
        f'<h2 id="{kind}">{description.title} {_badge(found[0].level)}</h2><p class="remedy">{description.remedy}</p>'
    )
    if kind in _GROUPED:
        body = f'<div class="groups">{"".join(_group(item, thumbnails) for item in found[:_GROUPS])}</div>'
        return head + body + _more(len(found) - _GROUPS, "group")
    if all(len(item.files) == 1 and thumbnails.exists(item.files[0]) for item in found):
        body = f'<div class="cards">{"".join(_single(item, thumbnails) for item in found[:_SINGLES])}</div>'
        return head + body + _more(len(found) - _SINGLES, "file")
    lines = "".join(f"<li>{html.escape(item.message)}</li>" for item in found[:_LINES])
    files = [file for item in found for file in item.files if thumbnails.exists(file)]
    pictures = "".join(_figure(file, thumbnails) for file in files[:_MEMBERS])
    return f'{head}<ul>{lines}</ul><div class="cards">{pictures}</div>' + _more(len(found) - _LINES, "finding")


def _more(count: int, what: str) -> str:
    return f'<p class="more">and {counted(count, f"more {what}")}: the full list is in {DATA}</p>' if count > 0 else ""


def _group(finding: DatasetFinding, thumbnails: _Thumbnails) -> str:
    files = _spread(finding.files)
    pictures = "".join(_figure(file, thumbnails) for file in files)
    match = "exact copies" if finding.details.get("match") == "exact" else "look the same"
    text = f"{counted(len(finding.files), 'file')}, {match} {_badge(finding.level)}"
    return (
        f'<div class="group"><p>{text}</p><div class="pictures">{pictures}</div>'
        f"{_more(len(finding.files) - len(files), 'copy')}</div>"
    )


def _spread(files: tuple[ImageFile, ...]) -> list[ImageFile]:
    """Choose the files of a group to show: first one of each class and split, since that is what the finding is about."""
    first: dict[tuple[str, str], ImageFile] = {}
    for file in files:
        first.setdefault((file.label, file.split), file)
    rest = [file for file in files[: 2 * _MEMBERS] if file not in first.values()]
    return [*first.values(), *rest][:_MEMBERS]


def _single(finding: DatasetFinding, thumbnails: _Thumbnails) -> str:
    file = finding.files[0]
    if finding.kind == "label-error":
        details = finding.details
        note = (
            f'<span class="tag bad">{html.escape(details["given"])}</span>'
            f'<span class="tag good">{html.escape(details["suggested"])} {details["confidence"]:.0%}</span>'
        )
        return _figure(file, thumbnails, note, label=False)
    # The caption has the path already.
    message = finding.message.removeprefix(f"{file.path}: ")
    return _figure(file, thumbnails, f"<small>{html.escape(message)}</small>")


def _figure(file: ImageFile, thumbnails: _Thumbnails, note: str = "", *, label: bool = True) -> str:
    tags = f'<span class="tag">{html.escape(file.label)}</span>' if label and file.label else ""
    tags += f'<span class="tag split">{html.escape(file.split)}</span>' if file.split else ""
    name = html.escape(file.path)
    lines = "<br>".join(part for part in (name, tags, note, f"<small>{thumbnails.size(file)}</small>") if part)
    return f"<figure>{thumbnails.picture(file)}<figcaption>{lines}</figcaption></figure>"


class _Thumbnails:
    """Pictures of the files that are shown, each made once, bounded in number and in bytes."""

    def __init__(self, result: CheckResult) -> None:
        self._result = result
        self._made: dict[int, str] = {}
        self._bytes = 0

    def size(self, file: ImageFile) -> str:
        """Return width and height in pixels, as text; empty if they are not known."""
        look = self._result.looks[file.index] if file.index >= 0 else None
        return f"{look.width} x {look.height}" if look is not None and look.width else ""

    def exists(self, file: ImageFile) -> bool:
        """Return whether there is a picture to show: the file was there and could be decoded."""
        return file.index >= 0 and not self._result.looks[file.index].reason

    def picture(self, file: ImageFile) -> str:
        """Return the picture of a file, or why there is none."""
        if not self.exists(file):
            return '<div class="missing">no picture</div>'
        if file.index not in self._made:
            if len(self._made) >= _THUMBNAILS or self._bytes > _THUMBNAIL_BYTES:
                return '<div class="missing">not shown</div>'
            self._made[file.index] = self._make(file.place)
            self._bytes += len(self._made[file.index])
        source = self._made[file.index]
        name = html.escape(file.path)
        return f'<img alt="{name}" src="{source}">' if source else '<div class="missing">no longer there</div>'

    @staticmethod
    def _make(path: Path) -> str:
        try:
            image, _ = open_reduced(path.read_bytes(), _EDGE, name=path.name)
        except (OSError, ImageError):  # it was there and whole when it was checked
            return ""
        image.thumbnail((_EDGE, _EDGE), Image.Resampling.BOX)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=80)
        return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def lines(result: CheckResult) -> Iterable[dict[str, object]]:
    """Return the summary for a terminal: a row for each kind and severity that was found."""
    for kind, of_kind in by_kind(result.findings).items():
        for level, group in itertools.groupby(of_kind, key=lambda finding: finding.level):
            found = list(group)
            files = len({file.path for finding in found for file in finding.files})
            yield {"severity": level.value, "kind": kind, "findings": len(found), "files": files or "",
                   "first": found[0].message}  # fmt: skip
