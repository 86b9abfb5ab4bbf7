"""From forty corrected images of a kind that the model gets wrong to a better one that is promoted, by the real commands."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from testing.support.journey import Journey
from testing.support.web_app import web_app

from vision_mlops.data.manifest import Manifest, read_manifest
from vision_mlops.evaluation.gate import read_verdict
from vision_mlops.serving.launch import running_server

pytestmark = pytest.mark.slow

WORKLOAD = """
name: fruit
data: {path: fruit}
gate: {min_accuracy: 0.6, min_recall_per_class: 0.3, max_calibration_error: 1, max_latency_ms: 10000}
"""
RED, GREEN, GREY, PALE = (190, 60, 50), (80, 160, 60), (120, 120, 130), (110, 165, 60)


def pictures(colour: Sequence[int], count: int, seed: int) -> list[bytes]:
    """Pictures of one kind: its colour, brighter at one side than at the other, with noise."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        light = Image.fromarray(generator.integers(0, 60, (3, 3), dtype=np.uint8)).resize((48, 40))
        noise = generator.normal(0, 12, (40, 48, 3))
        pixels = np.clip(np.array(colour) - 30 + np.asarray(light)[..., None] + noise, 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        made.append(stream.getvalue())
    return made


def write(folder: Path, images: list[bytes], kind: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        (folder / f"{kind} {number}.png").write_bytes(image)


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    """Ripe fruit is red where the model learns; where it is judged and used, there is a kind that stays pale green, too."""
    journey = Journey(tmp_path_factory.mktemp("fruit"))
    (journey.folder / "workloads").mkdir()
    (journey.folder / "workloads" / "fruit.yml").write_text(WORKLOAD)
    for seed, (split, count) in enumerate({"train": 30, "val": 12, "test": 16}.items()):
        for label, colour in {"ripe": RED, "unripe": GREEN, "stone": GREY}.items():
            write(journey.folder / "fruit" / split / label, pictures(colour, count, 10 * seed + len(label)), "usual")
    for seed, (split, count) in enumerate({"val": 6, "test": 16}.items()):
        write(journey.folder / "fruit" / split / "ripe", pictures(PALE, count, 100 + seed), "pale")
    write(journey.folder / "later", pictures(PALE, 20, 200), "pale")
    return journey


def right(journey: Journey, model: str) -> float:
    """Share of the images that nobody has trained on or corrected which a model gets right."""
    answers = journey.json("predict", model, "later", "--top-k", "1")
    assert len(answers) == 20
    return float(np.mean([answer["predictions"][0]["label"] == "ripe" for answer in answers]))


def correct(browser: httpx.Client, image: bytes) -> str:
    """Have an image classified and correct the answer, as a page does; the class that was given."""
    sent = {"image": ("image.png", image)}
    answer: dict[str, Any] = browser.post("/api/classify", files=sent).raise_for_status().json()
    predicted = str(answer["predictions"][0]["label"])
    said = {"label": "ripe", "predicted": predicted, "request_id": answer["request_id"]}
    said |= {f"model_{key}": answer["model"][key] for key in ("name", "version", "id")}
    response = browser.post("/api/corrections", files=sent, data=said)
    assert response.status_code == 201, response.text
    return predicted


def judging(manifest: Manifest) -> set[tuple[str, str, str]]:
    return {(image.path, image.label, image.sha256) for image in manifest.images if image.split != "train"}


@pytest.mark.timeout(900)
def test_forty_corrections_make_a_better_version(journey: Journey) -> None:
    data = journey.folder / "outputs" / "data" / "fruit"
    done = journey.run("run", "--workload", "fruit")
    assert "registered fruit:1 (@champion, verdict promote)" in done.stderr
    first = read_manifest(data)
    assert right(journey, "fruit:1") <= 0.2

    bundle, kept = journey.folder / "outputs" / "bundles" / "fruit", journey.folder / "corrections"
    with (
        running_server(bundle, name="fruit", version="1") as url,
        web_app(url, CORRECTIONS=str(kept)) as address,
        httpx.Client(base_url=address, timeout=60) as browser,
    ):
        token = re.search(r'name="csrf-token" content="([^"]+)"', browser.get("/").text)
        assert token
        browser.headers["X-CSRFToken"] = token[1]
        said = [correct(browser, image) for image in pictures(PALE, 40, 300)]
    assert said.count("ripe") <= 8

    added = journey.json("data", "add-labels", "corrections", "--workload", "fruit")
    assert (added["added"], added["not_added"], added["reference"]) == ({"ripe": 40}, {}, "azureml:fruit:1")

    done = journey.run("run", "--workload", "fruit", "--images", "azureml:fruit:1")
    assert "verdict: promote" in done.stdout
    assert "registered fruit:2 (@champion, verdict promote)" in done.stderr
    (verdict,) = (read_verdict(path) for path in (journey.folder / "outputs" / "verdicts").iterdir())
    assert any(reason["message"].startswith("significantly better: ") for reason in verdict["reasons"])
    second = read_manifest(data)
    assert (second.source, judging(second)) == ("azureml:fruit:1", judging(first)), (
        "both were judged on the same images"
    )
    assert right(journey, "fruit@champion") >= 0.9
