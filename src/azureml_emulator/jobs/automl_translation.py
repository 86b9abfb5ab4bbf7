"""AutoML jobs that classify images: checks, and their trial as a step that the local engine can run.

On Azure, such a job has child runs that train what it names, and the best of them has the model. Here there is one trial,
``automl_trial.py``, which trains a small classifier on the same data in seconds.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from azureml_emulator.jobs import automl_trial
from azureml_emulator.jobs.project_folder import ProjectFolder
from azureml_emulator.jobs.sweep_translation import seconds
from azureml_emulator.resources.datastore_addresses import ARTIFACTS, artifacts
from azureml_emulator.resources.rest_resources import ResourceStore
from azureml_emulator.resources.vm_sizes import VM_SIZES
from azureml_emulator.rest.rest_calls import Json, malformed

TRIAL = "trial_0"
"""Name of the only step."""
TRAINED = "train_artifacts"
"""Folder of the model among the artifacts of the best run."""
BEST = "automl_best_child_run_id"
"""Tag of the job that names the run of the best trial."""
_TASK = "ImageClassification"
_TABLE = "MLTable"
_LEAST_IMAGES = 10  # according to its documentation, Azure refuses a job with fewer
_RESIZE, _CROP = 256, 224  # the documented defaults
_SHARE, _SEED = 0.2, 1234
_NETWORKS = frozenset({
    "mobilenetv2", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnest50", "resnest101", "seresnext",
    "vits16r224", "vitb16r224", "vitl16r224",
})  # fmt: skip
_READERS = 8


def check_task(properties: Json) -> None:
    """Refuse an AutoML job that is not emulated, or that lacks what it needs.

    Raises:
        ServiceRefusalError: 400.
    """
    task = properties.get("taskDetails")
    if not isinstance(task, dict):
        raise malformed("The field taskDetails is required.")
    if task.get("taskType") != _TASK:
        raise malformed(f"AutoML with taskType {task.get('taskType')!r} is not emulated, only {_TASK} is")
    for key, needed in (("trainingData", True), ("validationData", False)):
        data = task.get(key)
        if not data and needed:
            raise malformed(f"The field taskDetails.{key} is required.")
        if data and (data.get("jobInputType") != "mltable" or not data.get("uri")):
            raise malformed(f"The field taskDetails.{key} must be of type mltable, with a uri.")
    if not task.get("targetColumnName"):
        raise malformed("The field taskDetails.targetColumnName is required.")
    if not properties.get("computeId"):
        raise malformed("An AutoML job for images needs a compute target: The field computeId is required.")
    limits = task.get("limitSettings") or {}
    if limits.get("timeout"):
        seconds(limits["timeout"])
    for key in ("maxTrials", "maxConcurrentTrials"):
        if limits.get(key) is not None and limits[key] < 1:
            raise malformed(f"The field taskDetails.limitSettings.{key} must be at least 1, not {limits[key]}.")
    name = (task.get("modelSettings") or {}).get("modelName")
    if name and name not in _NETWORKS:
        raise malformed(f"{name!r} is not a model of AutoML for images, which has {', '.join(sorted(_NETWORKS))}.")


def automl_job(project: ProjectFolder, store: ResourceStore, properties: Json) -> Json:
    """Return the job as a pipeline with one step.

    Args:
        project: Gets the data and the code.
        store: Contains the computes.
        properties: Properties of the job.

    Raises:
        ServiceRefusalError: its data cannot be used, its compute has no graphics processor, or it has a named output.
    """
    task: Json = properties["taskDetails"]
    _check_compute(store, str(properties["computeId"]))
    if properties["outputs"]:
        raise malformed(f"outputs of AutoML jobs are not emulated: the model is in {TRAINED} of the best trial")
    _write_data(project, task)
    code = project.folder / "code" / "automl"
    code.mkdir(parents=True, exist_ok=True)
    shutil.copy2(automl_trial.__file__, code / "automl_trial.py")
    model: Json = task.get("modelSettings") or {}
    options = {
        "resize": model.get("validationResizeSize") or _RESIZE,
        "crop": model.get("validationCropSize") or _CROP,
        "share": task.get("validationDataSize") or _SHARE,
        "seed": model.get("randomSeed") or _SEED,
    }
    words = " ".join(f"--{name} {value}" for name, value in options.items())
    step: Json = {
        "type": "command",
        "command": f"python automl_trial.py ${{{{inputs.data}}}} ${{{{outputs.{TRAINED}}}}} {words}",
        "code": "./code/automl",
        "environment": {"image": "automl-images"},
        "inputs": {"data": {"type": "uri_folder", "path": "./data/automl"}},
        "outputs": {TRAINED: {"type": "uri_folder"}},
    }
    if timeout := (task.get("limitSettings") or {}).get("timeout"):
        step["limits"] = {"timeout": seconds(timeout)}
    names = {"display_name": properties["displayName"], "experiment_name": properties["experimentName"]}
    # AutoML trains the networks of each job itself: without this, the engine would reuse the result of an equal job.
    return {"type": "pipeline", **names, "settings": {"force_rerun": True}, "jobs": {TRIAL: step}}


def trained_output() -> Json:
    """Return the description of the output of the step: it is among the artifacts of its run."""
    return {"uri": f"azureml://datastores/{ARTIFACTS}/paths/{artifacts('${{name}}')}/{TRAINED}/"}


def _check_compute(store: ResourceStore, path: str) -> None:
    compute = store.get(path.removeprefix("azureml:"))
    size = str((compute.properties.get("properties") or {}).get("vmSize") or "")
    known = VM_SIZES.get(size.lower())
    if known is not None and not known.gpus:
        raise malformed(
            f"AutoML for images needs machines with graphics processors: {compute.name!r} has {known.name}."
        )


def _write_data(project: ProjectFolder, task: Json) -> None:
    """Download the images, with tables of their locations and labels."""
    target = str(task["targetColumnName"])
    tables = {"training": _rows(project, "training", task["trainingData"]["uri"], target)}
    if validation := task.get("validationData"):
        tables["validation"] = _rows(project, "validation", validation["uri"], target)
    training = tables["training"]
    if len(training) < _LEAST_IMAGES:
        raise malformed(f"The training data has {len(training)} images; at least {_LEAST_IMAGES} are needed.")
    classes = sorted({label for _, label in training})
    if len(classes) < 2:
        raise malformed(f"The training data has only one class, {classes[0]!r}; at least 2 are needed.")
    strange = sorted({label for rows in tables.values() for _, label in rows} - set(classes))
    if strange:
        raise malformed(f"The validation data has classes that the training data lacks: {', '.join(strange)}.")
    folder = project.folder / "data" / "automl"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
    with ThreadPoolExecutor(_READERS) as readers:
        for name, rows in tables.items():
            contents = readers.map(project.read, [url for url, _ in rows])
            lines = []
            for number, ((url, label), content) in enumerate(zip(rows, contents, strict=True)):
                image = f"images/{name}-{number:06}{Path(url).suffix}"
                (folder / image).write_bytes(content)
                lines.append(json.dumps({"image": image, "label": label}) + "\n")
            (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def _rows(project: ProjectFolder, name: str, uri: str, target: str) -> list[tuple[str, str]]:
    """Return address and label of each image of an MLTable.

    Raises:
        ServiceRefusalError: it cannot be used.
    """
    folder = project.folder / project.data(name, uri)
    file = folder / _TABLE if folder.is_dir() else folder
    if file.name != _TABLE or not file.is_file():
        raise malformed(f"The {name} data at {uri} has no file named {_TABLE}.")
    found: list[tuple[str, str]] = []
    for path in _tables(file, name):
        if path.startswith("azureml://"):
            text = project.read(path).decode("utf-8", "replace")
        elif (folder / path).is_file():
            text = (folder / path).read_text(encoding="utf-8", errors="replace")
        else:
            raise malformed(f"The {_TABLE} of the {name} data names {path}, which does not exist.")
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                found.append(_row(line, f"{path}, line {number} of the {name} data", target))
    return found


def _tables(file: Path, name: str) -> list[str]:
    """Return the JSON Lines files of an MLTable."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        paths = [str(item["file"]) for item in content["paths"]]
        steps = {key: value for step in content["transformations"] for key, value in step.items()}
    except (ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise malformed(f"The {_TABLE} of the {name} data lists no files with transformations: {error!r}.") from error
    if not paths or "read_json_lines" not in steps:
        raise malformed(f"The {_TABLE} of the {name} data does not read_json_lines.")
    if not any(
        "image_url" in str(item.get("columns")) and item.get("column_type") == "stream_info"
        for item in steps.get("convert_column_types") or []
    ):
        raise malformed(f"The {_TABLE} of the {name} data does not convert image_url to stream_info.")
    return paths


def _row(line: str, where: str, target: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise malformed(f"{where} is not JSON: {error}.") from error
    for column in ("image_url", target):
        value = row.get(column) if isinstance(row, dict) else None
        if not isinstance(value, str) or not value:
            raise malformed(f"{where} has no text for {column!r}.")
    return str(row["image_url"]), str(row[target])
