"""A small project of valid Azure ML v2 definitions that tests copy and break."""

from __future__ import annotations

from pathlib import Path

SCHEMA = "https://azuremlschemas.azureedge.net/latest"

PREP = f"""\
$schema: {SCHEMA}/commandComponent.schema.json
type: command
name: prep
version: 1
inputs:
  raw: {{type: uri_folder}}
  share: {{type: number, default: 0.5, min: 0, max: 1}}
  mode: {{type: string, default: fast, enum: [fast, slow]}}
  count: {{type: integer, optional: true}}
  verbose: {{type: boolean, default: false}}
outputs:
  prepped: {{type: uri_folder}}
  table: {{type: uri_file}}
code: ./code
environment:
  image: python:3.11
  conda_file: conda.yml
command: >-
  python prep.py ${{{{inputs.raw}}}} ${{{{inputs.share}}}} ${{{{inputs.mode}}}} ${{{{inputs.verbose}}}}
  $[[--count ${{{{inputs.count}}}}]] ${{{{outputs.prepped}}}} ${{{{outputs.table}}}}
"""

FIT = f"""\
$schema: {SCHEMA}/commandComponent.schema.json
type: command
name: fit
version: "2"
inputs:
  data: {{type: uri_folder}}
  rate: {{type: number, default: 1e-3, min: 0.00001, max: 1}}
  optimizer: {{type: string, default: adam, enum: [adam, sgd]}}
outputs:
  model: {{type: custom_model}}
environment: azureml:env:1
command: fit ${{{{inputs.data}}}} ${{{{inputs.rate}}}} ${{{{inputs.optimizer}}}} ${{{{outputs.model}}}}
"""

PIPELINE = f"""\
$schema: {SCHEMA}/pipelineJob.schema.json
type: pipeline
inputs:
  images: {{type: uri_folder, path: ./images, mode: ro_mount}}
  rate: 0.01
outputs:
  model:
    type: custom_model
    path: azureml://datastores/${{{{default_datastore}}}}/paths/${{{{name}}}}/${{{{output_name}}}}
settings:
  default_compute: azureml:cpu
  continue_on_step_failure: true
jobs:
  prep:
    type: command
    component: file:./prep.yml
    compute: azureml:other
    inputs:
      raw: ${{{{parent.inputs.images}}}}
      share: 0.25
      mode: slow
  fit:
    type: command
    component: ./fit.yml
    inputs:
      data: ${{{{parent.jobs.prep.outputs.prepped}}}}
      rate: ${{{{parent.inputs.rate}}}}
    outputs:
      model: ${{{{parent.outputs.model}}}}
    resources: {{instance_count: 2, instance_type: Standard_NC4as_T4_v3}}
    distribution: {{type: pytorch, process_count_per_instance: 2}}
    services: {{board: {{type: tensor_board, log_dir: logs}}}}
    identity: {{type: user_identity}}
"""

JOB = f"""\
$schema: {SCHEMA}/commandJob.schema.json
type: command
code: ./code
command: python prep.py ${{{{inputs.raw}}}} $[[--n ${{{{inputs.n}}}}]] ${{{{outputs.out}}}}
environment: azureml:env@latest
environment_variables: {{LEVEL: debug, N: "${{{{inputs.n}}}}"}}
limits: {{timeout: 3600}}
inputs:
  raw: {{type: uri_file, path: "https://example.com/data.csv"}}
  n: 3
outputs:
  out: {{type: uri_folder, mode: rw_mount}}
"""

SWEEP = f"""\
$schema: {SCHEMA}/sweepJob.schema.json
type: sweep
trial:
  command: fit ${{{{inputs.data}}}} --rate ${{{{search_space.rate}}}} --optimizer ${{{{search_space.optimizer}}}}
  environment: azureml:env:1
inputs:
  data: {{type: uri_folder, path: ./images}}
search_space:
  rate: {{type: loguniform, min_value: -6, max_value: -1}}
  optimizer: {{type: choice, values: [adam, sgd]}}
sampling_algorithm: random
objective: {{goal: maximize, primary_metric: accuracy}}
limits: {{max_total_trials: 8, max_concurrent_trials: 2, timeout: 7200}}
early_termination: {{type: bandit, slack_factor: 0.1, evaluation_interval: 1, delay_evaluation: 2}}
"""

PARALLEL = f"""\
$schema: {SCHEMA}/pipelineJob.schema.json
type: pipeline
inputs:
  images: {{type: uri_folder, path: ./images}}
outputs:
  scores: {{type: uri_file}}
settings: {{default_compute: azureml:cpu}}
jobs:
  score:
    type: parallel
    inputs:
      images: ${{{{parent.inputs.images}}}}
    outputs:
      scores: {{type: uri_file, path: "${{{{parent.outputs.scores}}}}"}}
    input_data: ${{{{inputs.images}}}}
    mini_batch_size: "10"
    max_concurrency_per_instance: 2
    error_threshold: -1
    retry_settings: {{max_retries: 2, timeout: 60}}
    logging_level: INFO
    task:
      type: run_function
      code: ./code
      entry_script: score.py
      program_arguments: --out ${{{{outputs.scores}}}}
      append_row_to: ${{{{outputs.scores}}}}
      environment: {{build: {{path: docker}}}}
"""

