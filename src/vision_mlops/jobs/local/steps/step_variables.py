"""Environment variables of a step beyond those of its definition: what Azure ML sets in every job, and what a caller adds.

Of Azure ML's, those that lead to the service itself, its address and tokens, are not set: there is none. What the caller of
the engine adds is not part of a step's cache key: a step that did the same before is reused whatever those variables say.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

RUN_ID = "AZUREML_RUN_ID"
_NO_SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
_LOCAL = "local"
OF_NODE = ("AZUREML_CR_NODE_RANK", "AZ_BATCHAI_TASK_INDEX")
"""The variables that hold the number of the node, from 0."""
FILE_VARIABLE = "MLOPS_STEP_VARIABLES"
"""Names a JSON file of variables by step, in which the empty name stands for all steps."""


def run_variables(run_id: str, root_id: str, experiment: str, work: Path, nodes: int = 1) -> dict[str, str]:
    """Return the variables of a step on its first node. The workspace is the one that the environment names, if any.

    Args:
        run_id: Id of the step's run in MLflow.
        root_id: Id of the run of the whole job.
        experiment: Name of the experiment.
        work: Working folder of the step.
        nodes: Number of nodes that are simulated.
    """
    subscription = _setting("AZURE_SUBSCRIPTION_ID", _NO_SUBSCRIPTION)
    group, workspace = _setting("AZURE_RESOURCE_GROUP", _LOCAL), _setting("AZUREML_WORKSPACE_NAME", _LOCAL)
    return {
        RUN_ID: run_id,
        "AZUREML_ROOT_RUN_ID": root_id,
        "AZUREML_EXPERIMENT_NAME": experiment,
        "AZUREML_EXPERIMENT_ID": experiment,
        "AZUREML_ARM_PROJECT_NAME": experiment,
        "AZUREML_ARM_SUBSCRIPTION": subscription,
        "AZUREML_ARM_RESOURCEGROUP": group,
        "AZUREML_ARM_WORKSPACE_NAME": workspace,
        "AZUREML_WORKSPACE_SCOPE": (
            f"/subscriptions/{subscription}/resourceGroups/{group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{workspace}"
        ),
        "AZUREML_CR_EXECUTION_WORKING_DIR_PATH": str(work),
        "AZUREML_NODE_COUNT": str(nodes),
        "AZUREML_PROCESS_NAME": "main",
        "AZ_BATCHAI_JOB_MASTER_NODE_IP": "127.0.0.1",
        "AZ_BATCHAI_MPI_MASTER_NODE": "localhost",
        **dict.fromkeys(OF_NODE, "0"),
    }


def added_variables(step: str) -> dict[str, str]:
    """Return the variables that the caller adds to a step; none if no file is named."""
    file = os.environ.get(FILE_VARIABLE)
    if not file:
        return {}
    content: dict[str, dict[str, str]] = json.loads(Path(file).read_text(encoding="utf-8"))
    return {**content.get("", {}), **content.get(step, {})}


def _setting(variable: str, default: str) -> str:
    return os.environ.get(variable, "").strip() or default
