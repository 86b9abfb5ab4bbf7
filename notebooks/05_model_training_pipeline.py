# %% [markdown]
# # 5. The training pipeline
#
# Notebooks are for finding out. What should happen again, every week or whenever there are new images, belongs in a
# pipeline: the same steps in the same order, each with defined inputs and outputs, started by a clock or by a colleague
# who has never seen the notebook.

# %%
# %load_ext vision_mlops.notebooks
import os
from pathlib import Path

import yaml

from vision_mlops.jobs.definitions.plan.plan_picture import draw_plan
from vision_mlops.jobs.pipelines import PIPELINES
from vision_mlops.notebooks.notebook_commands import run_command
from vision_mlops.notebooks.notebook_project import open_project

project = open_project()
component = PIPELINES / "train-component.yml"
endpoint = f"{project.name[:20].replace('_', '-')}-train-nb"
print(f"pipeline for the workload {project.name}, at the batch endpoint {endpoint}")

# %% [markdown]
# ## Its steps
#
# The graph comes from the YAML. An arrow is an output of one step that another step reads; steps that no arrow connects
# may run at the same time. Each step is one of the commands that the previous notebooks have used.

# %%
draw_plan(component)

# %% [markdown]
# `mlops job lint` finds what Azure would refuse before anything is sent: wrong names, types, bindings and paths.

# %%
run_command("job", "lint", component)

# %% [markdown]
# On this machine, `mlops run --workload NAME` runs these steps, and reuses those whose inputs have not changed. Use it to
# develop a pipeline. The next section *publishes* the pipeline.

# %% [markdown]
# ## On Azure: publish
#
# Publishing puts the pipeline behind a batch endpoint: an address that starts it, for people and programs that have no copy
# of this project. If you publish again without a change, nothing happens; with a change, the new version is deployed.

# %%
from vision_mlops.notebooks.azure_session import connect_azure

azure = connect_azure()
print(azure)

# %%
run_command("pipeline", "publish", component, "--endpoint", endpoint, "--workload", project.name)

# %% [markdown]
# ## Trigger
#
# Whoever triggers it says what to train and why, so the tag can be found later. The images are the version that
# `01_dataset_setup` has registered. The command follows the job to its end.

# %%
run_command(
    "pipeline", "trigger", endpoint, "--workload", project.reference, "--images", f"azureml:{project.name}@latest",
    "--tag", "reason=notebook", "--wait",
)  # fmt: skip

# %% [markdown]
# The job has registered a version in the workspace, which was judged against the champion there.

# %%
# %mlops models list {project.name}

# %% [markdown]
# ## Schedule
#
# A schedule starts a job at certain times. It is also YAML: when, and which job. The job is the pipeline `train.yml`, which
# has the same steps as the component, with this workload and its newest registered images.

# %%
job = yaml.safe_load((PIPELINES / "train.yml").read_text())
job["inputs"] |= {"workload": project.content, "model_name": project.name}
job["jobs"]["prepare"]["inputs"]["images"] = {"type": "uri_folder", "path": f"azureml:{project.name}@latest"}
components = os.path.relpath(PIPELINES / "components", project.notes)
for step in job["jobs"].values():
    step["component"] = f"file:{components}/{Path(step['component']).name}"
schedule = {
    "$schema": "https://azuremlschemas.azureedge.net/latest/schedule.schema.json",
    "name": f"{endpoint}-weekly",
    "display_name": "Train each week",
    "trigger": {
        "type": "recurrence",
        "frequency": "week",
        "interval": 1,
        "schedule": {"hours": 2, "minutes": 0, "week_days": ["monday"]},
        "time_zone": "UTC",
    },
    "create_job": "./scheduled_job.yml",
}
project.notes.mkdir(parents=True, exist_ok=True)
for name, content in {"scheduled_job.yml": job, "schedule.yml": schedule}.items():
    (project.notes / name).write_text(yaml.safe_dump(content, sort_keys=False))
run_command("job", "lint", project.notes / "schedule.yml")

# %%
run_command("pipeline", "schedule", "create", project.notes / "schedule.yml", "--workload", project.name)

# %%
# %mlops pipeline schedule list

# %% [markdown]
# A schedule trains, and thus costs money, until somebody stops it. Delete this one at once.

# %%
run_command("pipeline", "schedule", "pause", schedule["name"])
run_command("pipeline", "schedule", "delete", schedule["name"])

# %% [markdown]
# `mlops down` lists everything that was created in Azure for a workload and what it costs a month, and removes it. With
# `--dry-run`, it only lists.

# %%
# %mlops down --workload {project.name} --dry-run

# %%
azure.close()
