# %% [markdown]
# # 3. Evaluation
#
# Accuracy is one number, but a team has more questions. Which classes are confused? Which images? What does the network
# look at? Is the new version better than the one in use, or was it luck? And who decides?
#
# This notebook judges the versions that `02_model_training` has registered.

# %%
# %load_ext vision_mlops.notebooks
from pathlib import Path

from vision_mlops.evaluation.prediction_pictures import (
    CONFUSION_MATRIX,
    RELIABILITY,
    draw_heat_maps,
    draw_mistakes,
    evaluation_picture,
)
from vision_mlops.notebooks.notebook_commands import read_command, run_command
from vision_mlops.notebooks.notebook_project import open_project

project = open_project()
first, second = project.version("first"), project.version("second")
report, second_report = project.notes / "first", project.notes / "second"
print(f"{first} and {second}, judged on the test images of {project.data}")

# %% [markdown]
# ## On images that it has never seen
#
# `mlops evaluate` scores each test image with the exported graph, the one that will serve. The interval beside the
# accuracy says how much of it may be luck: with few test images it is wide, and they cannot prove that a model is good.

# %%
# %mlops evaluate --bundle {first} --data {project.data} --out {report}

# %% [markdown]
# ## What is confused with what
#
# A row is the true class of an image, a column the predicted one. Everything beside the diagonal is a mistake. Two classes
# that are confused both ways may differ too little, or be labelled by two people with two opinions.

# %%
evaluation_picture(report, CONFUSION_MATRIX)

# %% [markdown]
# ## Can you trust its probabilities?
#
# Of all images for which the model says 90%, nine in ten should be classified correctly: then its points are on the line.
# For that purpose, training ends with a calibration on the validation images. It matters as soon as somebody sets a
# threshold, such as "below 80% a person looks at it".

# %%
evaluation_picture(report, RELIABILITY)

# %% [markdown]
# ## Its worst mistakes
#
# You learn most from the mistakes of which the model was most certain: usually a wrong label, an unusual image, or a class
# that needs more images.

# %%
draw_mistakes(report)

# %% [markdown]
# ## What it looks at
#
# A heat map shows which part of an image spoke for the class. It should be the object. If it is the background, the model
# has learnt something that will not be there in production.

# %%
bundle = Path(read_command("models", "path", first)["path"])
draw_heat_maps(bundle, project.data)

# %% [markdown]
# ## The gate
#
# The gate decides by the rules of the workload, not by how somebody feels about a curve. If there is no champion (the
# version in use), it compares the model with the floors. Otherwise, it also compares both on the same images and asks
# whether the difference is more than chance. *promote*, *reject* or *inconclusive*: each comes with its reasons.

# %%
# %mlops gate --candidate {report} --workload {project.reference} --data {project.data}

# %% [markdown]
# ## Add the results to the version
#
# Registering the same bundle again creates no new version: it adds what is new, here metrics and verdict. If the verdict is
# promote, it becomes the champion: the version that is served if nobody names another.

# %%
run_command(
    "models", "register", "--bundle", bundle, "--name", project.name, "--data", project.data,
    "--metrics", report, "--verdict", report, "--promote-if-passed",
)  # fmt: skip

# %% [markdown]
# ## Compare the second version with the first
#
# Now there is a champion, and the best trial of the sweep is compared with it.

# %%
# %mlops evaluate --bundle {second} --data {project.data} --out {second_report}

# %%
# %mlops gate --candidate {second_report} --against {project.name} --data {project.data} --workload {project.reference}

# %%
second_bundle = read_command("models", "path", second)["path"]
run_command(
    "models", "register", "--bundle", second_bundle, "--name", project.name, "--data", project.data,
    "--metrics", second_report, "--verdict", second_report,
)  # fmt: skip
run_command("models", "list", project.name)

# %% [markdown]
# Where does a version come from? Everything from images to verdict is recorded with it:

# %%
# %mlops models explain {first}

# %% [markdown]
# ## On Azure
#
# The same bundles, with everything that is known about them, are copied to the registry of the workspace. A model is
# copied, never trained again: what was judged is what will serve.

# %%
from vision_mlops.notebooks.azure_session import connect_azure

azure = connect_azure()
print(azure)

# %%
for word, version in {"first": first, "second": second}.items():
    copied = read_command("models", "transfer", version, "--from", "mlflow", "--to", "azure")
    project.remember(**{f"{word}_on_azure": copied["reference"]})
    print(f"{version} is {copied['reference']} in the workspace")

# %%
# %mlops models list {project.name}

# %%
azure.close()
