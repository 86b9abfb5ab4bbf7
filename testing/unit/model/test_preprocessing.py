"""How a bundle says in which way its network's pixels were made, and that older ones keep their way and their id."""

from __future__ import annotations

import hashlib

import pytest

from vision_mlops.images.decoding import PIXELS_VERSION
from vision_mlops.model.bundle import Bundle, Preprocessing, bundle_id

OLD = '{"image_size":32,"resize":"squash"}'
REDUCED = '{"image_size":32,"resize":"squash","jpeg_scaling":true}'


@pytest.mark.parametrize(("text", "version"), [(OLD, 0), (REDUCED, 1)])
def test_older_bundles(text: str, version: int) -> None:
    spec = Preprocessing.model_validate_json(text)
    assert spec.pixels_version == version
    bundle = Bundle(name="b", classes=["a", "b"], preprocessing=spec, backbone="tiny", data_fingerprint="f")
    assert bundle_id(bundle) == hashlib.sha256("\0".join(["", "a", "b", text]).encode()).hexdigest()[:12]


def test_a_new_bundle_says_its_version() -> None:
    spec = Preprocessing(image_size=32, version=PIXELS_VERSION)
    assert Preprocessing.model_validate_json(spec.model_dump_json()).pixels_version == PIXELS_VERSION
    bundles = [Bundle(name="b", classes=["a", "b"], preprocessing=item, backbone="tiny", data_fingerprint="f")
               for item in (spec, Preprocessing.model_validate_json(REDUCED))]  # fmt: skip
    assert len({bundle_id(item) for item in bundles}) == 2, "they answer differently"
