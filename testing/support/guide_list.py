"""The order in which guides are read and run, and what makes them quick for a test."""

from __future__ import annotations

from testing.support.guide_blocks import ROOT

INDEX = ROOT / "docs" / "index.md"
"""The first page, which links to all of them."""

STORY = (
    "first_ten_minutes.md",
    "own_images.md",
    "report_and_gate.md",
    "second_version.md",
    "rollout.md",
    "monitor.md",
    "corrections.md",
    "laptop_to_azure.md",
)
"""One story in one folder: each goes on with what those before have made."""

REFERENCE = (
    "data.md",
    "batch.md",
    "serve.md",
    "web_app.md",
    "app_service.md",
    "azure.md",
    "benchmark.md",
    "custom_vision.md",
    "automl_images.md",
    "project.md",
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
    "environments.md",
    "migrate_v1.md",
)
"""Guides to one subject each. They find the model `fabric` of the second guide of the story, and leave it as it was."""

BEGINNING = STORY[1:2]

BY_ITSELF = ("own_code.md",)
"""Guides that a test of their own runs, on other images or settings: testing/e2e/test_own_code_guide.py."""

QUICK = {
    "MLOPS_MODEL__BACKBONE": "test_resnet",
    "MLOPS_MODEL__PRETRAINED": "false",
    "MLOPS_MODEL__IMAGE_SIZE": "32",
    "MLOPS_MODEL__FROZEN_STAGES": "0",
    "MLOPS_TRAINING__EPOCHS": "1",
    "MLOPS_GATE__MIN_ACCURACY": "0.1",
    "MLOPS_GATE__MIN_RECALL_PER_CLASS": "0",
    "MLOPS_GATE__MAX_CALIBRATION_ERROR": "1",
    "OMP_NUM_THREADS": "1",
}
"""Settings that train in seconds what learns little; all else is what the guides say."""
