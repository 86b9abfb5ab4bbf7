"""The variables that Azure ML sets in every job and that scripts read: who runs, in which workspace, on which node.

Those that lead to the service itself, its address and tokens, are not set: there is none.
"""

from __future__ import annotations

import os
from pathlib import Path

RUN_ID = "AZUREML_RUN_ID"
_NO_SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
_LOCAL = "local"
OF_NODE = ("AZUREML_CR_NODE_RANK", "AZ_BATCHAI_TASK_INDEX")
"""Those that hold the number of the node, from 0."""


def run_variables(run_id: str, root_id: str, experiment: str, work: Path, nodes: int = 1) -> dict[str, str]:
    """Variables of a step on its first node. The workspace is that of the environment, where it names one.

    Args:
        run_id: Of the step's run, as MLflow knows it.
        root_id: Of the run of the whole job.
        experiment: Name of the experiment.
        work: Working folder of the step.
        nodes: How many nodes are rehearsed.
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


def _setting(variable: str, default: str) -> str:
    return os.environ.get(variable, "").strip() or default
