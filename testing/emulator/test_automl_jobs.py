"""AutoML jobs of the emulator: what is refused, what of the data makes them fail, and what their trial learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from testing.support.prepared_data import make_prepared
from testing.support.rehearsal import Rehearsal
from testing.support.submissions import finished

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.jobs import automl_trial
from azureml_emulator.jobs.automl_translation import check_task
from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

TABLE = """\
paths:
  - file: ./images.jsonl
transformations:
  - read_json_lines: {encoding: utf8}
  - convert_column_types:
      - {columns: image_url, column_type: stream_info}
"""
FOLDER = "azureml://datastores/workspaceblobstore/paths/tables"
IMAGE = "azureml://datastores/workspaceblobstore/paths/images"


def task(**changes: Any) -> Json:
    details = {
        "taskType": "ImageClassification",
        "targetColumnName": "label",
        "trainingData": {"jobInputType": "mltable", "uri": FOLDER},
    }
    return {"computeId": "/subscriptions/s/computes/gpu", "taskDetails": {**details, **changes}}


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({}, "The field taskDetails is required"),
        (task(taskType="ImageClassificationMultilabel"), "'ImageClassificationMultilabel' is not emulated, only Im"),
        (task(trainingData=None), "The field taskDetails.trainingData is required"),
        (task(trainingData={"jobInputType": "uri_folder", "uri": FOLDER}), "trainingData must be of type mltable"),
        (task(validationData={"jobInputType": "mltable"}), "validationData must be of type mltable, with a uri"),
        (task(targetColumnName=""), "The field taskDetails.targetColumnName is required"),
        ({**task(), "computeId": None}, "The field computeId is required"),
        (task(limitSettings={"timeout": "an hour"}), "'an hour' is not a duration"),
        (task(limitSettings={"maxTrials": 0}), "limitSettings.maxTrials must be at least 1, not 0"),
        (
            task(modelSettings={"modelName": "resnet17"}),
            "'resnet17' is not a model of AutoML for images, which has mob",
        ),
    ],
)
def test_refused_at_once(properties: Json, message: str) -> None:
    with pytest.raises(ServiceRefusalError) as raised:
        check_task(properties)
    assert raised.value.status == 400
    assert message in raised.value.message


def rows(*labels: str | None, url: str = f"{IMAGE}/1.png") -> str:
    return "".join(json.dumps({"image_url": url, "label": label}) + "\n" for label in labels)


TEN = rows(*"ababababab")
BROKEN: list[tuple[dict[str, str], str]] = [
    ({}, "there is nothing at"),
    ({"images.jsonl": TEN}, "has no file named MLTable"),
    ({"MLTable": "paths: 3"}, "lists no files with transformations"),
    ({"MLTable": TABLE.replace("read_json_lines", "read_delimited")}, "does not read_json_lines"),
    ({"MLTable": TABLE.replace("stream_info", "string")}, "does not convert image_url to stream_info"),
    ({"MLTable": TABLE}, "names ./images.jsonl, which does not exist"),
    ({"MLTable": TABLE, "images.jsonl": TEN + "{"}, "./images.jsonl, line 11 of the training data is not JSON"),
    ({"MLTable": TABLE, "images.jsonl": rows("a", None)}, "line 2 of the training data has no text for 'label'"),
    ({"MLTable": TABLE, "images.jsonl": '{"label": "a"}'}, "line 1 of the training data has no text for 'image_url'"),
    ({"MLTable": TABLE, "images.jsonl": rows("a", "b")}, "has 2 images; at least 10 are needed"),
    ({"MLTable": TABLE, "images.jsonl": rows(*"aaaaaaaaaa")}, "has only one class, 'a'; at least 2 are needed"),
    ({"MLTable": TABLE, "images.jsonl": TEN}, f"there is nothing at {IMAGE}/1.png"),
    ({"MLTable": TABLE, "images.jsonl": rows(*"ababababab", url="/1.png")}, "'/1.png' is not in storage of the w"),
]


@pytest.mark.slow
def test_data_that_cannot_be_used_make_the_job_fail(client: MLClient, cloud: EmulatedCloud) -> None:
    from azure.ai.ml import Input, automl

    cloud.executor = Rehearsal()
    cloud.add_compute("gpu-cluster", size="Standard_NC4as_T4_v3")
    container = cloud.container("workspaceblobstore")
    failures = {}
    for number, (files, _) in enumerate(BROKEN):
        for name, content in files.items():
            cloud.blobs.write(container, f"tables/{number}/{name}", content.encode())
        job = automl.image_classification(
            training_data=Input(type="mltable", path=f"{FOLDER}/{number}"),
            target_column_name="label",
            compute="gpu-cluster",
        )
        job.name = f"job{number}"
        client.jobs.create_or_update(job)
        ended = finished(cloud, job.name, "Failed")
        failures[number] = ended.message
    for number, (_, message) in enumerate(BROKEN):
        assert message in failures[number]


def write_data(folder: Path, *, shuffled: bool) -> None:
    manifest = make_prepared(folder, train=10, val=10, test=1, size=24)
    generator = np.random.default_rng(0)
    for name, split in (("training", "train"), ("validation", "val")):
        records = manifest.of_split(split)  # type: ignore[arg-type]
        labels = [record.label for record in records]
        if shuffled:
            generator.shuffle(labels)
        lines = [
            json.dumps({"image": record.path, "label": label}) for record, label in zip(records, labels, strict=True)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "classes.json").write_text(json.dumps(manifest.classes), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True])
def test_what_the_trial_learns_is_in_the_labels(tmp_path: Path, shuffled: bool) -> None:
    write_data(tmp_path, shuffled=shuffled)
    measured = automl_trial.train(tmp_path, tmp_path / "out", 64, 48, 0.2, 1)
    assert measured["accuracy"] <= 0.6 if shuffled else measured["accuracy"] == 1
    assert measured["log_loss"] > 0.8 if shuffled else measured["log_loss"] < 0.1
    if not shuffled:  # where there are no validation images, some of the others are set aside
        (tmp_path / "validation.jsonl").unlink()
        assert automl_trial.train(tmp_path, tmp_path / "own", 64, 48, 0.2, 1)["accuracy"] == 1
        import openvino

        graph = openvino.Core().read_model(str(tmp_path / "own" / "model.onnx"))
        assert [str(graph.input().partial_shape), graph.output().partial_shape[1].to_string()] == ["[?,3,48,48]", "3"]
        assert json.loads((tmp_path / "own" / "labels.json").read_text()) == ["blue", "green", "red"]


PIPELINE = """\
type: pipeline
settings: {default_compute: azureml:gpu-cluster}
inputs:
  images: {type: mltable, path: "azureml://datastores/workspaceblobstore/paths/tables"}
jobs:
  best:
    type: automl
    task: image_classification
    primary_metric: accuracy
    target_column_name: label
    training_data: ${{parent.inputs.images}}
    outputs: {best_model: {type: mlflow_model}}
"""


@pytest.mark.slow
def test_a_step_of_a_pipeline_is_refused_in_words(client: MLClient, cloud: EmulatedCloud, tmp_path: Path) -> None:
    from azure.ai.ml import load_job

    cloud.executor = Rehearsal()
    cloud.add_compute("gpu-cluster", size="Standard_NC4as_T4_v3")
    cloud.blobs.write(cloud.container("workspaceblobstore"), "tables/MLTable", TABLE.encode())
    (tmp_path / "job.yml").write_text(PIPELINE)
    job = load_job(tmp_path / "job.yml")
    job.name = "steps"
    client.jobs.create_or_update(job)
    message = finished(cloud, "steps", "Failed").message
    assert message == "the step 'best' is AutoML, which is emulated only as a separate job"
