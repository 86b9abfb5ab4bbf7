"""Builds the documentation site into outputs/docs/site, which can be read offline: `make site`.

It runs in the environment of requirements/docs.txt, and takes the scripts that a page needs from the archives that npm
packed there. The pages are those of docs; a file elsewhere in the repository that one of them links to becomes a page, too.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TARGET = ROOT / "outputs" / "docs"
PAGES, SITE = TARGET / "pages", TARGET / "site"
# Files that pages load besides the theme: package, file in its archive, and name in the site.
SCRIPTS = (
    ("mermaid", "package/dist/mermaid.min.js", "assets/mermaid.js"),
    ("iframe-worker", "package/shim/index.js", "assets/iframe-worker.js"),
)
REFERENCE = ("cli.md", "configuration.md", "lint_rules.md", "architecture.md", "contributing.md")
STYLE = """\
.md-grid { max-width: 76rem; }
.md-typeset img { max-width: min(100%, 46rem); border-radius: .3rem; }
.md-typeset table:not([class]) { font-size: .7rem; }
.md-typeset table:not([class]) th { min-width: 0; }
.md-typeset td:first-child code { white-space: nowrap; }
"""
_PICTURES = {".png", ".svg", ".jpg", ".gif"}
_FENCE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\(|\b(?:src|srcset|href)=\")([^)\s\"]+)")
_CODE = re.compile(r"`[^`\n]+`")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_ITEM = re.compile(r"(?:[-*]|\d+\.) ")
# The theme loads these only for features that the site does not use.
_UNUSED = re.compile(r"https://(?:unpkg\.com|cdn\.jsdelivr\.net|api\.github\.com)/[^\"`]*")
_MERMAID = '"https://unpkg.com/mermaid@12/dist/mermaid.min.js"'


class PageSources:
    """Copies pages, and whatever they link to, to the sources of the site; ``dead`` lists the links that lead nowhere."""

    def __init__(self) -> None:
        self._done: set[Path] = set()
        self.dead: list[str] = []

    def add(self, path: Path) -> Path:
        """Copy a file or folder of the repository, unless that is done.

        Returns:
            Its place below the pages.
        """
        place = _place(path)
        if path in self._done:
            return place
        self._done.add(path)
        target = PAGES / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(self._page(path, path.read_text(encoding="utf-8")), encoding="utf-8")
        elif path.suffix == ".ipynb":
            target.write_text(self._notebook(path, target), encoding="utf-8")
        elif path.suffix in _PICTURES:
            shutil.copyfile(path, target)
        elif path.is_dir():
            names = sorted(f"{item.name}/" if item.is_dir() else item.name for item in path.iterdir())
            title = f"# {path.relative_to(ROOT)}\n\nFolder of the repository.\n\n"
            target.write_text(title + "".join(f"- `{name}`\n" for name in names), encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8").rstrip()
            language = {".yml": "yaml", ".yaml": "yaml", ".py": "python", ".toml": "toml"}.get(path.suffix, "text")
            target.write_text(f"# {path.relative_to(ROOT)}\n\n````{language}\n{text}\n````\n", encoding="utf-8")
        return place

    def _page(self, path: Path, text: str) -> str:
        """Return a page with its links as on the site."""

        def link(match: re.Match[str]) -> str:
            address, _, anchor = match[2].partition("#")
            if not address or re.match(r"[a-z]+:", address):
                return match[0]
            found = Path(os.path.normpath(path.parent / address))
            if not found.exists() or not found.is_relative_to(ROOT):
                self.dead.append(f"error: {path.relative_to(ROOT)} links to {address}, which does not exist")
                return match[0]
            place = self.add(found)
            return match[1] + os.path.relpath(place, _place(path).parent) + (f"#{anchor}" if anchor else "")

        def prose(text: str) -> str:
            return _outside(_CODE, _breaks_before_lists(text), lambda part: _LINK.sub(link, part))

        return _outside(_FENCE, text, prose)

    def _notebook(self, path: Path, target: Path) -> str:
        """Return a notebook as a document, with the outputs of its cells; write its pictures beside the page."""
        parts: list[str] = []
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            source = "".join(cell["source"])
            parts.append(self._page(path, source) if cell["cell_type"] == "markdown" else f"````python\n{source}\n````")
            for position, output in enumerate(cell.get("outputs", ())):
                shown = {kind: "".join(data) for kind, data in output.get("data", {}).items()}
                text = "".join(output.get("text", ())) or shown.get("text/plain", "")
                if found := next((kind for kind in ("image/png", "image/svg+xml") if kind in shown), ""):
                    picture = target.with_name(f"{path.stem}_{number}_{position}.{found[6:9]}")
                    content = shown[found].encode()
                    picture.write_bytes(base64.b64decode(content) if found == "image/png" else content)
                    parts.append(f'<img src="{picture.name}" alt="{html.escape(text)}">')
                elif text:
                    parts.append(f"````\n{_COLOUR.sub('', text).rstrip()}\n````")
        return "\n\n".join(parts) + "\n"


def _place(path: Path) -> Path:
    """Return the place of a file's page: documents as in docs, everything else below ``repository``."""
    if path.is_relative_to(DOCS) and (path.suffix == ".md" or path.suffix in _PICTURES):
        return path.relative_to(DOCS)
    # Zensical ignores hidden files.
    place = Path("repository", *(part.lstrip(".") for part in path.relative_to(ROOT).parts))
    if path.is_dir():
        return place / "index.md"
    return place if path.suffix == ".md" or path.suffix in _PICTURES else place.with_name(f"{place.name}.md")


