"""Definitions that tests submit to the loopback cloud, with what they need, and how they are submitted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.jobs.emulated_job import EmulatedJob

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job

PREP = """\
type: command
name: prep
version: 1
inputs:
  raw: {type: uri_folder}
  share: {type: number, default: 0.2, min: 0.05, max: 0.5}
  note: {type: string, optional: true}
outputs:
  prepped: {type: uri_folder}
code: ./src
environment: azureml:train@latest
command: python prep.py ${{inputs.raw}} ${{inputs.share}} $[[--note ${{inputs.note}}]] ${{outputs.prepped}}
"""
FIT = """\
type: command
name: fit
version: 1
inputs:
  data: {type: uri_folder}
  rate: {type: number, default: 0.001}
outputs:
  model: {type: custom_model}
environment: azureml:train@latest
command: echo ${{inputs.data}} ${{inputs.rate}} ${{outputs.model}}
distribution: {type: pytorch, process_count_per_instance: 1}
"""
PARALLEL = """\
type: parallel
name: score_all
version: 1
inputs:
  items: {type: uri_folder}
outputs:
  table: {type: uri_file}
input_data: ${{inputs.items}}
mini_batch_size: "2"
error_threshold: -1
retry_settings: {max_retries: 1, timeout: 30}
task:
  type: run_function
  code: ./src
  entry_script: score.py
  environment: azureml:train@latest
  append_row_to: ${{outputs.table}}
"""
INNER = """\
type: pipeline
name: both
version: 1
inputs:
  raw: {type: uri_folder}
outputs:
  model: {type: custom_model}
jobs:
  prep: {type: command, component: ./prep.yml, inputs: {raw: "${{parent.inputs.raw}}"}}
  fit:
    type: command
    component: ./fit.yml
    inputs: {data: "${{parent.jobs.prep.outputs.prepped}}"}
    outputs: {model: "${{parent.outputs.model}}"}
"""
SMALL = """\
type: pipeline
display_name: Demonstration
experiment_name: demo
tags: {who: test}
settings: {default_compute: "azureml:cpu-cluster", continue_on_step_failure: false}
inputs:
  raw: {type: uri_folder, path: ./images, mode: ro_mount}
  rate: 0.01
outputs:
  model: {type: custom_model, name: textile}
  data: {type: uri_folder}
jobs:
  prep:
    type: command
    component: ./prep.yml
    inputs: {raw: "${{parent.inputs.raw}}", share: 0.3}
    outputs: {prepped: "${{parent.outputs.data}}"}
    environment_variables: {LEVEL: high}
  fit:
    type: command
    component: ./fit.yml
    inputs: {data: "${{parent.jobs.prep.outputs.prepped}}", rate: "${{parent.inputs.rate}}"}
    outputs: {model: "${{parent.outputs.model}}"}
"""
PIPELINE = (
    SMALL
    + """\
  inline:
    type: command
    command: echo ${{inputs.word}} > ${{outputs.text}}
    environment: {image: "python:3.11"}
    inputs: {word: hello}
    outputs: {text: {type: uri_file}}
  score:
    type: parallel
    component: ./parallel.yml
    mini_batch_size: "4"
    inputs: {items: "${{parent.inputs.raw}}"}
  search:
    type: sweep
    trial: ./fit.yml
    search_space: {rate: {type: choice, values: [0.1, 0.2]}}
    sampling_algorithm: random
    objective: {goal: maximize, primary_metric: accuracy}
    limits: {max_total_trials: 4, max_concurrent_trials: 2, timeout: 3600}
    early_termination: {type: bandit, slack_factor: 0.1, evaluation_interval: 1}
    inputs: {data: "${{parent.jobs.prep.outputs.prepped}}"}
  whole: {type: pipeline, component: ./inner.yml, inputs: {raw: "${{parent.inputs.raw}}"}}
"""
)
SWEEP = """\
type: sweep
experiment_name: demo
compute: azureml:cpu-cluster
sampling_algorithm: {type: random, seed: 7, rule: sobol}
search_space:
  rate: {type: loguniform, min_value: -6, max_value: -1}
  depth: {type: quniform, min_value: 1, max_value: 5, q: 1}
  kind: {type: choice, values: [a, b]}
objective: {goal: minimize, primary_metric: loss}
limits: {max_total_trials: 4, max_concurrent_trials: 2, timeout: 5400, trial_timeout: 90}
early_termination: {type: median_stopping, delay_evaluation: 3, evaluation_interval: 2}
inputs:
  data: {type: uri_folder, path: ./images}
trial:
  code: ./src
  environment: azureml:train@latest
  command: fit ${{inputs.data}} ${{search_space.rate}} ${{search_space.depth}} ${{search_space.kind}}
"""
COMMAND = """\
type: command
experiment_name: demo
compute: azureml:cpu-cluster
code: ./src
environment: azureml:train@latest
environment_variables: {LEVEL: high}
limits: {timeout: 120}
inputs:
  word: hello
  data: {type: uri_file, path: ./images/a.txt}
outputs:
  text: {type: uri_file}
command: cp ${{inputs.data}} ${{outputs.text}} && echo ${{inputs.word}}
"""
SCORE = """\
import os
from pathlib import Path


def init():
    global known
    known = sorted(path.name for path in Path(os.environ["AZUREML_MODEL_DIR"]).rglob("*.txt"))
    print(f"loaded {len(known)} files")


def run(data):
    if isinstance(data, str):
        return {"known": known, "length": len(data)}
    return [f"{Path(path).name} {len(known)}" for path in data]
"""
SCHEDULE = """\
name: nightly
trigger: {type: cron, expression: "0 2 * * *", time_zone: UTC}
create_job: ./pipeline.yml
"""


def write_project(folder: Path) -> Path:
    """Write all definitions into a folder, with code and images beside them."""
    files = {
        "prep.yml": PREP, "fit.yml": FIT, "parallel.yml": PARALLEL, "inner.yml": INNER, "pipeline.yml": SMALL,
        "large.yml": PIPELINE, "sweep.yml": SWEEP, "command.yml": COMMAND, "schedule.yml": SCHEDULE,
        "src/prep.py": "print('prep')\n", "src/score.py": SCORE, "images/a.txt": "a", "images/b/c.txt": "c",
    }  # fmt: skip
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    return folder


def submit(client: MLClient, file: Path, name: str = "job") -> Job:
    """Submit a definition."""
    from azure.ai.ml import load_job

    job = load_job(file)
    job.name = name
    made: Job = client.jobs.create_or_update(job)
    return made


def finished(cloud: EmulatedCloud, name: str = "job", status: str = "Completed") -> EmulatedJob:
    """A job that has ended as it should."""
    record = cloud.jobs.find(name).wait()
    assert record.status == status, record.message
    return record
