# %% [markdown]
# # 1. Dataset
#
# A classifier is as good as its images. Before you train, look at them, let the tool find what people
# overlook, split them, and give them a version, so that a later result can name exactly what it was trained on.

# %%
# %load_ext vision_mlops.notebooks
from vision_mlops.data.dataset_pictures import draw_class_balance, draw_samples
from vision_mlops.notebooks.notebook_project import open_project

project = open_project()
print(f"workload {project.name}: {project.workload.title}")

# %% [markdown]
# ## Split
#
# `mlops data prepare` reads the images of the workload and splits them three ways:
#
# - **train**: what the network learns from;
# - **val**: what decides when to stop and which settings are better;
# - **test**: what nobody looks at before the end. Only it shows how good the model is on images that it has never seen.
#
# Files with the same content never end up in two splits, and files that cannot be read are named and left out. The
# fingerprint at the end identifies the data from here on. If you run the cell again, unchanged data is not prepared again.

# %%
# %mlops data prepare --workload {project.reference}

# %% [markdown]
# ## Look
#
# Always look at the images before you train. Do you see the difference between the classes? If you do not, a network will
# find it hard, or it will find something that you did not mean, such as the camera.

# %%
draw_samples(project.data)

# %% [markdown]
# Also count them. A class with a tenth of the images of another is learnt worse, and accuracy hides that: a model that
# always predicts a class with nine in ten images is right in nine of ten cases. The workload gives rare classes more
# weight (`training.class_weights`), and the gate can require a recall of each class (`gate.min_recall_per_class`).

# %%
draw_class_balance(project.data)

# %% [markdown]
# ## Check
#
# Some faults cannot be seen in a few samples: a file that ends in the middle, the same photo in two classes, near copies
# in two splits (the test would be too easy), labels that the images contradict. The check finds them and
# writes a report with pictures. It changes nothing unless you tell it to.

# %%
# %mlops data check {project.data} --out {project.notes}/check

# %% [markdown]
# ## Register
#
# A registered folder gets a version that never changes: jobs name it as `azureml:NAME:1`, on this machine and on Azure.
# If you register the same content again, it is the same version.

# %%
# %mlops data register {project.data} --name {project.name}

# %%
# %mlops data list

# %% [markdown]
# ## On Azure
#
# Without an account, the emulator takes Azure's place; notebook `00` explains it.

# %%
from vision_mlops.notebooks.azure_session import connect_azure

azure = connect_azure()
print(azure)

# %% [markdown]
# A workspace has a *datastore*: a container in Blob Storage. Uploading compares by content, so the second time there is
# nothing to send, and an interrupted upload continues where it stopped.

# %%
# %mlops data upload {project.data} --to azureml://datastores/workspaceblobstore/paths/notebooks/{project.name}

# %%
# %mlops data upload {project.data} --to azureml://datastores/workspaceblobstore/paths/notebooks/{project.name}

# %% [markdown]
# A *data asset* is a name and version for such a folder. Jobs on the workspace mount it by that name.

# %%
# %mlops data register {project.data} --name {project.name} --on azure

# %%
# %mlops data list --on azure

# %%
azure.close()
