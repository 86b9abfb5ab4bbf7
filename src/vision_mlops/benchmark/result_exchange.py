"""A recorded result as one file, so that a team without access to a service can compare itself with another's result."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Strict, TypeAdapter, ValidationError

from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
from vision_mlops.benchmark.benchmark_result import BenchmarkResult, with_measures
from vision_mlops.core.errors import DataError, MlopsError, problem_of_file
from vision_mlops.core.files import atomic_write
from vision_mlops.core.yaml_text import read_json
from vision_mlops.data.manifest import Manifest
from vision_mlops.evaluation.prediction_table import PredictionTable, checked_table

_FORMAT = "mlops-benchmark-result/1"
_MOST_BYTES = 512 * 2**20
_Rows = TypeAdapter(list[tuple[str, str, list[Annotated[float, Strict()]]]])
_DAMAGED = "have it exported again with `mlops benchmark export`, and copied completely"


def export_result(folder: BenchmarkFolder, name: str, out: Path) -> Path:
    """Write the result of a contestant into one JSON file.

    Raises:
        DataError: the contestant has no result, or it is damaged.
        MlopsError: the file exists.
    """
    names = folder.names()
    if name not in names:
        have = f"there are results of {', '.join(names)}" if names else "there are no results yet"
        raise DataError(f"no result of {name!r} for {folder.workload}", f"{have}; run `mlops benchmark run`")
    if out.exists():
        raise MlopsError(f"{out} exists already", "choose another --out, or remove it")
    result, table = folder.read(name)
    content = {
        "result": result.model_dump(mode="json"),
        "predictions": [
            [path, label, [round(float(value), 6) for value in row]]
            for path, label, row in zip(table.paths, table.labels, table.probabilities, strict=True)
        ],
    }
    atomic_write(out, json.dumps({"format": _FORMAT, "sha256": _digest(content), **content}) + "\n")
    return out


def read_exported(path: Path) -> tuple[BenchmarkResult, PredictionTable]:
    """Read an exported result.

    Raises:
        DataError: the file cannot be read, is not an exported result, was changed, or its measures do not follow from its
            predictions.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path} is too large for a result of a benchmark", _DAMAGED)
        content: Any = read_json(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise DataError(
                f"{path} is not an exported result of a benchmark", "give a file of `mlops benchmark export`"
            )
        given = {key: content[key] for key in ("result", "predictions")}
        if _digest(given) != content.get("sha256"):
            raise DataError(f"{path} is damaged: its content does not match its sha256", _DAMAGED)
        result = BenchmarkResult.model_validate(given["result"], strict=True)
        rows = _Rows.validate_python(given["predictions"])
        table = checked_table(
            [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows], result.classes
        )
        return with_measures(result, table), table
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", "check the path") from error
    except DataError:
        raise
    except KeyError as error:
        raise DataError(f"{path} is damaged: it has no {error}", _DAMAGED) from error
    except (ValidationError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {problem_of_file(error)}", _DAMAGED) from error


def import_result(
    path: Path, folder: BenchmarkFolder, manifest: Manifest, *, overwrite: bool = False
) -> BenchmarkResult:
    """Import an exported result, marked with the day on which it was measured.

    Raises:
        DataError: as :func:`read_exported`; or it is of another workload or other data.
        MlopsError: there is a result of the contestant that was measured here, and ``overwrite`` is not given.
    """
    result, table = read_exported(path)
    if result.workload != folder.workload:
        raise DataError(
            f"{path} has a result of the workload {result.workload}, not {folder.workload}", "name that workload"
        )
    if result.data_fingerprint != manifest.fingerprint:
        raise DataError(
            f"{path} was measured on other data: its fingerprint is {result.data_fingerprint[:12]}, that of the data here"
            f" is {manifest.fingerprint[:12]}",
            "prepare the same images with the same split, or have the result measured on these",
        )
    table = _in_order(path, result, table, manifest)
    with folder.locked():
        if result.name in folder.names() and not overwrite and not _is_recorded(folder, result.name):
            raise MlopsError(f"a result of {result.name} was measured here already", "add --overwrite to replace it")
        marked = result.model_copy(update={"recorded": result.recorded or result.measured[:10]})
        folder.put(marked, table)
    return marked


def _in_order(path: Path, result: BenchmarkResult, table: PredictionTable, manifest: Manifest) -> PredictionTable:
    """Return the predictions in the order of the manifest. Raises DataError if they are of other classes or images."""
    wanted = {record.path: record.label for record in manifest.of_split("test")}
    if result.classes != manifest.classes:
        raise DataError(f"{path} is damaged: its classes are not those of the data that it names", _DAMAGED)
    if dict(zip(table.paths, table.labels, strict=True)) != wanted:
        raise DataError(f"{path} is damaged: its images are not the test images of the data that it names", _DAMAGED)
    places = {name: place for place, name in enumerate(table.paths)}
    rows = np.array([places[name] for name in wanted])
    return PredictionTable(list(wanted), list(wanted.values()), table.probabilities[rows])


def _is_recorded(folder: BenchmarkFolder, name: str) -> bool:
    """Return whether a result was imported; a damaged one counts as imported."""
    try:
        return bool(folder.read(name)[0].recorded)
    except DataError:
        return True


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
