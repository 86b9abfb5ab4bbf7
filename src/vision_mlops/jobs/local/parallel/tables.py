"""Reads tabular inputs of a parallel step: delimited, Parquet and JSON-lines files, and MLTable files that list them.

Of MLTable, only what a local file needs is supported; anything else is refused, never ignored. pandas is imported by the
functions that read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from vision_mlops.core.errors import DataError, problem_of_file, require
from vision_mlops.core.yaml_text import read_yaml

MLTABLE = "MLTable"
Kind = Literal["delimited", "parquet", "json_lines"]
_KINDS: dict[str, tuple[Kind, str]] = {
    ".csv": ("delimited", ","),
    ".tsv": ("delimited", "\t"),
    ".parquet": ("parquet", ""),
    ".jsonl": ("json_lines", ""),
}
# Supported options of the supported transformations, with their supported values; None stands for any value.
_OPTIONS: dict[str, dict[str, tuple[object, ...] | None]] = {
    "read_delimited": {
        "delimiter": None,
        "encoding": None,
        "header": ("all_files_same_headers", "all_files_different_headers", "no_header"),
        "support_multi_line": (True, False),  # pandas reads quoted line breaks in any case
        "infer_column_types": (True,),
        "empty_as_string": (False,),
        "include_path_column": (False,),
    },
    "read_parquet": {"include_path_column": (False,)},
    "read_json_lines": {"encoding": None, "invalid_lines": ("error",), "include_path_column": (False,)},
}


@dataclass(frozen=True, slots=True)
class Reader:
    """How one file becomes a DataFrame."""

    kind: Kind
    delimiter: str = ","
    encoding: str = "utf-8"
    header: bool = True
    keep: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()


def reader_of(path: Path) -> Reader | None:
    """Return the reader for the suffix of a file; None if the file is not a table."""
    kind, delimiter = _KINDS.get(path.suffix.lower(), (None, ""))
    return None if kind is None else Reader(kind, delimiter=delimiter)


@lru_cache(maxsize=1)  # the mini-batches of a file follow each other
def read_table(path: str, reader: Reader) -> Any:
    """Read one file as a ``pandas.DataFrame``; the file that was read last is cached.

    Raises:
        DataError: it is not what the reader expects, or lacks a column.
        MissingExtraError: pandas, or pyarrow for Parquet, is not installed.
    """
    require("pandas", *(["pyarrow"] if reader.kind == "parquet" else []))
    import pandas as pd  # type: ignore[import-untyped]

    try:
        if reader.kind == "parquet":
            frame = pd.read_parquet(path)
        elif reader.kind == "json_lines":
            frame = pd.read_json(path, lines=True, encoding=reader.encoding)
        else:
            header = 0 if reader.header else None
            frame = pd.read_csv(path, sep=reader.delimiter, encoding=reader.encoding, header=header)
            if not reader.header:
                frame.columns = pd.Index([f"Column{i + 1}" for i in range(frame.shape[1])])
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (ValueError, OSError, LookupError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as {reader.kind.replace('_', ' ')}: {reason}") from error
    missing = [name for name in (*(reader.keep or ()), *reader.drop) if name not in frame.columns]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}", "name one of: " + ", ".join(map(str, frame.columns)))
    if reader.keep is not None:
        frame = frame[list(reader.keep)]
    return frame.drop(columns=list(reader.drop)) if reader.drop else frame


def read_mltable(source: Path) -> tuple[list[Path], Reader | None]:
    """Return the files that an MLTable lists, in its order, and how to read them; no reader for a plain list of files.

    Args:
        source: The folder that contains a file named MLTable, or that file.

    Raises:
        DataError: it does not exist, lists nothing, or requests what this machine cannot do.
    """
    path = source / MLTABLE if source.is_dir() else source
    if not path.is_file():
        raise DataError(f"{source} contains no file named {MLTABLE}", "add one, or declare the input as uri_folder")
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not YAML: {problem_of_file(error)}", "fix the file") from error
    if not isinstance(content, dict) or not isinstance(content.get("paths"), list):
        raise DataError(f"{path} has no list of paths", "add for example `paths: [{file: ./data.csv}]`")
    files = [file for entry in content["paths"] for file in _listed(entry, path)]
    return files, _reader(content.get("transformations") or [], path)


def files_below(folder: Path) -> list[Path]:
    """List every file below a folder, including those behind links, sorted by path."""
    found = [Path(root, name) for root, _, names in os.walk(folder, followlinks=True) for name in names]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _listed(entry: Any, table: Path) -> Iterator[Path]:
    """Yield the files of one entry of ``paths``."""
    if not isinstance(entry, dict) or len(entry) != 1:
        raise DataError(f"{table}: {entry!r} is not a path", "write `file: ...`, `folder: ...` or `pattern: ...`")
    kind, text = next(iter(entry.items()))
    if kind not in ("file", "folder", "pattern") or not isinstance(text, str):
        raise DataError(f"{table}: {entry!r} is not a path", "write `file: ...`, `folder: ...` or `pattern: ...`")
    if "://" in text:
        raise DataError(f"{table}: {text} is not on this machine", "download it, and list the local path")
    if kind == "pattern":
        found = sorted(item for item in table.parent.glob(text.removeprefix("./")) if item.is_file())
    else:
        path = table.parent / text
        found = files_below(path) if kind == "folder" else [path] if path.is_file() else []
    if not found:
        raise DataError(f"{table}: {kind} {text} matches no file", "paths are relative to the MLTable file")
    yield from found


def _reader(transformations: Any, table: Path) -> Reader | None:
    """Return the reader that the transformations describe."""
    if not isinstance(transformations, list):
        raise DataError(f"{table}: transformations is not a list", "write for example `- read_delimited: {}`")
    reader: dict[str, Any] = {}
    for step in transformations:
        name, options = _transformation(step, table)
        if name in _OPTIONS:
            reader |= _read_options(name, options, table)
        elif name in ("keep_columns", "drop_columns"):
            reader[name.removesuffix("_columns")] = _columns(name, options, table)
        else:
            valid = ", ".join((*_OPTIONS, "keep_columns", "drop_columns"))
            raise DataError(f"{table}: {name} cannot be done on this machine", f"use: {valid}")
    if reader and "kind" not in reader:
        raise DataError(f"{table}: columns are chosen, but no transformation reads a table", "add `read_delimited: {}`")
    return Reader(**reader) if reader else None


def _transformation(step: Any, table: Path) -> tuple[str, Any]:
    """Return the name and options of a transformation, which is a name, or a mapping of a name to options."""
    if isinstance(step, str):
        return step, None
    if not isinstance(step, dict) or len(step) != 1:
        raise DataError(f"{table}: {step!r} is not a transformation", "write for example `- read_delimited: {}`")
    name, options = next(iter(step.items()))
    return str(name), options


def _columns(name: str, options: Any, table: Path) -> tuple[str, ...]:
    columns = [options] if isinstance(options, str) else options
    if not isinstance(columns, list) or not columns or not all(isinstance(item, str) for item in columns):
        raise DataError(f"{table}: {name} does not name columns", f"write for example `- {name}: [age, price]`")
    return tuple(columns)


def _read_options(name: str, options: Any, table: Path) -> dict[str, Any]:
    if not isinstance(options or {}, dict):
        raise DataError(f"{table}: the options of {name} are not a mapping", f"write `- {name}: {{}}`")
    given: dict[str, Any] = options or {}
    for option, value in given.items():
        if option not in _OPTIONS[name]:
            raise DataError(f"{table}: {name} has the unknown option {option!r}", "remove it")
        valid = _OPTIONS[name][option]
        if valid is not None and value not in valid:
            known = " or ".join(str(item).lower() for item in valid)
            raise DataError(f"{table}: {name} with {option}: {value} cannot be done on this machine", f"use {known}")
    encoding = str(given.get("encoding", "utf-8"))
    return {
        "kind": name.removeprefix("read_"),
        "delimiter": str(given.get("delimiter", ",")),
        "encoding": "utf-8" if encoding == "utf8" else encoding,
        "header": given.get("header") != "no_header",
    }
