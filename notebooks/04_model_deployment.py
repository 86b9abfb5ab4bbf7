# %% [markdown]
# # 4. Deployment
#
# A model is useful once somebody can use it. An *endpoint* is an address that stays the same, and a *deployment* is a
# version behind it. So you can exchange a version without its users noticing, and roll it back if it turns out to be worse.
#
# This notebook serves the two versions that `02_model_training` has registered and `03_model_evaluation` has judged.

# %%
# %load_ext vision_mlops.notebooks
import shutil

from vision_mlops.images.decoding import open_rgb
from vision_mlops.images.picture_grid import GridImage, picture_grid
from vision_mlops.notebooks.notebook_commands import read_command, run_command
from vision_mlops.notebooks.notebook_project import open_project
from vision_mlops.rollout.rollout_page import draw_traffic

project = open_project()
first, second = project.version("first"), project.version("second")
endpoint = f"{project.name[:20].replace('_', '-')}-nb"
images = project.test_images(6)
print(f"{first} and then {second}, at the endpoint {endpoint}")

# %% [markdown]
# This notebook deletes its endpoints at the end. If it was interrupted, they still exist:


# %%
def delete_endpoint(target: str) -> None:
    """Delete the endpoint of this notebook on a target, if there is one."""
    if endpoint in [item["name"] for item in read_command("endpoint", "list", "--on", target)]:
        run_command("endpoint", "delete", endpoint, "--on", target)


delete_endpoint("local")

# %% [markdown]
# ## Serve the first version
#
# `--to local` starts the scoring server on this machine: the same server that runs in containers on Azure. It loads the
# bundle, checks its hashes and golden examples, and only then says that it is ready.

# %%
# %mlops deploy --to local --model {first} --endpoint {endpoint}

# %% [markdown]
# Now send it images of the test split:

# %%
arguments = [word for image in images for word in ("--image", image)]
answers = read_command("endpoint", "test", endpoint, "--on", "local", *arguments)
picture_grid(
    [
        GridImage(open_rgb(image), (f"is {image.parent.name}", f"{answer['label']} {answer['probability']:.1%}"))
        for image, answer in zip(images, answers, strict=True)
    ],
    columns=6,
)

# %% [markdown]
# The response is JSON over HTTP, so any program can use it. This is the address and the state of the deployment:

# %%
# %mlops endpoint show {endpoint} --on local

# %% [markdown]
# ## Roll out the second version
#
# The test images said that the second version is good enough. Production may show otherwise: other images, a slower
# machine, a server that fails. Therefore it gets the traffic in steps: first a copy of half of the requests, whose
# responses nobody gets, then 10, 50 and 100 percent. At each step, errors, latency and labels are compared with the version
# in use. If something is clearly worse, the first version gets everything back at once.
#
# Nobody has to use the endpoint meanwhile: the command sends probes, here the test images. The options make the rollout
# short for this notebook; `--force` starts it even if the gate was not convinced, which is only right in a tutorial.

# %%
report = read_command(
    "rollout", "start", endpoint, "--model", second, "--on", "local", "--images", project.data,
    "--min-seconds", "2", "--min-requests", "30", "--probe-rate", "25",
    "--max-disagreement", "0.5", "--max-latency-ratio", "5", "--force",
)  # fmt: skip
print(report["outcome"])

# %% [markdown]
# This is the traffic over time: the share of the second version in blue, the copies as a broken line.

# %%
draw_traffic(report)

# %% [markdown]
# The second version has become the champion, together with the traffic. To go back, roll out the first version again: it is
# the same bundle as before, and nothing has to be trained or built. Promoting it, as here, only changes which version is
# the champion.

# %%
# %mlops models promote {first} --force

# %%
delete_endpoint("local")

# %% [markdown]
# ## On Azure: a managed endpoint
#
# Use the same command with another target. A managed endpoint runs on machines that Azure manages. It can have several
# deployments, so the rollout above works there, too. It costs money for every hour that it exists, so delete it at the end.

# %%
from vision_mlops.notebooks.azure_session import connect_azure

azure = connect_azure()
print(azure)
delete_endpoint("managed")
delete_endpoint("aci")

# %%
on_azure = project.version("first_on_azure")
run_command("deploy", "--to", "managed", "--model", on_azure, "--endpoint", endpoint)

# %%
run_command("endpoint", "test", endpoint, "--on", "managed", *arguments[:6])

# %%
# %mlops endpoint delete {endpoint} --on managed

# %% [markdown]
# ## On Azure: a container instance
#
# Container Instances is the cheapest way to show a model to somebody: one container with a public address, billed by the
# second. It cannot mount a registered model, so the image contains it. `mlops models image` writes what the image is built
# from and prints its name; the registry builds it. (The emulator's registry only stores the model.)

# %%
context = project.notes / "image"
if context.exists():
    shutil.rmtree(context)
image = read_command("models", "image", on_azure, "--context", context)["image"]
azure.build_image(image, context)
print(image)

# %%
run_command("deploy", "--to", "aci", "--model", on_azure, "--endpoint", endpoint)

# %%
run_command("endpoint", "test", endpoint, "--on", "aci", *arguments[:6])

# %%
# %mlops endpoint delete {endpoint} --on aci

# %%
azure.close()
