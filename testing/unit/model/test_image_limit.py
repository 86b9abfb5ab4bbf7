"""How large an image may be: what training accepted is not refused by the model."""

from __future__ import annotations

from pathlib import Path

import pytest
from testing.support.bundles import make_bundle
from testing.support.image_files import encoded, png_chunk, scene

from vision_mlops.core.errors import ImageError
from vision_mlops.model.bundle import read_bundle, write_bundle
from vision_mlops.model.predictor import Predictor


def png_of(width: int, height: int) -> bytes:
    """A PNG that lacks its pixels, whatever size its header claims."""
    png = encoded(scene(), "PNG")
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return png[:8] + png_chunk(b"IHDR", size + png[24:29]) + png[33:60]


@pytest.mark.parametrize(
    ("trained", "accepted", "refused"),
    [({}, 7_000, 7_500), ({"max_pixels": 60_000_000}, 7_500, 8_000), ({"max_pixels": 1_000_000}, 7_000, 7_500)],
    ids=["as it is", "more", "less"],
)
def test_images_as_large_as_those_of_training(
    tmp_path: Path, trained: dict[str, int], accepted: int, refused: int
) -> None:
    folder = make_bundle(tmp_path / "b")
    write_bundle(folder, read_bundle(folder).model_copy(update={"workload": {"data": trained}}))
    predictor = Predictor(folder)
    reasons = []
    for edge in (accepted, refused):
        with pytest.raises(ImageError) as caught:
            predictor.pixels(png_of(edge, edge))
        reasons.append(caught.value.reason)
    assert reasons == ["truncated", "too_large"]
    with pytest.raises(ImageError, match="limit of 1,000"):
        predictor.pixels(png_of(100, 100), max_pixels=1_000)