INNER = f"""\
$schema: {SCHEMA}/pipelineComponent.schema.json
type: pipeline
name: inner
version: 1
inputs:
  images: {{type: uri_folder, description: Images.}}
  rate: {{type: number, default: 0.1, min: 0}}
outputs:
  model: {{type: custom_model}}
jobs:
  prep:
    component: ./prep.yml
    inputs: {{raw: "${{{{parent.inputs.images}}}}"}}
  search:
    type: sweep
    trial: ./fit.yml
    inputs: {{data: "${{{{parent.jobs.prep.outputs.prepped}}}}"}}
    outputs: {{model: "${{{{parent.outputs.model}}}}"}}
    search_space:
      rate: {{type: choice, values: [0.1, 0.2]}}
    sampling_algorithm: {{type: random, seed: 3, rule: sobol}}
    objective: {{goal: minimize, primary_metric: loss}}
    limits: {{max_total_trials: 4}}
    early_termination: {{type: median_stopping, evaluation_interval: 2}}
  inline:
    command: echo ${{{{inputs.rate}}}} > ${{{{outputs.note}}}}
    environment: azureml:env:1
    inputs: {{rate: "${{{{parent.inputs.rate}}}}"}}
    outputs: {{note: {{type: uri_file}}}}
"""

OUTER = f"""\
$schema: {SCHEMA}/pipelineJob.schema.json
type: pipeline
settings: {{default_compute: azureml:cpu}}
inputs:
  images: {{type: uri_folder, path: ./images}}
jobs:
  first:
    type: pipeline
    component: ./inner.yml
    inputs: {{images: "${{{{parent.inputs.images}}}}"}}
  registered:
    component: azureml:anything:3
    inputs: {{whatever: "${{{{parent.jobs.first.outputs.model}}}}"}}
  last:
    component:
      type: command
      inputs: {{model: {{type: custom_model}}}}
      environment: azureml:env:1
      command: ls ${{{{inputs.model}}}}
    inputs: {{model: "${{{{parent.jobs.first.outputs.model}}}}"}}
"""

TUNED = f"""\
$schema: {SCHEMA}/commandComponent.schema.json
type: command
name: tuned
version: 1
inputs:
  data: {{type: uri_folder}}
  rate: {{type: number, default: 0.1, min: 0.0001, max: 0.5}}
  depth: {{type: integer, default: 3, min: 1, max: 12}}
  width: {{type: integer, default: 64}}
  noise: {{type: number, default: 0}}
  fast: {{type: boolean, default: false}}
environment: azureml:env:1
command: >-
  fit ${{{{inputs.data}}}} ${{{{inputs.rate}}}} ${{{{inputs.depth}}}} ${{{{inputs.width}}}} ${{{{inputs.noise}}}}
  ${{{{inputs.fast}}}}
"""

TUNE = f"""\
$schema: {SCHEMA}/pipelineJob.schema.json
type: pipeline
inputs:
  images: {{type: uri_folder, path: ./images}}
settings: {{default_compute: serverless}}
jobs:
  search:
    type: sweep
    trial: file:./tuned.yml
    inputs: {{data: "${{{{parent.inputs.images}}}}"}}
    search_space:
      rate: {{type: loguniform, min_value: -9, max_value: -0.7}}
      depth: {{type: quniform, min_value: 1, max_value: 12.4, q: 1}}
      width: {{type: qloguniform, min_value: 2, max_value: 6, q: 8}}
      noise: {{type: normal, mu: 0, sigma: 1}}
      fast: {{type: choice, values: ["true", "false"]}}
    objective: {{goal: maximize, primary_metric: accuracy}}
    limits: {{max_total_trials: 4}}
"""

CRON = f"""\
$schema: {SCHEMA}/schedule.schema.json
name: weekly
trigger: {{type: cron, expression: "0 6 * * mon,thu", start_time: "2026-01-01T06:00:00", time_zone: UTC}}
create_job: ./pipeline.yml
"""

RECURRENCE = f"""\
$schema: {SCHEMA}/schedule.schema.json
name: daily
trigger:
  type: recurrence
  frequency: week
  interval: 1
  schedule: {{hours: [6, 18], minutes: 0, week_days: [monday, friday]}}
create_job:
  type: pipeline
  job: ./pipeline.yml
  inputs: {{rate: 0.5}}
"""

ENVIRONMENT = f"""\
$schema: {SCHEMA}/environment.schema.json
name: env
version: 1
image: python:3.11
conda_file: {{dependencies: [python=3.11]}}
"""

FILES = {
    "prep.yml": PREP,
    "fit.yml": FIT,
    "pipeline.yml": PIPELINE,
    "job.yml": JOB,
    "sweep.yml": SWEEP,
    "parallel.yml": PARALLEL,
    "inner.yml": INNER,
    "outer.yml": OUTER,
    "tuned.yml": TUNED,
    "tune.yml": TUNE,
    "cron.yml": CRON,
    "recurrence.yml": RECURRENCE,
    "environment.yml": ENVIRONMENT,
}


def write_project(folder: Path) -> Path:
    """Write all definitions, with the files that they point to; returns the folder."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for name in (
        "code/prep.py",
        "code/score.py",
        "docker/Dockerfile",
        "images/a.png",
        "conda.yml",
        ".amlignore",
    ):  # the last marks the top of the project
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("", encoding="utf-8")
    return folder
