"""A small project of definitions that run in seconds, on Azure ML or on the loopback cloud."""

from __future__ import annotations

from pathlib import Path

SCHEMA = "https://azuremlschemas.azureedge.net/latest"

COUNT = f"""\
$schema: {SCHEMA}/commandComponent.schema.json
type: command
name: count_files
version: 1
inputs:
  images: {{type: uri_folder}}
  word: {{type: string, default: hello}}
outputs:
  counted: {{type: uri_folder}}
code: ./code
environment: azureml:vision-mlops-train@latest
command: python count.py ${{{{inputs.images}}}} ${{{{inputs.word}}}} ${{{{outputs.counted}}}}
"""

SUMMARY = f"""\
$schema: {SCHEMA}/commandComponent.schema.json
type: command
name: summary
version: 1
inputs:
  counted: {{type: uri_folder}}
outputs:
  note: {{type: uri_file}}
environment: azureml:vision-mlops-train@latest
command: cat ${{{{inputs.counted}}}}/count.txt > ${{{{outputs.note}}}}
"""

_STEPS = """\
jobs:
  count:
    type: command
    component: file:./count.yml
    inputs:
      images: ${{parent.inputs.images}}
      word: ${{parent.inputs.word}}
    outputs:
      counted: ${{parent.outputs.counted}}
  summary:
    type: command
    component: file:./summary.yml
    inputs:
      counted: ${{parent.jobs.count.outputs.counted}}
    outputs:
      note: ${{parent.outputs.note}}
"""

PIPELINE = f"""\
$schema: {SCHEMA}/pipelineJob.schema.json
type: pipeline
display_name: Count
experiment_name: counting
tags: {{owner: test}}
inputs:
  images: {{type: uri_folder, path: ./images}}
  word: one
outputs:
  counted: {{type: uri_folder}}
  note: {{type: uri_file}}
settings:
  default_compute: azureml:cpu-cluster
{_STEPS}"""

PUBLISHED = f"""\
$schema: {SCHEMA}/pipelineComponent.schema.json
type: pipeline
name: count_pipeline
version: 1
description: Counts files.
inputs:
  images: {{type: uri_folder}}
  word: {{type: string, default: one}}
  times: {{type: integer, default: 1}}
  share: {{type: number, optional: true}}
  loud: {{type: boolean, default: false}}
outputs:
  counted: {{type: uri_folder}}
  note: {{type: uri_file}}
{_STEPS}"""

COMMAND = f"""\
$schema: {SCHEMA}/commandJob.schema.json
type: command
inputs:
  word: hello
outputs:
  said: {{type: uri_folder}}
environment: azureml:vision-mlops-train@latest
command: echo ${{{{inputs.word}}}} > ${{{{outputs.said}}}}/word.txt
"""

SCHEDULE = f"""\
$schema: {SCHEMA}/schedule.schema.json
name: count-weekly
description: Counts each week.
trigger:
  type: recurrence
  frequency: week
  interval: 1
  schedule: {{hours: [2, 14], minutes: 30, week_days: [monday]}}
  time_zone: UTC
create_job:
  type: pipeline
  job: ./pipeline.yml
  inputs:
    word: weekly
"""

ENVIRONMENT = f"""\
$schema: {SCHEMA}/environment.schema.json
name: vision-mlops-train
image: python:3.11
conda_file: conda.yml
"""

CODE = """\
import sys
from pathlib import Path

images, word, out = sys.argv[1:]
count = sum(path.is_file() for path in Path(images).rglob("*"))
print(f"{word}: {count} files", flush=True)
Path(out).mkdir(parents=True, exist_ok=True)
(Path(out) / "count.txt").write_text(f"{word} {count}")
"""


def write_project(folder: Path) -> Path:
    """Write the project and two image files; returns its folder."""
    files = {
        ".amlignore": "*.tmp\n",
        "count.yml": COUNT,
        "summary.yml": SUMMARY,
        "pipeline.yml": PIPELINE,
        "published.yml": PUBLISHED,
        "command.yml": COMMAND,
        "schedule.yml": SCHEDULE,
        "environments/train.yml": ENVIRONMENT,
        "environments/conda.yml": "name: train\ndependencies: [python=3.11]\n",
        "code/count.py": CODE,
        "images/a/1.txt": "one",
        "images/b/2.txt": "two",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder
