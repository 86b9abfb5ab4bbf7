"""Training and validation images as AutoML for images reads them: files in a datastore, and MLTable folders about them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vision_mlops import storage
from vision_mlops.benchmark.contestant import Task
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError
from vision_mlops.core.text import counted
from vision_mlops.data.asset_store import Asset
from vision_mlops.data.manifest import ImageRecord, SplitName
from vision_mlops.jobs.azureml import data_assets

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

LABEL = "label"
"""Column of the tables that has the class."""
_FOLDER = "mlops/automl"  # of the datastore
_ROWS = "images.jsonl"
_TABLES: dict[SplitName, str] = {"train": "training", "val": "validation"}
_PLAIN = re.compile(r"[\w./ -]+", re.ASCII)
"""Names that mean the same in an address, however it is read."""
_MLTABLE = f"""\
paths:
  - file: ./{_ROWS}
transformations:
  - read_json_lines:
      encoding: utf8
      invalid_lines: error
      include_path_column: false
  - convert_column_types:
      - columns: image_url
        column_type: stream_info
"""


@dataclass(frozen=True, slots=True)
class TrainingTables:
    """Addresses of the two MLTable folders."""

    training: str
    validation: str


def uploads_of(task: Task, settings: AzureSettings) -> str:
    """Return the folder in the datastore that belongs to the data of a task."""
    place = f"{_FOLDER}/{task.workload.name}/{task.manifest.fingerprint[:16]}"
    return f"azureml://datastores/{settings.datastore}/paths/{place}"


def upload_tables(client: MLClient, settings: AzureSettings, task: Task) -> TrainingTables:
    """Upload what is not there yet: the tables, and the images unless the data are registered in the workspace.

    The test images are not sent, and no table names them. Images are called by the hash of their content.

    Args:
        client: Client of the workspace.
        settings: Workspace and datastore.
        task: The data, and a folder for the tables.

    Raises:
        AzureError: the service refuses, or files could not be uploaded.
    """
    records = [record for split in _TABLES for record in task.manifest.of_split(split)]
    address = uploads_of(task, settings)
    files: dict[str, Path] = {}
    registered = _registered(client, task, records)
    if registered is None:
        files |= {_stored_name(record): task.data / record.path for record in records}
        scope = f"subscriptions/{settings.subscription_id}/resourcegroups/{settings.resource_group}"
        root = address.replace("azureml://", f"azureml://{scope}/workspaces/{settings.workspace_name}/")
        locate: Callable[[ImageRecord], str] = _stored_name
        task.say(f"the images are uploaded to {address}")
    else:
        root, locate = registered.path.rstrip("/"), lambda record: record.path
        task.say(f"the images are those of azureml:{registered.name}:{registered.version}")
    for split, name in _TABLES.items():
        folder = task.folder / "tables" / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = (
            {"image_url": f"{root}/{locate(record)}", LABEL: record.label} for record in task.manifest.of_split(split)
        )
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / _ROWS).write_text(lines, encoding="utf-8")
        (folder / "MLTable").write_text(_MLTABLE, encoding="utf-8")
        files |= {f"{name}/{file}": folder / file for file in (_ROWS, "MLTable")}
    place = storage.locate(address, settings, client=client)
    summary = storage.upload(task.folder, place, files=files)
    if summary.failures:
        file, reason = next(iter(sorted(summary.failures.items())))
        failed = f"{len(summary.failures)} of {counted(len(files), 'file')} could not be uploaded"
        raise AzureError(
            f"{failed} to {place.url}: {file}: {reason}", "run the command again: uploaded files are not sent again"
        )
    task.say(f"{counted(summary.transferred.files, 'file')} uploaded, {summary.unchanged.files} were already there")
    return TrainingTables(*(f"{address}/{name}/" for name in _TABLES.values()))


def _stored_name(record: ImageRecord) -> str:
    return f"images/{record.sha256}{Path(record.path).suffix.lower()}"


def _registered(client: MLClient, task: Task, records: Sequence[ImageRecord]) -> Asset | None:
    """Return the registered data asset that holds exactly these data, named after the workload or the data; or None."""
    if not all(_PLAIN.fullmatch(record.path) for record in records):
        return None
    for name in dict.fromkeys((task.workload.name, task.manifest.name)):
        for item in data_assets.versions(client, name, say=task.say):
            if item.fingerprint == task.manifest.fingerprint and item.path.startswith("azureml://"):
                return item
    return None
