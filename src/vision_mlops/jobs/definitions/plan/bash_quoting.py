"""Follows the quoting of a command as bash does, to put paths in so that bash has exactly these, wherever they stand.

No library does: shlex knows no here-documents, no ``$(...)`` and no ``$'...'``. Where bash itself cannot be trusted with
quotes within quotes, as in backquotes, a path is written in hexadecimal.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

_IN_QUOTES = '\\"$`'  # what a backslash in double quotes takes its meaning
MARK = "\0"
"""Stands for a path: no command can hold it."""
_SEPARATORS = " \t\n;&|()<>"
_COMMAND_FOLLOWS = frozenset({"do", "then", "else", "elif", "if", "while", "until", "!", "{", "time"})
_HEREDOC = re.compile(r"<<(-?)[ \t]*((?:\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"|[^\s;&|()<>\\'\"])+)", re.DOTALL)
_PARAMETER = re.compile(r"\$\{[!#]?(?:\w+|[@*#?$!-])?(?:\[[^\]]*\])?")
_OLD_ARITHMETIC = re.compile(rf"\$\[[^\]{MARK}]*\]")
_WORD = re.compile(rf"[^{re.escape(_SEPARATORS)}\\'\"`$#{MARK}]+")
_PATTERN_SIGNS = ("#", "%", "/", "^", ",")  # after a name in ${...}: what follows is a pattern, with quotes of its own


@dataclass(frozen=True)
class _Heredoc:
    """A here-document whose body begins in the next line."""

    delimiter: str
    tabs: bool  # those at the beginning of a line do not count
    quoted: bool


class BashQuoting:
    """Follows the quoting of a command as bash does, and writes the command with its paths.

    Args:
        text: With a mark for each path.
        paths: In the order of their marks; those that are used are taken from the list.
        backquoted: Whether it stands in backquotes, in which bash does not quite follow nested quotes.
    """

    def __init__(self, text: str, paths: list[str], *, backquoted: bool = False) -> None:
        self._text = text
        self._paths = paths
        self._backquoted = backquoted
        self._at = 0
        self._result: list[str] = []
        self._heredocs: list[_Heredoc] = []

    def whole(self) -> str:
        """The command."""
        self._code("")
        return "".join(self._result)

    def _take(self, count: int = 1) -> str:
        """Go on by some signs, which stay as they are."""
        taken = self._text[self._at : self._at + count]
        self._at += count
        self._result.append(taken)
        return taken

    def _put_path(self, quoted: str) -> None:
        self._at += 1
        self._result.append(quoted)

    def _next_path(self) -> str:
        return self._paths.pop(0)

    def _starts(self, *texts: str) -> bool:
        return self._text.startswith(texts, self._at)

    def _code(self, end: str, *, arithmetic: bool = False) -> bool:
        """Commands up to a closing sign, which is taken, too; whether it came."""
        begins = command = True  # of a word, and of a command
        cases = depth = 0
        while self._at < len(self._text):
            sign = self._text[self._at]
            if sign == end and arithmetic and not depth:
                closed = self._starts("))")
                self._take(2 if closed else 0)
                return closed
            if sign == end and not cases and not arithmetic:
                self._take()
                return True
            if self._starts("\\\n"):  # the line goes on, and so does what was begun in it
                self._take(2)
            elif sign == "#" and begins and not arithmetic:
                self._comment()
            elif self._starts("<<") and not self._starts("<<<") and not arithmetic:
                self._heredoc()
                begins = False
            elif sign == "(" and not arithmetic:
                if not (self._starts("((") and begins and self._arithmetic(2)):
                    self._take()
                    self._code(")")
                begins = command = True
            elif sign in _SEPARATORS:
                depth += {"(": 1, ")": -1}.get(sign, 0) if arithmetic else 0
                self._take(3 if self._starts("<<<") else 1)
                begins, command = True, command if sign in " \t" else sign not in "<>"
                if sign == "\n":
                    self._bodies()
            elif (word := _WORD.match(self._text, self._at)) is not None:
                self._take(len(word[0]))
                if begins and command:
                    cases = max(0, cases + {"case": 1, "esac": -1}.get(word[0], 0))
                command = begins and command and word[0] in _COMMAND_FOLLOWS
                begins = False
            else:
                self._quoting(sign)
                begins = command = False
        return False

    def _quoting(self, sign: str) -> None:
        """What begins with a sign that quotes or expands, outside of quotes."""
        if sign == MARK:
            path = self._next_path()
            self._put_path(f"$'{_in_hex(path)}'" if self._backquoted else shlex.quote(path))
        elif sign == "\\" and self._text[self._at + 1 : self._at + 2] == MARK:
            self._at += 1  # it would keep the path's first sign from meaning something, which the quotes do
        elif sign == "\\":
            self._take(2)
        elif sign == "'":
            self._take()
            self._single()
        elif self._starts("$'"):
            self._take(2)
            self._ansi()
        elif sign == '"' or self._starts('$"'):
            self._take(1 if sign == '"' else 2)
            self._double('"')
        elif not self._expansion(quoted=False):
            self._take()

    def _expansion(self, *, quoted: bool) -> bool:
        """What expands in double quotes as well; whether anything does here."""
        if self._starts("$((") and self._arithmetic(3):
            return True
        if self._starts("$("):
            self._take(2)
            self._code(")")
        elif self._starts("${"):
            self._parameter(quoted=quoted)
        elif self._starts("`"):
            self._backquotes(quoted=quoted)
        elif (old := _OLD_ARITHMETIC.match(self._text, self._at)) is not None:
            self._take(len(old[0]))
        else:
            return False
        return True

    def _arithmetic(self, opening: int) -> bool:
        """``((...))``; False, and nothing is taken, where it turns out to be two parentheses."""
        before = self._at, len(self._result), list(self._paths)
        self._take(opening)
        if self._code(")", arithmetic=True):
            return True
        self._at, length, self._paths[:] = before
        del self._result[length:]
        return False

    def _comment(self) -> None:
        """Nobody reads a path in it, but where it stands within quotes, bash does not quite pass over its signs."""
        end = self._text.find("\n", self._at)
        for sign in self._text[self._at : end if end >= 0 else len(self._text)]:
            if sign == MARK:
                self._put_path(re.sub(r"[^\w./-]", "_", self._next_path()))
            else:
                self._take()

    def _single(self) -> None:
        while self._at < len(self._text) and (sign := self._text[self._at]) != "'":
            if sign == MARK:
                path = self._next_path()
                self._put_path(f"'$'{_in_hex(path)}''" if self._backquoted else path.replace("'", "'\\''"))
            else:
                self._take()
        self._take()

    def _ansi(self) -> None:
        while self._at < len(self._text) and (sign := self._text[self._at]) != "'":
            if sign == MARK:
                self._put_path(_in_hex(self._next_path()))
            else:
                self._take(2 if sign == "\\" and not self._starts("\\" + MARK) else 1)
        self._take()

    def _double(self, end: str, special: str = _IN_QUOTES) -> None:
        """Double quotes, or with no end the body of a here-document, in which ``"`` is no special sign."""
        while self._at < len(self._text) and not (end and self._starts(end)):
            if self._starts(MARK):
                path = self._next_path()
                hidden = self._backquoted and end == '"'
                self._put_path(f"\"$'{_in_hex(path)}'\"" if hidden else _escaped(path, special))
            elif self._starts("\\" + MARK):
                self._at += 1
                self._put_path("\\\\" + _escaped(self._next_path(), special))
            elif self._starts("\\"):
                self._take(2)
            elif not self._expansion(quoted=True):
                self._take()
        self._take(len(end))

    def _parameter(self, *, quoted: bool) -> None:
        """``${...}``. Single quotes in it quote, unless it stands in double quotes and is no pattern."""
        name = _PARAMETER.match(self._text, self._at)
        assert name is not None
        self._take(len(name[0]))
        if quoted and not self._starts(*_PATTERN_SIGNS):
            while self._at < len(self._text) and not self._starts("}"):
                if self._starts(MARK):
                    self._put_path(f'"{_escaped(self._next_path(), _IN_QUOTES)}"')
                elif self._starts('"'):
                    self._take()
                    self._double('"')
                elif self._starts("\\"):
                    self._take(2)
                elif not self._expansion(quoted=True):
                    self._take()
        else:
            while self._at < len(self._text) and not self._starts("}"):
                self._quoting(self._text[self._at])
        self._take()

    def _backquotes(self, *, quoted: bool) -> None:
        """Commands in backquotes, in which a backslash before some signs is taken away before they are read."""
        self._take()
        special = '\\`$"' if quoted else "\\`$"
        found = re.compile(r"((?:\\.|[^\\`])*)(`?)", re.DOTALL).match(self._text, self._at)
        assert found is not None
        inner = re.sub(rf"\\([{re.escape(special)}])", r"\1", found[1])
        lexer = BashQuoting(inner, self._paths, backquoted=True)
        self._result.append(_escaped(lexer.whole(), special.replace("$", "")) + found[2])
        self._at = found.end()

    def _heredoc(self) -> None:
        found = _HEREDOC.match(self._text, self._at)
        if found is None:
            self._take(2)
            return
        word = found[2]
        quoted = any(sign in word for sign in "\\'\"")
        delimiter = re.sub(r"\\(.)|['\"]", r"\1", word) if quoted else word
        self._heredocs.append(_Heredoc(delimiter, found[1] == "-", quoted))
        self._take(len(found[0]))

    def _bodies(self) -> None:
        """The here-documents that begin here."""
        waiting, self._heredocs = self._heredocs, []
        for heredoc in waiting:
            begin = self._at
            end = self._end_of(heredoc)
            body = self._text[begin:end]
            if heredoc.quoted:
                for sign in body:
                    if sign == MARK:
                        self._put_path(self._next_path())
                    else:
                        self._take()
                continue
            lexer = BashQuoting(body, self._paths)
            lexer._double("", "\\$`")
            self._result.extend(lexer._result)
            self._at = end

    def _end_of(self, heredoc: _Heredoc) -> int:
        """Where a body ends: after the line that is its delimiter."""
        at, joined = self._at, False
        while at < len(self._text):
            end = self._text.find("\n", at)
            end = end if end >= 0 else len(self._text)
            line = self._text[at:end]
            if not joined and (line.lstrip("\t") if heredoc.tabs else line) == heredoc.delimiter:
                return end
            joined = not heredoc.quoted and (len(line) - len(line.rstrip("\\"))) % 2 == 1
            at = end + 1
        return len(self._text)


def _in_hex(path: str) -> str:
    """A path for ``$'...'``, in which no sign is left that means anything to bash."""
    return re.sub(
        r"[^\w./-]", lambda sign: "".join(f"\\x{byte:02x}" for byte in sign[0].encode("utf-8", "surrogateescape")), path
    )


def _escaped(text: str, signs: str) -> str:
    return re.sub(rf"([{re.escape(signs)}])", r"\\\1", text)
