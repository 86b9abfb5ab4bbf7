"""The emulated Custom Vision: it learns from pictures, refuses what the service refuses, and lets nobody in who may not."""

from __future__ import annotations

import base64
import os
from typing import Any

import pytest
import requests
from testing.support.vision_accounts import VisionAccount, filled_project, manage, picture

from azureml_emulator.emulated_cloud import EmulatedCloud


@pytest.fixture
def training(cloud: EmulatedCloud) -> VisionAccount:
    cloud.vision.limits["S0"].calls = None
    return VisionAccount(cloud, "training")


@pytest.fixture
def prediction(cloud: EmulatedCloud) -> VisionAccount:
    cloud.vision.limits["S0"].calls = None
    return VisionAccount(cloud, "prediction")


def test_a_project_is_trained_published_and_predicts(training: VisionAccount, prediction: VisionAccount) -> None:
    project, tags = filled_project(training)
    iteration = training.trained(project)
    assert (iteration["status"], iteration["trainingTimeInMinutes"]) == ("Completed", 1)
    publish = f"/projects/{project}/iterations/{iteration['id']}/publish"
    assert training.call("POST", publish, params={"publishName": "first", "predictionId": prediction.id}) is True

    path = f"/{project}/classify/iterations/first/image"
    right = 0
    for name in tags:
        for number in range(100, 110):  # none of those that it was trained with
            found = prediction.call("POST", path, files={"imageData": picture(name, number)})
            probabilities = [item["probability"] for item in found["predictions"]]
            assert probabilities == sorted(probabilities, reverse=True)
            assert sum(probabilities) == pytest.approx(1)
            right += found["predictions"][0]["tagName"] == name
    assert right == 20
    prediction.call("POST", f"{path}/nostore", data=picture("down", 1), headers={
        "Prediction-Key": prediction.key, "Content-Type": "application/octet-stream",
    })  # fmt: skip
    kept = training.call("POST", f"/projects/{project}/predictions/query", json={"maxCount": 5})
    assert len(kept["results"]) == 5
    assert kept["token"]["continuation"] == "5"
    assert training.session.get(kept["results"][0]["originalImageUri"], timeout=60).content == picture("down", 109)

    good = training.call(
        "GET", f"/projects/{project}/iterations/{iteration['id']}/performance", params={"threshold": 0.5}
    )
    assert good["precision"] > 0.9
    assert [item["name"] for item in good["perTagPerformance"]] == ["across", "down"]
    training.call("DELETE", publish)
    assert prediction.refusal("POST", path, files={"imageData": picture("down", 1)}) == (404, "NotFoundIteration")
