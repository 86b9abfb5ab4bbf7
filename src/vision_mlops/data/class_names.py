"""Finds names of classes that look the same to people: they differ in case, spaces, or how their letters are encoded."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

# Lower-case letters of other scripts that look like Latin ones. Unicode's confusables.txt has far more.
_LATIN = str.maketrans("аеорсухіјѕԁһкмтвнαονρτικυ", "aeopcyxijsdhkmtbhaovptiku")


def lookalikes(names: Iterable[str]) -> list[str]:
    """Report class names that look the same, or nearly so: a line for each group of them."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        groups[_trimmed(_composed(name).casefold()).translate(_LATIN)].append(name)
    return [
        f"classes {', '.join(map(_exactly, group[:-1]))} and {_exactly(group[-1])} differ only {_difference(group)}"
        for group in groups.values()
        if len(group) > 1
    ]


def _difference(names: list[str]) -> str:
    if len({unicodedata.normalize("NFC", name) for name in names}) == 1:
        return "in how their letters are encoded"
    if len({_composed(name).casefold() for name in names}) == 1:
        return "in upper and lower case"
    if len({_trimmed(_composed(name)) for name in names}) == 1:
        return "in spaces or a trailing dot"
    return "in characters that look alike"


def _composed(name: str) -> str:
    """Return the compatibility form, with plain letters for wide ones and ligatures, without invisible characters."""
    text = unicodedata.normalize("NFKC", name)
    return "".join(sign for sign in text if unicodedata.category(sign) != "Cf")


def _trimmed(name: str) -> str:
    return " ".join(name.split()).rstrip(". ")


def _exactly(name: str) -> str:
    r"""Return a name with escapes for what a person could not tell apart: combining accents, odd spaces."""
    shown = "".join(
        sign
        if sign.isprintable() and not unicodedata.combining(sign) and sign.casefold() not in map(chr, _LATIN)
        else sign.encode("unicode_escape", "surrogatepass").decode()
        for sign in name
    )
    return f"'{shown}'"
