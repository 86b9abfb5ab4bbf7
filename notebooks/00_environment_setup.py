# %% [markdown]
# # 0. Environment
#
# These notebooks lead from a folder of labelled images to a classifier in production, and show at each step what Azure
# Machine Learning makes of it:
#
# | notebook | what it is about |
# | --- | --- |
# | `00_environment_setup` | what code runs in, here and on Azure |
# | `01_dataset_setup` | images: look at them, check them, split them, register them |
# | `02_model_training` | a single training, and a sweep over settings |
# | `03_model_evaluation` | how good the model is, and whether it may replace the one in use |
# | `04_model_deployment` | endpoints, and a rollout of a second version |
# | `05_model_training_pipeline` | all of it as one pipeline that is published and scheduled |
# | `10_custom_vision_model` | is it worth it? A comparison with Azure Custom Vision |
#
# Run them in this order. **No account is needed**: the cells below *On Azure* talk to the workspace that your settings
# name, and where there are none, to an emulator on this machine.
#
# The notebooks are thin. What they do is in the package `vision_mlops` and its command `mlops`, which pipelines and
# terminals use as well: nothing has to be rewritten when an experiment becomes a product.

# %% [markdown]
# ## The project
#
# `%mlops` is the command `mlops` of the terminal. Unlike `!mlops`, it ends the cell with an error when the command fails.
# `open_project` goes to the root of the project and chooses the workload: the one that the variable `MLOPS_WORKLOAD` names,
# else the first in `workloads/`, else `textile`, whose 2,000 images come with the packages.

# %%
# %load_ext vision_mlops.notebooks
from vision_mlops.notebooks.notebook_project import open_project

project = open_project()
print(f"workload {project.name}: {project.workload.title}")

# %% [markdown]
# A workload is one YAML file. It says where the images are, which network learns them, for how long, and what the model
# must reach before anybody may use it. This is all of it, defaults included. Any key can be changed for one run by a
# variable, such as `MLOPS_TRAINING__EPOCHS=2`.

# %%
# %mlops config show --workload {project.reference}

# %% [markdown]
# ## This machine
#
# Most failures of a first run have their cause in the machine: a wrong Python, a full disk, a missing package.
# `mlops doctor` looks for them before anything long is started, and says how to fix each.

# %%
# %mlops doctor

# %% [markdown]
# ## Why environments
#
# A model is the result of code, data **and** packages. On a laptop the packages are those of `.venv`. On Azure each job gets
# a machine that has nothing, so the packages must be written down. There are three sets, because they have different jobs:
#
# - `dev`: everything, for people;
# - `train`: what training and evaluation need, above all PyTorch;
# - `deploy`: what serving needs. It has no PyTorch, so a container starts in seconds and has less that can be attacked.
#
# ```mermaid
# flowchart LR
#     pins["requirements/*.txt<br>pinned versions"] --> dev & train & deploy
#     dev --> laptop["notebook, terminal, CI"]
#     train --> jobs["jobs on a cluster"]
#     deploy --> endpoints["scoring servers"]
# ```

# %% [markdown]
# ## On Azure
#
# `connect_azure` takes the workspace of your settings (`.env` or variables, see `docs/how_to/azure.md`). Without a
# subscription there it starts the emulator, which answers under Azure's addresses and really runs what is submitted. It ends
# with this notebook; what it has made stays in `outputs/emulator` for the next one.

# %%
from vision_mlops.notebooks.azure_session import connect_azure

azure = connect_azure()
print(azure)

# %% [markdown]
# The doctor asks Azure, too: who is signed in, with which roles, and whether there is quota for a job. It only asks, and
# changes nothing.

# %%
# %mlops doctor --azure --for jobs

# %% [markdown]
# Now the three environments. Their versions are made from their content: an environment that has not changed is not
# registered again, and a job can always say what it ran in.

# %%
# %mlops env register dev train deploy

# %%
# %mlops env register train

# %% [markdown]
# The last line of a notebook that has used Azure ends the emulator. Against a real workspace it does nothing.

# %%
azure.close()
