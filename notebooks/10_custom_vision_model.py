# %% [markdown]
# # 10. Is it worth it? Azure Custom Vision as a benchmark
#
# Before a team maintains its own model, it should know what it gains. Azure Custom Vision trains a classifier
# from uploaded images without any code. Here it learns from exactly the training images of the workload, and is judged on
# exactly its test images, beside ours.
#
# **Custom Vision takes no new customers, and ends on 2028-09-25.** Without an account, the emulator takes its place: the
# calls are real, but a small classifier replaces the service, so *its figures say nothing about Custom Vision*.

# %%
# %load_ext vision_mlops.notebooks
from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
from vision_mlops.benchmark.benchmark_report import draw
from vision_mlops.benchmark.service_prices import load_prices
from vision_mlops.benchmark.standings import standings
from vision_mlops.notebooks.notebook_commands import run_command
from vision_mlops.notebooks.notebook_project import open_project

project = open_project()
print(f"workload {project.name}: {project.workload.title}")

# %% [markdown]
# ## Ours
#
# The champion was trained on these data with these settings, so it is used as it is; otherwise it would be trained now.

# %%
# %mlops benchmark run --workload {project.reference} --data {project.data} --with ours

# %% [markdown]
# ## Custom Vision
#
# The images are uploaded to a project of the service. It trains on them, publishes the model, and predicts each test
# image. Nothing is done twice: if you interrupt the cell and run it again, it continues where it stopped.

# %%
from vision_mlops.notebooks.azure_session import connect_azure

azure = connect_azure()
print(azure)

# %%
# %mlops benchmark run --workload {project.reference} --data {project.data} --with custom-vision

# %% [markdown]
# ## The comparison
#
# Higher is more accurate, further to the left is faster. The bars are 95% intervals: if they overlap widely, you need more
# test images before you can claim a winner. For hosted services, the time is the round trip from this machine.

# %%
found = standings(BenchmarkFolder(project.name), load_prices(None))
draw(found)

# %% [markdown]
# Both have predicted the same images, so the images on which they differ can be counted: `only it` and `only ours`. The
# p-value says how likely such a difference is if both are equally good.

# %%
for row in found.rows:
    low, high = row.result.metrics["accuracy_interval"]
    print(f"{row.result.title}: accuracy {row.result.metrics['accuracy']:.3f} ({low:.3f} to {high:.3f})")
    if (compared := row.against_ours) is not None:
        print(f"  only it {compared.only_it}, only ours {compared.only_ours}, p = {compared.p_value:.2g}")

# %% [markdown]
# ## Clean up
#
# Images in the service cost money as long as its project exists. The result stays here.

# %%
run_command("benchmark", "clean", "--workload", project.reference, "--with", "custom-vision", "--yes")

# %%
azure.close()
