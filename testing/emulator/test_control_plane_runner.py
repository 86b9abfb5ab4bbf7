"""What is submitted to the loopback cloud is really run, by the package's own local runner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from testing.support.submissions import finished, submit

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.identity.loopback_tokens import LoopbackCredential
from vision_mlops.jobs.azureml.run_history import tracked_run

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

pytestmark = pytest.mark.slow

COUNT = """\
import json, sys
from pathlib import Path

folder, share, out = sys.argv[1:4]
names = sorted(path.name for path in Path(folder).rglob("*.txt"))
print(f"counted {len(names)} files")
Path(out).mkdir(parents=True, exist_ok=True)
(Path(out) / "count.json").write_text(json.dumps({"names": names, "share": float(share)}))
"""
REPORT = """\
import json, sys
from pathlib import Path

source, factor, out = sys.argv[1:4]
found = json.loads((Path(source) / "count.json").read_text())
Path(out).write_text(json.dumps({**found, "score": len(found["names"]) * float(factor)}))
"""
COMPONENTS = {
    "count.yml": """\
type: command
name: count
version: 1
inputs:
  images: {type: uri_folder}
  share: {type: number, default: 0.25, min: 0, max: 1}
outputs:
  counted: {type: uri_folder}
code: ./src
environment: azureml:train@latest
command: python count.py ${{inputs.images}} ${{inputs.share}} ${{outputs.counted}}
""",
    "report.yml": """\
type: command
name: report
version: 1
inputs:
  counted: {type: uri_folder}
  factor: {type: number, default: 2}
outputs:
  report: {type: uri_file}
code: ./src
environment: azureml:train@latest
command: python report.py ${{inputs.counted}} ${{inputs.factor}} ${{outputs.report}}
""",
    "whole.yml": """\
type: pipeline
name: whole
version: 1
inputs:
  images: {type: uri_folder}
  factor: {type: number, default: 5}
outputs:
  report: {type: uri_file}
jobs:
  count: {type: command, component: ./count.yml, inputs: {images: "${{parent.inputs.images}}"}}
  report:
    type: command
    component: ./report.yml
    inputs: {counted: "${{parent.jobs.count.outputs.counted}}", factor: "${{parent.inputs.factor}}"}
    outputs: {report: "${{parent.outputs.report}}"}
""",
    "real.yml": """\
type: pipeline
experiment_name: real
settings: {default_compute: "azureml:cpu-cluster"}
inputs:
  images: {type: uri_folder, path: ./images}
  factor: 3
outputs:
  counted: {type: uri_folder, name: counts, version: "1"}
  report: {type: uri_file}
jobs:
  count:
    type: command
    component: ./count.yml
    inputs: {images: "${{parent.inputs.images}}"}
    outputs: {counted: "${{parent.outputs.counted}}"}
  report:
    type: command
    component: ./report.yml
    inputs: {counted: "${{parent.jobs.count.outputs.counted}}", factor: "${{parent.inputs.factor}}"}
    outputs: {report: "${{parent.outputs.report}}"}
