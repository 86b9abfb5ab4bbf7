"""The order in which guides are read and run, and what makes them quick for a test."""

from __future__ import annotations

from testing.support.guide_blocks import ROOT

INDEX = ROOT / "docs" / "index.md"
"""The first page, which links to all of them."""

STORY = (
    "first_ten_minutes.md",
    "own_images.md",
)
"""One story in one folder: each goes on with what those before have made."""

REFERENCE: tuple[str, ...] = (
    "run_jobs.md",
    "deploy.md",
    "deploy_local.md",
    "deploy_docker.md",
    "deploy_aci.md",
    "deploy_aks.md",
    "deploy_azureml.md",
    "images.md",
    "infrastructure.md",
    "doctor.md",
    "devops_init.md",
    "ci_cd.md",
    "private_networks.md",
    "promotion.md",
    "cost.md",
    "troubleshooting.md",
    "distributed_training.md",
    "sweeps.md",
)
"""Guides to one subject each. They find what the first two of the story have made, and leave it as it was."""

BEGINNING = STORY[:2]

TO_CONVERT = frozenset(
    {
        "README.md",
        "docs/how_to/app_service.md",
        "docs/how_to/azure.md",
        "docs/how_to/batch.md",
        "docs/how_to/corrections.md",
        "docs/how_to/data.md",
        "docs/how_to/evaluate.md",
        "docs/how_to/monitor.md",
        "docs/how_to/rollout.md",
        "docs/how_to/serve.md",
        "docs/how_to/web_app.md",
    }
)
"""Documents whose blocks are not yet as they should be."""

TO_RUN = frozenset(
    {
        "app_service.md",
        "automl_images.md",
        "azure.md",
        "batch.md",
        "benchmark.md",
        "corrections.md",
        "custom_vision.md",
        "data.md",
        "evaluate.md",
        "monitor.md",
        "rollout.md",
        "serve.md",
        "web_app.md",
    }
)
"""Guides that no test runs yet."""

QUICK = {
    "MLOPS_MODEL__IMAGE_SIZE": "64",
    "MLOPS_TRAINING__EPOCHS": "1",
    "MLOPS_GATE__MIN_ACCURACY": "0.1",
    "MLOPS_GATE__MIN_RECALL_PER_CLASS": "0",
    "MLOPS_GATE__MAX_CALIBRATION_ERROR": "1",
}
"""Settings that train in seconds what learns little; a workload's own settings stay what the guides say."""
