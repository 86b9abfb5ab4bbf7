"""A repository as teams had them with version 1 of Azure ML, written for the tests: it runs nowhere any more."""

from __future__ import annotations

import json
from pathlib import Path

TRAIN = """\
import argparse

from azureml.core import Run
import azureml.mlflow

run = Run.get_context()


def report(epoch: int, accuracy: float) -> None:
    run.log("accuracy", accuracy)
    logged = run.parent.log
    name = run.experiment.workspace.name


if __name__ == "__main__":
    report(1, 0.5)
    run.register_model(model_name="flowers", model_path="outputs/model.pt")
"""
SUBMIT = """\
import azureml.core as aml
from azureml.core import Environment as Env, Experiment, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.train.dnn import PyTorch
from azureml.train.hyperdrive import (
    BanditPolicy,
    HyperDriveConfig,
    choice,
)

ws = Workspace.from_config()
env = Env.from_conda_specification("flowers", "conda.yml")
wanted = AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", vm_priority="lowpriority")
target = ComputeTarget.create(ws, "gpu", wanted)
ws.get_default_datastore().upload("photos", target_path="flowers")
images = aml.Dataset.File.from_files("photos")
job = Experiment(ws, "flowers").submit(PyTorch(source_directory="."))
job.wait_for_completion()
model = "a text"
model.register = None
"""
DEPLOY = """\
from azureml.core.model import InferenceConfig, Model
from azureml.core.webservice import AciWebservice, AksWebservice, Webservice

service = Model.deploy(None, "flowers", [], InferenceConfig(), AciWebservice.deploy_configuration())
service.get_logs()
"""
PIPELINE = """\
from azureml.pipeline.core import Pipeline, PipelineData
from azureml.pipeline.steps import PythonScriptStep

published = Pipeline(None, [PythonScriptStep("train.py")]).publish("flowers")
published.submit(None)
"""
OLD = """\
from azureml.core import Workspace
print "python 2"
"""
CLEAN = '''\
from azure.ai.ml import MLClient, command
from azureml.ai.monitoring import Collector
from mlflow import log_metric
from .workspace import Workspace


class Run:
    def log(self) -> None:
        # az ml run submit-script
        """Environment.from_conda_specification."""


Run().log()
'''
ADO = """\
pool:
  vmImage: ubuntu-18.04
steps:
  - task: UsePythonVersion@0
    inputs:
      versionSpec: '3.7'
  - task: AzureCLI@1
    inputs:
      inlineScript: |
        az extension add --name azure-cli-ml
        az ml model deploy --name flowers
        az ml   run submit-script -c train
        az ml model list
        az ml job create --file job.yml
  - task: publisher.extension.MLPublishedPipelineRestAPITask@0
  - task: Docker@1
  - task: PublishCodeCoverageResults@1
  - job: mac
    pool: {vmImage: 'macOS-10.15'}
"""
DOCKERFILE = """\
FROM mcr.microsoft.com/azureml/openmpi3.1.2-ubuntu18.04:20200723.v1
# az ml run history
RUN pip install azureml-defaults==1.5.0
"""
ACI = '{"computeType": "ACI", "containerResourceRequirements": {"cpu": 1}}\n'
CELLS: list[tuple[str, str]] = [
    ("markdown", "# az ml run: what this notebook is about"),
    ("code", "%matplotlib inline\nfrom azureml.core import Workspace\nws = Workspace.from_config()"),
    ("code", "!az ml service list\nfiles = !ls\nif files:\n    %time print(files)\nstore = ws.get_default_datastore()"),
    ("code", "%%bash\naz ml computetarget list"),
    ("code", "await something\nstore.download('.')"),
    ("code", "from azureml.widgets import RunDetails\nprint 'two'"),
]
FILES = {
    "train.py": TRAIN,
    "submit.py": SUBMIT,
    "deploy.py": DEPLOY,
    "pipeline.py": PIPELINE,
    "old.py": OLD,
    "clean.py": CLEAN,
    "azure-pipelines.yml": ADO,
    "docker/Dockerfile": DOCKERFILE,
    "deployment.json": ACI,
    "README.md": "Run `az ml run submit-script`, see azureml.core.\n",
    ".venv/lib/python3.7/site-packages/azureml/core.py": TRAIN,
    "node_modules/x/train.py": TRAIN,
}


def write_v1_project(folder: Path) -> Path:
    """Write the repository; returns its folder."""
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    cells = [
        {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True), "outputs": []}
        for kind, source in CELLS
    ]
    (folder / "explore.ipynb").write_text(
        json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": cells})
    )
    (folder / "weights.txt").write_bytes(b"\0az ml run\0" * 10)
    (folder / "photos.json").write_text(json.dumps("az ml run " * 200_000))
    return folder