""",
    "src/count.py": COUNT,
    "src/report.py": REPORT,
}


@pytest.fixture
def real(project: Path) -> Path:
    """Definitions whose steps do something."""
    for name, content in COMPONENTS.items():
        (project / name).write_text(content)
    return project


def _report(client: MLClient, name: str, folder: Path) -> object:
    client.jobs.download(name, download_path=folder, output_name="report")
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    return json.loads(file.read_text())


def test_a_pipeline_is_run_and_its_outputs_come_back(
    client: MLClient, cloud: EmulatedCloud, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(client, real / "real.yml")
    client.jobs.stream("job")
    assert "Execution Summary" in capsys.readouterr().out
    finished(cloud)
    assert _report(client, "job", tmp_path / "down") == {"names": ["a.txt", "c.txt"], "share": 0.25, "score": 6.0}
    children = {child.display_name: child for child in client.jobs.list(parent_job_name="job")}
    assert {name: child.status for name, child in children.items()} == {"count": "Completed", "report": "Completed"}
    client.jobs.download(str(children["count"].name), download_path=tmp_path / "logs")
    log = tmp_path / "logs" / "artifacts" / "user_logs" / "std_log.txt"
    assert "counted 2 files" in log.read_text()
    registered = client.data.get("counts", "1")
    assert str(registered.path).endswith("/counted/")


def test_a_failing_step_is_told_with_its_reason(client: MLClient, cloud: EmulatedCloud, real: Path) -> None:
    from azure.ai.ml.exceptions import JobException

    (real / "src" / "count.py").write_text("import sys\nprint('no images here', file=sys.stderr)\nsys.exit(3)\n")
    submit(client, real / "real.yml")
    finished(cloud, status="Failed")
    children = {child.display_name: child.status for child in client.jobs.list(parent_job_name="job")}
    assert (children["count"], children["report"]) == ("Failed", "Canceled")
    with pytest.raises(JobException, match="count"):
        client.jobs.stream("job")


def test_a_running_job_is_cancelled(client: MLClient, cloud: EmulatedCloud, real: Path) -> None:
    import time

    (real / "src" / "count.py").write_text("import time\nprint('waiting', flush=True)\ntime.sleep(600)\n")
    submit(client, real / "real.yml")
    record = cloud.jobs.find("job")
    deadline = time.monotonic() + 60
    while "count" not in record.state.steps or record.state.steps["count"].status != "Running":
        assert time.monotonic() < deadline, record.state
        time.sleep(0.1)
    client.jobs.begin_cancel("job").result()
    assert client.jobs.get("job").status == "Canceled"


def test_a_definition_that_the_runner_refuses_fails_with_its_words(
    client: MLClient, cloud: EmulatedCloud, real: Path
) -> None:
    """The service accepts what our linter does not: the job fails, and says why."""
    text = (real / "real.yml").read_text().replace("factor: 3", "factor: many")
    (real / "real.yml").write_text(text)
    submit(client, real / "real.yml")
    assert "many" in finished(cloud, status="Failed").message


def test_a_batch_endpoint_runs_the_deployed_pipeline(
    client: MLClient, cloud: EmulatedCloud, real: Path, tmp_path: Path
) -> None:
    from azure.ai.ml import Input
    from azure.ai.ml.entities import BatchEndpoint
    from azure.ai.ml.entities._load_functions import load_pipeline_component_batch_deployment

    client.batch_endpoints.begin_create_or_update(BatchEndpoint(name="bulk")).result()
    (real / "deployment.yml").write_text(
        "name: whole\nendpoint_name: bulk\ntype: pipeline\ncomponent: ./whole.yml\n"
        "settings: {default_compute: cpu-cluster}\n"
    )
    deployment = load_pipeline_component_batch_deployment(real / "deployment.yml")
    client.batch_deployments.begin_create_or_update(deployment).result()
    given = {"images": Input(type="uri_folder", path=str(real / "images"))}
    started = client.batch_endpoints.invoke("bulk", deployment_name="whole", inputs=given)
    finished(cloud, str(started.name))
    report = _report(client, str(started.name), tmp_path / "down")
    assert report == {"names": ["a.txt", "c.txt"], "share": 0.25, "score": 10.0}


def test_the_best_trial_of_a_sweep_is_brought_back(
    client: MLClient, cloud: EmulatedCloud, real: Path, tmp_path: Path
) -> None:
    (real / "src" / "try.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom vision_mlops.tracking import mlflow_runs\n"
        "import os\nmlflow_runs.log_metrics(os.environ['MLFLOW_RUN_ID'], {'score': float(sys.argv[1])})\n"
        "print('tried', sys.argv[1])\nPath(sys.argv[2]).write_text(sys.argv[1])\n"
    )
    (real / "search.yml").write_text(
        "type: sweep\nexperiment_name: real\ncompute: azureml:cpu-cluster\nsampling_algorithm: grid\n"
        "search_space: {rate: {type: choice, values: [1, 5, 3]}}\n"
        "objective: {goal: maximize, primary_metric: score}\nlimits: {max_total_trials: 3, max_concurrent_trials: 2}\n"
        "outputs: {text: {type: uri_file}}\n"
        "trial:\n  code: ./src\n  environment: azureml:train@latest\n"
        "  command: python try.py ${{search_space.rate}} ${{outputs.text}}\n"
    )
    submit(client, real / "search.yml")
    finished(cloud)
    trials = list(client.jobs.list(parent_job_name="job"))
    assert len(trials) == 3
    assert client.jobs.get("job").properties["best_child_run_id"] in {trial.name for trial in trials}
    client.jobs.download("job", download_path=tmp_path / "down", all=True)
    texts = {path.name: path.read_text() for path in (tmp_path / "down").rglob("*") if path.is_file()}
    assert texts["text"] == "5"
    assert "tried 5" in texts["std_log.txt"]
    tracking_uri = str(client.workspaces.get(cloud.workspace).mlflow_tracking_uri)
    assert tracked_run(LoopbackCredential(), f"{cloud.url}/.default", tracking_uri, "job").metrics["best_score"] == 5


def test_a_model_deployment_scores_a_folder_with_its_script(
    client: MLClient, cloud: EmulatedCloud, real: Path, tmp_path: Path
) -> None:
    from azure.ai.ml import Input
    from azure.ai.ml.entities import BatchEndpoint, Data, Model
    from azure.ai.ml.entities._load_functions import load_model_batch_deployment

    images = str(real / "images")
    client.models.create_or_update(Model(name="textile", version="1", path=images, type="custom_model"))
    client.data.create_or_update(Data(name="images", version="1", path=images, type="uri_folder"))
    client.batch_endpoints.begin_create_or_update(BatchEndpoint(name="bulk")).result()
    (real / "deployment.yml").write_text(
        "name: score\nendpoint_name: bulk\ntype: model\nmodel: azureml:textile:1\nenvironment: azureml:train:3\n"
        "compute: azureml:cpu-cluster\ncode_configuration: {code: ./src, scoring_script: score.py}\n"
        "resources: {instance_count: 1}\nsettings: {mini_batch_size: 1, output_action: append_row}\n"
    )
    deployment = load_model_batch_deployment(real / "deployment.yml")
    client.batch_deployments.begin_create_or_update(deployment).result()
    given = Input(type="uri_folder", path="azureml:images:1")
    started = client.batch_endpoints.invoke("bulk", deployment_name="score", input=given)
    finished(cloud, str(started.name))
    client.jobs.download(str(started.name), download_path=tmp_path / "down")
    (file,) = (path for path in (tmp_path / "down").rglob("*") if path.is_file())
    assert sorted(file.read_text().split("\n")[:2]) == ["a.txt 2", "c.txt 2"]
