"""The emulated Custom Vision: it learns from pictures, refuses what the service refuses, and lets nobody in who may not."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import requests
from testing.support.vision_accounts import VisionAccount, filled_project, picture

from azureml_emulator.emulated_cloud import EmulatedCloud


@pytest.fixture
def training(cloud: EmulatedCloud) -> VisionAccount:
    cloud.vision.limits["S0"].calls = None
    return VisionAccount(cloud, "training")


@pytest.fixture
def prediction(cloud: EmulatedCloud) -> VisionAccount:
    cloud.vision.limits["S0"].calls = None
    return VisionAccount(cloud, "prediction")


@pytest.mark.slow
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
    rest = training.call("POST", f"/projects/{project}/predictions/query", json={**kept["token"], "maxCount": 50})
    assert len(rest["results"]) == 15
    sure = {"tags": [{"id": tags["down"], "minThreshold": 0.5}], "orderBy": "Oldest"}
    found = training.call("POST", f"/projects/{project}/predictions/query", json=sure)["results"]
    assert [item["predictions"][0]["tagName"] for item in found] == ["down"] * 10
    for wrong in ({"maxCount": "all"}, {"tags": ["down"]}, {"startTime": "2030-01-01T00:00:00"}, {"continuation": "x"}):
        assert training.refusal("POST", f"/projects/{project}/predictions/query", json=wrong) == (
            400, "BadRequestPredictionInvalidQueryParameters",
        )  # fmt: skip
    assert training.session.get(kept["results"][0]["originalImageUri"], timeout=60).content == picture("down", 109)

    good = training.call(
        "GET", f"/projects/{project}/iterations/{iteration['id']}/performance", params={"threshold": 0.5}
    )
    assert good["precision"] > 0.9
    assert [item["name"] for item in good["perTagPerformance"]] == ["across", "down"]
    training.call("DELETE", publish)
    assert prediction.refusal("POST", path, files={"imageData": picture("down", 1)}) == (404, "NotFoundIteration")


def test_a_batch_says_what_became_of_each_image(cloud: EmulatedCloud, training: VisionAccount) -> None:
    cloud.vision.limits["S0"].images = 2
    project = training.call("POST", "/projects", params={"name": "p", "classificationType": "Multiclass"})["id"]
    tags = [training.call("POST", f"/projects/{project}/tags", params={"name": n})["id"] for n in "ab"]
    good, other, third = (base64.b64encode(picture("down", number)).decode() for number in range(3))
    images: list[dict[str, Any]] = [
        {"name": "good.jpg", "contents": good, "tagIds": tags[:1]},
        {"name": "again.jpg", "contents": good, "tagIds": tags[:1]},
        {"name": "text.jpg", "contents": base64.b64encode(b"no image").decode()},
        {"name": "cut.jpg", "contents": good[: len(good) // 8 * 4]},
        {"name": "large.jpg", "contents": base64.b64encode(picture("down", 1) + bytes(6 * 1024 * 1024)).decode()},
        {"name": "both.jpg", "contents": other, "tagIds": tags},
        {"name": "plain.jpg", "contents": other},
        {"name": "many.jpg", "contents": third},
    ]
    found = training.send("POST", f"/projects/{project}/images/files", json={"images": images})
    assert (found.status_code, found.json()["isBatchSuccessful"]) == (207, False)
    assert [(item["sourceUrl"], item["status"]) for item in found.json()["images"]] == [
        ("good.jpg", "OK"), ("again.jpg", "OKDuplicate"), ("text.jpg", "ErrorImageFormat"), ("cut.jpg", "ErrorImageFormat"),
        ("large.jpg", "ErrorImageSize"), ("both.jpg", "ErrorTagLimitExceed"), ("plain.jpg", "OK"),
        ("many.jpg", "ErrorLimitExceed"),
    ]  # fmt: skip
    image = found.json()["images"][1]["image"]
    assert image == found.json()["images"][0]["image"]
    assert (image["width"], image["height"], image["tags"][0]["tagName"]) == (64, 64, "a")
    assert training.session.get(image["originalImageUri"], timeout=60).content == picture("down", 0)
    assert training.session.get(image["originalImageUri"][:-1], timeout=60).status_code == 404
    assert training.call("GET", f"/projects/{project}/images/count") == 2
    linked = training.call("POST", f"/projects/{project}/images/urls", json={"images": [
        {"url": image["originalImageUri"]}, {"url": "https://example.org/a.jpg"}, {"url": "file:///etc/passwd"},
    ]})  # fmt: skip
    assert [item["status"] for item in linked["images"]] == ["OKDuplicate", "ErrorSource", "ErrorSource"]


def test_what_is_not_an_upload_is_refused_and_leaves_nothing(training: VisionAccount) -> None:
    project = training.call("POST", "/projects", params={"name": "p"})["id"]
    path = f"/projects/{project}/images"
    nowhere = "00000000-0000-4000-8000-000000000000"
    small = {"contents": base64.b64encode(picture("down", 1)).decode()}
    for code, body in {
        "BadRequestExceededBatchSize": {"images": [small] * 65},
        "BadRequestImageBatch": {"images": []},
        "BadRequestInvalidIds": {"images": [small], "tagIds": [nowhere]},
        "BadRequest": [small],
    }.items():
        assert training.refusal("POST", f"{path}/files", json=body) == (400, code)
    many = {"images": [small], "tagIds": [nowhere[:-2] + f"{number:02}" for number in range(21)]}
    assert training.refusal("POST", f"{path}/files", json=many) == (400, "BadRequestExceededBatchSize")
    assert training.refusal("POST", path, data="text") == (415, "UnsupportedMediaType")
    assert training.refusal("GET", f"/projects/{nowhere}/images") == (404, "NotFoundProject")
    assert training.refusal("GET", "/projects/text/images") == (400, "BadRequestInvalidIds")
    assert training.refusal("DELETE", path) == (400, "BadRequestRequiredParamIsNull")
    assert training.call("GET", f"{path}/count") == 0


def test_training_is_refused_until_there_is_enough_to_learn(training: VisionAccount, prediction: VisionAccount) -> None:
    project, tags = filled_project(training, 4)
    train = f"/projects/{project}/train"
    assert training.refusal("POST", train) == (400, "BadRequestTrainingValidationFailed")
    for name, tag in tags.items():
        files = {"imageData": picture(name, 50)}
        training.call("POST", f"/projects/{project}/images", params={"tagIds": tag}, files=files)
    assert training.refusal("POST", train, params={"trainingType": "Advanced"}) == (
        400, "BadRequestReservedBudgetInHoursNotEnoughForAdvancedTraining",
    )  # fmt: skip
    first = training.trained(project)
    assert training.refusal("POST", train) == (400, "BadRequestTrainingNotNeeded")
    second = training.trained(project, forceTrain="true", trainingType="Advanced", reservedBudgetInHours="2")
    assert (second["name"], second["trainingTimeInMinutes"]) == ("Iteration 2", 120)  # all of the budget

    one, other = (f"/projects/{project}/iterations/{item['id']}" for item in (first, second))
    wanted = {"publishName": "live", "predictionId": prediction.id}
    assert training.refusal("POST", f"{one}/publish", params={**wanted, "predictionId": training.id}) == (
        400, "BadRequestInvalidPublishTarget",
    )  # fmt: skip
    training.call("POST", f"{one}/publish", params=wanted)
    assert training.refusal("POST", f"{other}/publish", params=wanted) == (400, "BadRequestInvalidPublishName")
    assert training.refusal("DELETE", one) == (400, "BadRequestIterationIsPublished")
    assert training.refusal("DELETE", f"/projects/{project}") == (400, "BadRequestIterationIsPublished")
    training.call("POST", f"{other}/publish", params={**wanted, "overwrite": "true"})
    training.call("DELETE", one)
    # An iteration keeps the images that it was trained with; the project forgets them.
    training.call("DELETE", f"/projects/{project}/images", params={"allImages": "true"})
    assert training.call("GET", f"/projects/{project}/images/tagged/count") == 0
    then = {"iterationId": second["id"]}
    assert training.call("GET", f"/projects/{project}/images/tagged/count", params=then) == 10
    assert training.call("GET", f"/projects/{project}/tags", params=then)[0]["imageCount"] == 5


def test_the_free_tier_has_its_limits(cloud: EmulatedCloud) -> None:
    free = VisionAccount(cloud, "training", "F0")
    limits, seconds = cloud.vision.limits["F0"], [0.0]
    assert (limits.projects, limits.images, limits.tags, limits.predictions) == (2, 5000, 50, 10_000)
    cloud.vision.access.clock = lambda: seconds[0]
    free.call("GET", "/domains")
    free.call("GET", "/domains")
    found = free.send("GET", "/domains")
    assert (found.status_code, found.headers["Retry-After"], found.json()["error"]["code"]) == (429, "1", "429")
    seconds[0] = 1.0
    free.call("GET", "/domains")

    limits.calls, limits.tags, limits.training_minutes = None, 2, 1
    project, _ = filled_project(free, 5)
    tags = f"/projects/{project}/tags"
    assert free.refusal("POST", tags, params={"name": "c"}) == (400, "BadRequestExceedTagPerProjectLimit")
    free.trained(project)
    again = {"forceTrain": "true"}
    assert free.refusal("POST", f"/projects/{project}/train", params=again) == (400, "BadRequestExceededQuota")
    free.call("POST", "/projects", params={"name": "two"})
    assert free.refusal("POST", "/projects", params={"name": "two"}) == (400, "BadRequestProjectNameNotUnique")
    assert free.refusal("POST", "/projects", params={"name": "three"}) == (400, "BadRequestExceedProjectLimit")

    predicting = VisionAccount(cloud, "prediction", "F0")
    iteration = free.call("GET", f"/projects/{project}/iterations")[0]["id"]
    wanted = {"publishName": "live", "predictionId": predicting.id}
    free.call("POST", f"/projects/{project}/iterations/{iteration}/publish", params=wanted)
    path, files = f"/{project}/classify/iterations/live/image", {"imageData": picture("down", 1)}
    limits.predictions = 1
    predicting.call("POST", path, files=files)
    assert predicting.refusal("POST", path, files=files) == (403, "403")
    limits.predictions = 9
    assert predicting.refusal("POST", path, files={"imageData": b"text"}) == (400, "BadRequestImageFormat")
    large = picture("down", 1) + bytes(4 * 1024 * 1024)
    assert predicting.refusal("POST", path, files={"imageData": large}) == (400, "BadRequestImageSizeBytes")


def test_a_fault_strikes_the_service_as_any_other(cloud: EmulatedCloud, training: VisionAccount) -> None:
    cloud.faults.fail("projects", 503)
    assert training.send("GET", "/projects").status_code == 503
    cloud.faults.lose("projects")
    with pytest.raises(requests.ConnectionError):
        training.send("POST", "/projects", params={"name": "lost"})
    assert [item["name"] for item in training.call("GET", "/projects")] == ["lost"]
