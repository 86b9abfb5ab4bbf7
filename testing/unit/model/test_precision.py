"""In which precision a bundle is computed where nobody asks for one, and what the documentation says about it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from testing.support.bundles import make_bundle

from vision_mlops.batch.batch_scoring import BatchOptions
from vision_mlops.cli.batch import score as batch_score
from vision_mlops.cli.serve import serve
from vision_mlops.model.predictor import Predictor, load_predictor
from vision_mlops.serving.served_model import ModelSource

DOCS = Path(__file__).parents[3] / "docs/how_to"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b")


def hint(predictor: Predictor) -> str:
    return str(predictor._model.get_property("INFERENCE_PRECISION_HINT").to_string())


def test_the_processor_does_not_choose_unless_it_is_told_to(bundle: Path) -> None:
    """OpenVINO would: bf16 where there are instructions for it."""
    assert hint(Predictor(bundle)) == "f32"


def test_auto_is_near_enough_for_the_golden_examples_only(bundle: Path) -> None:
    exact, fast = Predictor(bundle), load_predictor(bundle, precision="auto")
    pixels = [np.full((32, 32, 3), level, np.uint8) for level in range(0, 256, 5)]
    gap = np.abs(exact.score(pixels).probabilities - fast.score(pixels).probabilities).max()
    assert gap <= 0.06, "the documentation says so"
    if hint(fast) == "f32":
        assert gap == 0


@pytest.mark.parametrize(("page", "command"), [("batch.md", batch_score), ("serve.md", serve)])
def test_the_pages_name_the_default(page: str, command: object) -> None:
    (told,) = re.findall(r"`--precision (\w+)`, the default", (DOCS / page).read_text(encoding="utf-8"))
    assert inspect.signature(command).parameters["precision"].default == told  # type: ignore[arg-type]
    options = BatchOptions() if page == "batch.md" else ModelSource(Path("b"))
    assert options.precision == told
