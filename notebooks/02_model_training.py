# %% [markdown]
# # 2. Training
#
# There are two ways to train: once, with the settings of the workload (a *script run*), and several times with different
# settings (a *sweep*). Both are jobs in Azure ML's YAML, and both run on this machine unchanged: the file that you debug
# here in seconds is the one that is sent to a cluster.
#
# This notebook needs the data that `01_dataset_setup` has registered.

# %%
# %load_ext vision_mlops.notebooks
import json
from pathlib import Path

from vision_mlops.core.figures import Picture
from vision_mlops.notebooks.notebook_commands import read_command, run_command
from vision_mlops.notebooks.notebook_project import open_project
from vision_mlops.tracking.learning_curves import draw_learning_curves

project = open_project()
settings = project.workload.training
print(f"workload {project.name}: {settings.epochs} epochs, learning rate {settings.learning_rate}")

# %% [markdown]
# ## A script run
#
# The network was already trained on ImageNet: its first layers know edges and textures, and are kept
# (`model.frozen_stages`). The later ones are adapted to our classes, which takes minutes instead of days.
#
# A command job is a command with its inputs, its outputs and where it runs:

# %%
print(Path("notebooks/jobs/script_run.yml").read_text())

# %% [markdown]
# The job is checked before it runs. Then the step gets its own working copy and its inputs, and its output is stored under
# a key of everything that it depends on. Running the same job again takes no time.

# %%
# %mlops job lint notebooks/jobs/script_run.yml notebooks/jobs/sweep.yml

# %%
script = read_command("job", "run", "notebooks/jobs/script_run.yml", *project.job_inputs)
script_bundle = Path(script["outputs"]["bundle"])

# %% [markdown]
# ## Learning curves
#
# MLflow has recorded the loss and accuracy after each epoch. This is what to look for:
#
# - both curves still fall: train longer;
# - the validation loss rises while the training loss falls: the network learns the images by heart. Train shorter, add
#   images, or augment them more;
# - neither falls: the learning rate is wrong, or the labels are.


# %%
def run_of(bundle: Path) -> str:
    """The MLflow run that made a bundle."""
    return json.loads((bundle / "bundle.json").read_text())["run_id"]


draw_learning_curves({"script run": run_of(script_bundle)})

# %% [markdown]
# ## A sweep
#
# You cannot know which learning rate is best; you have to try. A sweep runs the same command once for each value, two at
# a time, and keeps the bundle of the trial with the best *validation* accuracy. The test images are not used: a setting
# that was chosen with them would look better than it is.
#
# With more than one setting, `sampling_algorithm: random` or `bayesian` finds good values in fewer trials than a grid, and
# `early_termination` ends trials that fall behind.

# %%
sweep = read_command("job", "run", "notebooks/jobs/sweep.yml", *project.job_inputs)
sweep_bundle = Path(sweep["outputs"]["bundle"])
for trial in sweep["steps"]["sweep"]["details"]["trials"]:
    print(f"trial {trial['number']}: {trial['values']} {trial['state']}, val_accuracy {trial['metric']:.4f}")

# %%
Picture((Path(sweep["steps"]["sweep"]["folder"]) / "trials" / "trials.svg").read_text().partition("?>")[2])

# %%
draw_learning_curves({"script run": run_of(script_bundle), "best trial": run_of(sweep_bundle)})

# %% [markdown]
# ## Register both
#
# A registered version is the bundle (network, classes, preprocessing, golden examples) with its origin: data, run, commit.
# The next notebooks judge the two versions, and roll out the second one where the first one serves. `remember` notes which
# version is which.

# %%
for word, bundle in {"first": script_bundle, "second": sweep_bundle}.items():
    version = read_command("models", "register", "--bundle", bundle, "--name", project.name, "--data", project.data)
    project.remember(**{word: version["reference"]})
    print(f"the {word} version is {version['reference']}, from the MLflow run {version['run_id'][:8]}")

# %% [markdown]
# ## On Azure
#
# Submit the same two files with `--on azure`. Before a job is submitted, `mlops` makes sure that its environment and its
# cluster exist. Then it follows the job and downloads outputs and metrics. Ctrl-C stops following the job, but does not
# cancel it.

# %%
from vision_mlops.notebooks.azure_session import connect_azure

azure = connect_azure()
print(azure)

# %%
run_command("job", "run", "notebooks/jobs/script_run.yml", "--on", "azure", *project.job_inputs)

# %%
run_command("job", "run", "notebooks/jobs/sweep.yml", "--on", "azure", *project.job_inputs)

# %%
# %mlops job list --on azure

# %%
azure.close()
