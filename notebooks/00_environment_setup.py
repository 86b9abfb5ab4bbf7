# %% [markdown]
# # 0. Environment
#
# These notebooks lead from a folder of labelled images to a classifier in production, and show at each step how it
# works on Azure Machine Learning:
#
# | notebook | what it is about |
# | --- | --- |
# | `00_environment_setup` | environments that the code runs in, on this machine and on Azure |
# | `01_dataset_setup` | images: look at them, check them, split them, register them |
# | `02_model_training` | a single training, and a sweep over settings |
# | `03_model_evaluation` | how good the model is, and whether it may replace the one in use |
# | `04_model_deployment` | endpoints, and a rollout of a second version |
# | `05_model_training_pipeline` | all of it as one pipeline that is published and scheduled |
# | `10_custom_vision_model` | a comparison with Azure Custom Vision |
#
# Run them in this order. **No account is needed**: the cells below *On Azure* use the workspace that your settings
# name, or, if there is none, an emulator on this machine.
#
# The notebooks are thin. The work is done by the package `vision_mlops` and its command `mlops`, which pipelines and
# terminals use as well, so you need not rewrite anything when an experiment becomes a product.

# %% [markdown]
# ## The project
#
# `%mlops` is the command `mlops` of the terminal. Unlike `!mlops`, it ends the cell with an error if the command fails.
# `open_project` changes to the root of the project and chooses the workload: the one that the variable `MLOPS_WORKLOAD`
# names, or else the first in `workloads/`, or else `textile`, whose 2,000 images come with the packages.

# %%
# %load_ext vision_mlops.notebooks
from vision_mlops.notebooks.notebook_project import open_project

project = open_project()
print(f"workload {project.name}: {project.workload.title}")

# %% [markdown]
# A workload is one YAML file. It says where the images are, which network learns them, for how long, and what the model
# must reach before anybody may use it. The next cell shows all of it, including defaults. A variable such as
# `MLOPS_TRAINING__EPOCHS=2` changes a key for one run.

# %%
# %mlops config show --workload {project.reference}

# %% [markdown]
# ## This machine
#
# Most failures of a first run are caused by the machine: a wrong Python, a full disk, a missing package.
# `mlops doctor` checks for them before anything long is started, and says how to fix each.

# %%
# %mlops doctor

# %% [markdown]
# ## Why environments
#
# A model is the result of code, data **and** packages. On a laptop, the packages are those of `.venv`. On Azure, each job
# gets an empty machine, so the packages must be written down. There are three sets, because they have different purposes:
#
# - `dev`: everything, for people;
# - `train`: what training and evaluation need, above all PyTorch;
# - `deploy`: what serving needs. It has no PyTorch, so a container starts in seconds and has a smaller attack surface.
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
# `connect_azure` uses the workspace of your settings (`.env` or variables, see `docs/how_to/azure.md`). Without a
# subscription, it starts the emulator, which responds at Azure's addresses and really runs what is submitted. It ends
# with this notebook; what it has created stays in `outputs/emulator` for the next one.

# %%
from vision_mlops.notebooks.azure_session import connect_azure

azure = connect_azure()
print(azure)

# %% [markdown]
# The doctor also checks Azure: who is signed in, with which roles, and whether there is quota for a job. It
# changes nothing.

# %%
# %mlops doctor --azure --for jobs

# %% [markdown]
# Now register the three environments. Their versions are made from their content: an environment that has not changed
# is not registered again, and a job always records what it ran in.

# %%
# %mlops env register dev train deploy

# %%
# %mlops env register train

# %% [markdown]
# The last cell of a notebook that has used Azure ends the emulator. With a real workspace, it does nothing.

# %%
azure.close()
