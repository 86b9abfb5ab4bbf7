"""The data contract: requirements for the images of the workload before anything is trained on them."""

from __future__ import annotations

from pathlib import Path

import yaml
from vision_mlops.config.workload import Workload
from vision_mlops.data.prepare import prepare
from vision_mlops.data.sources import find_source

CONTRACT = yaml.safe_load(Path(__file__).with_name("data_contract.yml").read_text(encoding="utf-8"))


def test_the_classes_are_those_of_the_contract(workload: Workload, handful: Path) -> None:
    assert CONTRACT["classes"], "name the classes in tests/data_contract.yml"
    assert find_source(workload, handful).classes == sorted(CONTRACT["classes"])


def test_every_image_can_be_used(workload: Workload, handful: Path, tmp_path: Path) -> None:
    """Check that each image decodes, that there are no duplicates, and that no image is in two classes."""
    few = workload.data.model_copy(update={"min_images_per_class": 3})
    result = prepare(workload.model_copy(update={"data": few}), tmp_path / "data", images=handful)
    assert result.manifest.excluded == []
    assert {record.split for record in result.manifest.images} == {"train", "val", "test"}
