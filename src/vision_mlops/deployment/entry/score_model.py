"""Entry script of a model deployment on a batch endpoint: the scoring script of the pipelines, on the model that is mounted.

The service gives a model deployment no arguments: it mounts the model and says where in AZUREML_MODEL_DIR. MLOPS_TOP_K is
how many classes a row gets; 0, the default, gives all. Needs the package, which the environment of the steps has.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vision_mlops.exceptions import BundleError
from vision_mlops.model.bundle import MANIFEST
from vision_mlops.pipeline.batch import score_batch


def init() -> None:
    """Load and verify the bundle; called once in each process.

    Raises:
        BundleError: there is none below AZUREML_MODEL_DIR, or it is broken.
        MlopsError: MLOPS_TOP_K is above the number of classes.
    """
    root = os.environ.get("AZUREML_MODEL_DIR", "")
    found = sorted(Path(root).rglob(MANIFEST), key=lambda path: len(path.parts)) if root else []
    if not found:
        raise BundleError(f"AZUREML_MODEL_DIR={root} holds no model bundle", "deploy a model with `mlops deploy`")
    score_batch.init(["--bundle", str(found[0].parent), "--top-k", os.environ.get("MLOPS_TOP_K") or "0"])


def run(mini_batch: Sequence[str]) -> list[str]:
    """Score the images of one mini-batch: one line of JSON for each. Raises DataError where none can be read."""
    return score_batch.run(mini_batch)