def _outside(code: re.Pattern[str], text: str, change: Callable[[str], str]) -> str:
    """Change a text except for the code in it."""
    parts, end = [], 0
    for match in code.finditer(text):
        parts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(text[end:])])


def _breaks_before_lists(text: str) -> str:
    """Put an empty line before a list that follows a paragraph: Python-Markdown needs it, but GitHub does not."""
    lines: list[str] = []
    for line in text.split("\n"):
        before = lines[-1] if lines else ""
        if _ITEM.match(line) and before.strip() and not _ITEM.match(before) and not before.startswith(" "):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def title(path: Path) -> str:
    """Return the first heading of a document, as the navigation shows it."""
    found = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        sys.exit(f"error: {path.relative_to(ROOT)} has no heading of the first level (# ...)")
    return re.sub(r"[`*]", "", found[1])


def navigation() -> str:
    """Return a nested list: the sections of the first page with the documents that each links to, then everything else.

    A section begins with a heading of the second level, or with a paragraph whose first words are bold.
    """
    listed: set[Path] = set()

    def entries(paths: list[Path]) -> list[str]:
        new = [path for path in dict.fromkeys(paths) if path not in listed]
        listed.update(new)
        return [f"    - [{title(path)}]({_place(path)})" for path in new]

    first = DOCS / "index.md"
    lines = [f"- [{title(first)}](index.md)"]
    listed.add(first)
    reference = [DOCS / name for name in REFERENCE]
    sections: list[tuple[str, list[Path]]] = []
    parts = re.split(r"^(?:## (.+)|\*\*(.+?)\.?\*\*)", first.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for heading, bold, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        links = [(DOCS / link).resolve() for link in re.findall(r"\]\(([\w./]+\.md)[)#]", text)]
        sections.append((heading or bold, [link for link in links if link not in reference]))
    sections += [
        ("More guides", sorted((DOCS / "how_to").glob("*.md"))),
        ("Reference", [*reference, *sorted(DOCS.glob("*.md"))]),
        ("Measurements", sorted((DOCS / "benchmarks").glob("*.md"))),
        ("Decisions", sorted((DOCS / "decisions").glob("*.md"))),
    ]
    merged: dict[str, list[str]] = {}
    for heading, paths in sections:
        merged.setdefault(heading, []).extend(entries(paths))
    for heading, found in merged.items():
        lines += [f"- {heading}", *found] if found else []
    return "\n".join(lines) + "\n"


def _add_scripts(archives: Path) -> None:
    for package, member, name in SCRIPTS:
        (archive,) = archives.glob(f"{package}-*.tgz")
        with tarfile.open(archive) as content:
            script = content.extractfile(member)
            if script is None:
                sys.exit(f"error: {archive} has no {member}")
            target = PAGES / name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(script.read())


def _take_addresses_out() -> None:
    """Make the theme load diagrams from the site, and nothing from elsewhere."""
    (bundle,) = (SITE / "assets" / "javascripts").glob("bundle.*.min.js")
    text = bundle.read_text(encoding="utf-8")
    if text.count(_MERMAID) != 1:
        sys.exit(
            f"error: {bundle.name} does not load {_MERMAID}: adapt docs/documentation_site.py to this version of zensical"
        )
    here = 'new URL("../mermaid.js",document.querySelector("script[src*=\'/bundle.\']").src).href'
    bundle.write_text(_UNUSED.sub("", text.replace(_MERMAID, here)), encoding="utf-8")


def main() -> None:
    """Build the site, or end with an error; the previous site is then gone."""
    shutil.rmtree(TARGET, ignore_errors=True)
    sources = PageSources()
    for path in sorted(DOCS.rglob("*.md")):
        sources.add(path)
    if sources.dead:
        sys.exit("\n".join(sources.dead))
    (PAGES / "SUMMARY.md").write_text(navigation(), encoding="utf-8")
    _add_scripts(Path(sys.prefix))
    (PAGES / "assets" / "site.css").write_text(STYLE, encoding="utf-8")
    shutil.copyfile(DOCS / "zensical.toml", TARGET / "zensical.toml")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(
        command, cwd=TARGET, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if built.returncode:
        shutil.rmtree(SITE, ignore_errors=True)
        told = _COLOUR.sub("", built.stdout).partition("Traceback")[0].strip()
        sys.exit(f"{told}\nerror: the site is not built\n  -> fix what is listed above, and run `make site`")
    _take_addresses_out()
    sys.stdout.write(f"{SITE.relative_to(ROOT)}/index.html\n")


if __name__ == "__main__":
    main()
