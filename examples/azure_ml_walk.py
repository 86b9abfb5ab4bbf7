"""A walk through Azure Machine Learning with Microsoft's SDK alone: data, environment, pipeline job, model, endpoint.

    mlops azure emulate -- python examples/azure_ml_walk.py

It needs the packages azure-ai-ml and azure-identity, but nothing of this project. The variables AZURE_SUBSCRIPTION_ID,
AZURE_RESOURCE_GROUP and AZUREML_WORKSPACE_NAME, and those of the sign-in, say where it runs; the emulator sets them all.
With the variables of a real workspace, it should do the same there (which could not be tried without an account). It then
costs as much as one small node and one small instance until it has deleted the endpoint.
"""

import json
import os
import tempfile
import time
import uuid
from pathlib import Path

from azure.ai.ml import Input, MLClient, Output, command, dsl
from azure.ai.ml.entities import (
    CodeConfiguration,
    Data,
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
)
from azure.identity import DefaultAzureCredential

COMPUTE = os.environ.get("AZUREML_COMPUTE", "cpu-cluster")
IMAGE = "mcr.microsoft.com/azureml/minimal-py311-inference:latest"
FRUIT = {"apple": [152, 170, 161], "cherry": [7, 9, 8], "melon": [1510, 1650, 1602]}
TRAIN = """\
import json, pathlib, statistics, sys
fruit = json.loads(next(pathlib.Path(sys.argv[1]).glob("*.json")).read_text())
model = {name: statistics.mean(grams) for name, grams in fruit.items()}
target = pathlib.Path(sys.argv[2])
target.mkdir(parents=True, exist_ok=True)
(target / "model.json").write_text(json.dumps(model))
print("learned", model)
"""
CHECK = """\
import json, pathlib, sys
model = json.loads((pathlib.Path(sys.argv[1]) / "model.json").read_text())
assert model["cherry"] < model["apple"] < model["melon"], model
pathlib.Path(sys.argv[2]).write_text(json.dumps({"classes": sorted(model)}))
"""
SCORE = """\
import json, os, pathlib
def init():
    global model
    (file,) = pathlib.Path(os.environ["AZUREML_MODEL_DIR"]).rglob("model.json")
    model = json.loads(file.read_text())
def run(text):
    grams = json.loads(text)["grams"]
    return {"fruit": min(model, key=lambda name: abs(model[name] - grams))}
"""


def say(text: str, started: float) -> None:
    """Print a step and how long it took."""
    print(f"{time.monotonic() - started:6.1f} s  {text}", flush=True)


def main() -> None:
    """Run all steps once."""
    client = MLClient(
        DefaultAzureCredential(),
        os.environ["AZURE_SUBSCRIPTION_ID"],
        os.environ["AZURE_RESOURCE_GROUP"],
        os.environ["AZUREML_WORKSPACE_NAME"],
    )
    started, suffix = time.monotonic(), uuid.uuid4().hex[:6]
    with tempfile.TemporaryDirectory() as folder:
        data, code = Path(folder, "data"), Path(folder, "code")
        data.mkdir()
        code.mkdir()
        (data / "fruit.json").write_text(json.dumps(FRUIT), encoding="utf-8")
        for name, text in (("train.py", TRAIN), ("check.py", CHECK), ("score.py", SCORE)):
            (code / name).write_text(text, encoding="utf-8")
        made = client.data.create_or_update(Data(name="fruit", path=str(data), type="uri_folder"))
        say(f"data {made.name}:{made.version}", started)
        environment = client.environments.create_or_update(Environment(name="fruit", image=IMAGE))
        say(f"environment {environment.name}:{environment.version}", started)
        job = run_pipeline(client, made.id, environment.id, code)
        say(f"job {job} completed", started)
        model = client.models.create_or_update(
            Model(name="fruit", path=f"azureml://jobs/{job}/outputs/model", type="custom_model")
        )
        say(f"model {model.name}:{model.version}", started)
        answer = serve(client, f"fruit-{suffix}", model, environment, code)
    say(f"160 g are: {answer}", started)
    assert answer == "apple", answer


def run_pipeline(client: MLClient, data: str, environment: str, code: Path) -> str:
    """Train and check in a pipeline job; return its name."""
    train = command(
        name="train_fruit",
        command="python train.py ${{inputs.data}} ${{outputs.model}}",
        code=str(code),
        environment=environment,
        inputs={"data": Input(type="uri_folder")},
        outputs={"model": Output(type="uri_folder")},
    )
    check = command(
        name="check_fruit",
        command="python check.py ${{inputs.model}} ${{outputs.report}}",
        code=str(code),
        environment=environment,
        inputs={"model": Input(type="uri_folder")},
        outputs={"report": Output(type="uri_file")},
    )

    @dsl.pipeline(default_compute=COMPUTE)
    def fruit(data: Input) -> dict[str, Output]:
        trained = train(data=data)
        checked = check(model=trained.outputs.model)
        return {"model": trained.outputs.model, "report": checked.outputs.report}

    job = client.jobs.create_or_update(fruit(Input(type="uri_folder", path=data)), experiment_name="fruit")
    client.jobs.stream(job.name)
    status = client.jobs.get(job.name).status
    assert status == "Completed", status
    return str(job.name)


def serve(client: MLClient, name: str, model: Model, environment: Environment, code: Path) -> str:
    """Deploy the model, call it, and delete the endpoint; return its response."""
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name, auth_mode="key")).result()
    try:
        deployment = ManagedOnlineDeployment(
            name="blue",
            endpoint_name=name,
            model=model.id,
            environment=environment.id,
            code_configuration=CodeConfiguration(code=str(code), scoring_script="score.py"),
            instance_type="Standard_DS3_v2",
            instance_count=1,
        )
        client.online_deployments.begin_create_or_update(deployment).result()
        endpoint = client.online_endpoints.get(name)
        endpoint.traffic = {"blue": 100}
        client.online_endpoints.begin_create_or_update(endpoint).result()
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as request:
            json.dump({"grams": 160}, request)
        answer = client.online_endpoints.invoke(name, request_file=request.name)
        Path(request.name).unlink()
        return str(json.loads(answer)["fruit"])
    finally:
        client.online_endpoints.begin_delete(name).result()


if __name__ == "__main__":
    main()
