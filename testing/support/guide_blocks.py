"""The code blocks of the guides and the README: what each is, by its language and its title.

A block of ``bash`` is for a shell. Its title says where it runs:

- none: in the folder of the reader's project;
- ``In another terminal``: the same, and it goes on running until the guide has ended;
- ``On Azure``: with the variables of a subscription, or of the emulator;
- ``Needs Azure``, ``Needs Docker`` and ``Needs conda``: where something is needed that neither this machine nor the
  emulator has;
- ``Installation``: on a machine that has nothing yet.

Any other language with a title is a file of that name. A block without a language is output or a tree of files.

GitHub does not show titles, so the paragraph before a block names the file, or the other terminal, as well.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testing.support.azure_pipelines.script_lines import mlops_problems, with_included
from testing.support.recording_az import RefusedError, parse

ROOT = Path(__file__).resolve().parents[2]

HERE, BESIDE, ON_AZURE, INSTALLATION = "", "In another terminal", "On Azure", "Installation"
NEEDED = ("Needs Azure", "Needs Docker", "Needs conda")
TITLES = (HERE, BESIDE, ON_AZURE, INSTALLATION, *NEEDED)

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_INFO = re.compile(r'(?P<language>[\w+-]*)(?: title="(?P<title>[^"]+)")?')
_SHELLS = ("sh", "shell", "console", "zsh", "powershell", "text")
_COMMAND = re.compile(
    r"^(?:\$ )?(?:[A-Z_]+=\S+ )*"
    r"(mlops|az|make|pip|docker|podman|git|curl|export|eval|source|cd|python|torchrun|kubectl)(?: |$)",
    re.MULTILINE,
)
_INSTALLING = ("git clone ", "cd ", "make ", "pip install ", "python3.11 -m venv ", ". .venv", "mlops init ")
_EXTENSIONS = ("ml",)
"""Commands of extensions, which ``az_syntax.json`` does not know."""
_TARGET = re.compile(r"^make ([\w-]+)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document.

    ``line`` is the first line of its text, ``before`` the paragraph that leads to it, empty right after another block.
    """

    document: Path
    line: int
    language: str
    title: str
    text: str
    before: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"

    @property
    def shell(self) -> bool:
        """Whether it holds commands."""
        return self.language == "bash"

    @property
    def commands(self) -> list[str]:
        """Its lines, joined where one ends with a backslash, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]

    @property
    def unseen(self) -> str:
        """What its title says and the paragraph before it does not: a file or the other terminal; empty if nothing."""
        if self.shell:
            return "another terminal" if self.title == BESIDE and "another terminal" not in self.before else ""
        return self.title if self.title and f"`{self.title}`" not in self.before else ""

    def problems(self) -> Iterator[str]:
        """How it breaks the convention."""
        if self.language in _SHELLS:
            yield f"{self}: write bash for commands and no language for output, not {self.language}"
        if not self.language and (found := _COMMAND.search(self.text)):
            yield f"{self}: `{found[0].strip()} ...` is a command: a block of commands is bash"
        if self.shell and self.title not in TITLES:
            yield f"{self}: unknown title {self.title!r}; there are {', '.join(filter(None, TITLES))}"
        if self.unseen:
            yield f"{self}: GitHub does not show titles: the paragraph before it has to name {self.unseen}"
        if self.shell and self.title == INSTALLATION:
            for line in self.commands:
                if not line.startswith(_INSTALLING):
                    yield f"{self}: an installation does not begin with {line!r}"
        if self.shell and self.title in (INSTALLATION, *NEEDED):
            yield from self.word_problems()

    def word_problems(self) -> Iterator[str]:
        """Commands and options of ``mlops``, ``az`` and ``make`` that do not exist."""
        for line in self.commands:
            if found := _TARGET.match(line):
                if not re.search(rf"^{found[1]}:", with_included(ROOT / "Makefile"), re.MULTILINE):
                    yield f"{self}: the Makefile has no target {found[1]!r}"
                continue
            words = [word for word in shlex.split(line, comments=True) if not re.fullmatch(r"[A-Z_]+=.*", word)]
            if words[:1] == ["mlops"]:
                yield from (f"{self}: {problem}: {line}" for problem in mlops_problems(tuple(words[1:])))
            elif words[:1] == ["az"] and words[1] not in _EXTENSIONS:
                try:
                    parse(words[1:])
                except RefusedError as error:
                    yield f"{self}: {error}: {line}"


def blocks_of(document: Path) -> list[Block]:
    """All fenced blocks of a document, in order.

    Raises:
        ValueError: the line that opens a block is not understood, or a block does not end.
    """
    text = document.read_text(encoding="utf-8")
    found: list[Block] = []
    end = 0
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        info = _INFO.fullmatch(match["info"])
        if info is None:
            raise ValueError(f"{document.name}:{line - 1}: cannot read ```{match['info']}")
        indent = re.compile(rf"^{match['indent']}", re.MULTILINE)
        before = text[end : match.start()].rstrip().rpartition("\n\n")[2]
        end = match.end()
        found.append(
            Block(document, line, info["language"], info["title"] or "", indent.sub("", match["text"]), before)
        )
    if text.count("```") != 2 * len(found):
        raise ValueError(f"{document.name}: a block does not end, or is indented other than its end")
    return found


def without_blocks(document: Path) -> str:
    """The text of a document outside its fenced blocks."""
    return _FENCE.sub("", document.read_text(encoding="utf-8"))


def anchors(document: Path) -> set[str]:
    """What a link may name behind ``#``, as GitHub and Python-Markdown make it of headings."""
    made = set()
    for heading in _HEADING.findall(without_blocks(document)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        made.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return made


def broken_links(document: Path) -> Iterator[str]:
    """Links of a document to files or headings that do not exist."""
    for target, anchor in _LINK.findall(without_blocks(document)):
        path = (document.parent / target).resolve() if target else document
        if not path.exists():
            yield f"{document.name}: {target} does not exist"
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            yield f"{document.name}: {target or 'it'} has no heading #{anchor}"
