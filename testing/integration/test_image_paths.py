"""One answer about an image from all that read images: data check, data prepare, training, evaluation, predict, batch
scoring and the server."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from testing.support.bundles import make_bundle
from testing.support.image_files import (
    ODD,
    ODD_EXIF,
    broken_metadata,
    encoded,
    exif,
    orientation_tag,
    tiff_with,
    whole_files,
    with_exif,
)
from testing.support.prepared_data import COLOURS
from testing.support.scoring_servers import in_process
from typer.testing import CliRunner

from vision_mlops.batch.prediction_rows import Failed, Scored, score_images
from vision_mlops.cli.main import app
from vision_mlops.config.workload import Workload
from vision_mlops.data.check.dataset_check import CheckSettings, check
from vision_mlops.data.check.file_listing import list_images
from vision_mlops.data.prepare import prepare
from vision_mlops.images.decoding import MAX_PIXELS
from vision_mlops.model.predictor import Predictor
from vision_mlops.training.training_batches import ImageSplit

SIZE = 64, 40


def picture(number: int) -> Image.Image:
    """A noisy picture of one colour: each is another one, so that nothing is left out as a copy."""
    colour = list(COLOURS.values())[number % len(COLOURS)]
    noise = np.random.default_rng(number).normal(0, 12, (SIZE[1], SIZE[0], 3))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


def files() -> dict[str, tuple[bytes, str]]:
    """Files under whatever suffix, with the reason for which each is refused, or none."""
    found: dict[str, tuple[bytes, str]] = {}
    for number, (name, (data, _)) in enumerate(ODD_EXIF.items()):
        kind = ("JPEG", "PNG", "WEBP")[number % 3]
        found[f"{name}.{'jpg' if number % 2 else kind.lower()}"] = with_exif(kind, picture(number), data), ""
    for number, orientation in enumerate((1, 3, 6, 8), 50):
        plain = encoded(picture(number), "TIFF", tiffinfo={0x0112: orientation})
        found[f"turned {orientation}.tif"] = tiff_with(plain, ODD), ""
    large = with_exif("JPEG", picture(70).resize((640, 400)), exif(orientation_tag(8)))
    found["large.jpg"] = large, ""
    found["short.jpg"] = large[: len(large) // 2], "truncated"
    found["short.png"] = encoded(picture(71), "PNG")[:2000], "truncated"
    found["iphone.jpg"] = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "unsupported_format"
    found |= {f"broken {number}.png": (data, "") for number, data in enumerate(broken_metadata().values())}
    found |= {f"whole {number}.jpg": (data, "") for number, (data, _) in enumerate(whole_files().values())}
    return {name: item for name, item in found.items() if len(item[0]) < 2**20}


@pytest.mark.slow
def test_all_agree_on_size_reason_and_probabilities(tmp_path: Path) -> None:
    given = files()
    folder = tmp_path / "photos"
    for place, (name, (data, _)) in enumerate(given.items()):
        path = folder / list(COLOURS)[place % 3] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    bundle = make_bundle(tmp_path / "bundle")
    predictor = Predictor(bundle)
    listing = list_images(folder)
    checked = check("x", listing, tmp_path, settings=CheckSettings(image_size=32, no_labels="not wanted"))
    looks = {entry.place: look for entry, look in zip(listing.entries, checked.looks, strict=True)}
    assert len(looks) == len(given)
    workload = Workload.model_validate(
        {"name": "photos", "data": {"min_images_per_class": 1}, "model": {"image_size": 32}}
    )
    prepared = prepare(workload, tmp_path / "prepared", images=folder)
    manifest = {record.sha256: record for record in prepared.manifest.images}
    left_out = {item.path: item.reason for item in prepared.manifest.excluded}
    paths = sorted(looks)
    rows = dict(zip(paths, score_images(predictor, [(str(path), path) for path in paths]), strict=True))
    done = CliRunner().invoke(app, ["predict", str(bundle), *map(str, paths), "--top-k", "3", "--json"])
    predicted = {item["image"]: item["predictions"] for item in json.loads(done.stdout)}

    with in_process(bundle, precision="f32") as url, httpx.Client(base_url=url) as client:
        for path in paths:
            reason, name = given[path.name][1], path.relative_to(folder).as_posix()
            row, look = rows[path], looks[path]
            answer = client.post("/score?top_k=3", content=path.read_bytes(), headers={"Content-Type": "image/jpeg"})
            if reason:
                assert isinstance(row, Failed)
                assert (row.code, look.reason, left_out[name]) == (reason, reason, reason)
                told = answer.json()["error"]
                assert (answer.status_code, told["code"]) == (415 if reason == "unsupported_format" else 422, reason)
                assert str(path) not in predicted
                words = {text.partition(": ")[2] for text in (row.message, look.message, told["message"])}
                assert len(words) == 1
                assert words.pop() in f"{done.stderr}{done.exception}"
                continue
            assert isinstance(row, Scored)
            assert not look.reason, look.message
            assert name not in left_out or left_out[name] in ("conflict", "leak"), name
            assert (look.width, look.height) == (row.width, row.height)
            if row.sha256 in manifest:
                record = manifest[row.sha256]
                assert (record.width, record.height) == (row.width, row.height)
            expected = predictor.score([predictor.pixels(path)]).probabilities[0]
            assert np.allclose(row.probabilities, expected, atol=1e-6)
            wanted = [{"label": label, "probability": round(value, 6)} for label, value in predictor.top(expected, 3)]
            assert predicted[str(path)] == wanted
            assert answer.json()["predictions"] == wanted
    sizes = {path.name: (look.width, look.height) for path, look in looks.items()}
    assert sizes["large.jpg"] == (400, 640)
    assert [sizes[f"turned {orientation}.tif"] for orientation in (1, 3, 6, 8)] == [SIZE, SIZE, SIZE[::-1], SIZE[::-1]]
    kinds = {finding.kind for finding in checked.findings}
    assert {"corrupt", "unsupported-format"} <= kinds
    for name in ("train", "val", "test"):
        split = ImageSplit(tmp_path / "prepared", prepared.manifest, name, workload)  # type: ignore[arg-type]
        for place, path in enumerate(split.files):
            expected_pixels = predictor.pixels(path, max_pixels=MAX_PIXELS)
            if min(split.records[place].width, split.records[place].height) < 128:  # no reduced scale
                assert np.array_equal(split.image(place).numpy(), expected_pixels), path
