"""Everything that the commands write is below outputs/ or where they were told to, and they call nobody unasked."""

from __future__ import annotations

import io
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from testing.support.archives import zip_of
from testing.support.command_watch import CommandWatch
from testing.support.corrections import corrected
from testing.support.jobs import until
from testing.support.prepared_data import make_prepared
from testing.support.web_server import Page, Site, serving

from vision_mlops.cli.commands import callbacks
from vision_mlops.flask_app.corrections.folder_store import FolderStore

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WORKLOAD = """
name: small
data: {path: photos, min_images_per_class: 1}
model: {image_size: 96, frozen_stages: 5}
training: {epochs: 1, batch_size: 8}
gate: {min_accuracy: 0, min_recall_per_class: 0, max_calibration_error: 1, max_latency_ms: 10000}
"""
JOB = """
$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json
type: command
command: echo done > ${{outputs.text}}/done
outputs: {text: {type: uri_folder}}
environment: azureml:e@latest
compute: azureml:c
"""
# Words of each command, in an order in which each finds what it needs, and the exit code that it ends with.
HERE: list[tuple[str, list[str], int]] = [
    ("config show", ["-w", "small.yml"], 0),
    ("config check", ["-w", "small.yml"], 0),
    ("init", ["fresh", "--defaults", "--out", "named/project"], 0),
    ("new", ["fresh", "--images", "photos"], 0),
    ("data check", ["photos", "--out", "named/check"], 0),
    ("data prepare", ["-w", "small.yml", "--out", "named/data"], 0),
    ("data register", ["photos", "--name", "photos"], 0),
    ("data list", [], 0),
    ("data show", ["azureml:photos:1"], 0),
    ("data add-labels", ["corrections", "--base", "named/data", "-w", "small.yml"], 0),
    ("data fetch", ["SITE/photos.zip", "--out", "named/fetched"], 0),
    ("train", ["--data", "named/data", "--out", "named/bundle", "-w", "small.yml"], 0),
    ("predict", ["named/bundle", "photos/red/000.png", "--explain", "named/why.png"], 0),
    ("evaluate", ["--bundle", "named/bundle", "--data", "named/data", "--out", "named/report"], 0),
    ("gate", ["--candidate", "named/report", "-w", "small.yml"], 0),
    ("export", ["named/bundle", "--data", "named/data", "--out", "named/int8", "--max-drop", "1"], 0),
    ("batch score", ["photos", "--bundle", "named/bundle", "--out", "named/scores.csv"], 0),
    ("models register", ["--bundle", "named/bundle", "--name", "small", "--promote"], 0),
    ("models list", [], 0),
    ("assets list", [], 0),
    ("models show", ["small"], 0),
    ("models path", ["small:1"], 0),
    ("models promote", ["small:1"], 0),
    ("models compare", ["small:1", "small@champion"], 0),
    ("models download", ["small", "--out", "named/copy"], 0),
    ("models explain", ["small"], 0),
    ("models verdict", ["small:1"], 0),
    ("models image", ["small:1", "--base", "server:1", "--context", "named/image"], 0),
    ("job lint", ["job.yml"], 0),
    ("job run", ["job.yml", "--name", "one"], 0),
    ("job resume", ["one"], 2),
    ("job list", [], 0),
    ("job show", ["job.yml"], 0),
    ("job logs", ["one"], 0),
    ("job cancel", ["one"], 2),
    ("job prune", ["--days", "0"], 0),
    ("run", ["-w", "small.yml", "--set", "training.epochs=1"], 0),
    ("demo", ["-w", "small.yml"], 0),
    ("deploy", ["--to", "local", "--model", "small:1", "--endpoint", "tiny", "--workers", "1"], 0),
    ("endpoint list", [], 0),
    ("endpoint show", ["tiny"], 0),
    ("endpoint test", ["tiny", "--image", "photos/red/000.png"], 0),
    ("endpoint logs", ["tiny"], 0),
    ("endpoint traffic", ["tiny", "version-1=100"], 0),
    ("endpoint keys", ["tiny"], 2),
    ("rollout start", ["tiny", "--model", "small:2", "--steps", "100", "--min-requests", "20", "--force"], 0),
    ("rollout status", ["tiny"], 0),
    ("rollout resume", ["tiny"], 2),
    ("rollout abort", ["tiny"], 2),
    ("rollout promote", ["tiny"], 2),
    ("endpoint delete", ["tiny"], 0),
    ("app package", ["--out", "named/app.zip"], 0),
    ("benchmark run", ["-w", "small.yml", "--with", "ours", "--with", "knn", "--out", "named/benchmark.html"], 0),
    ("benchmark report", ["-w", "small.yml", "--out", "named/report.html"], 0),
    ("benchmark export", ["-w", "small.yml", "--with", "knn", "--out", "named/knn.json"], 0),
    ("benchmark import", ["named/knn.json", "--overwrite"], 0),
    ("benchmark clean", ["-w", "small.yml", "--yes"], 0),
    ("doctor", [], 0),
    ("migrate scan", ["."], 0),
]
ON_AZURE: dict[str, list[str]] = {
    "app deploy": ["tiny", "--endpoint", "https://127.0.0.1:9/score", "--package", "named/app.zip"],
    "assets create": ["job.yml"],
    "down": ["--yes"],
    "data download": ["--from", "https://127.0.0.1:9/container/photos", "--out", "named/downloaded"],
    "devops start": ["tiny", "--organization", "https://127.0.0.1:9/o", "--project", "p"],
    "data upload": ["photos", "--to", "https://127.0.0.1:9/container/photos"],
    "devops init": ["--github", "contoso/vision", "--environments", "dev", "--root", str(ROOT), "--yes"],
    "env register": ["dev"],
    "job download": ["one", "--out", "named/results"],
    "models transfer": ["small", "--to", "azureml://workspaces/ws"],
    "pipeline publish": ["job.yml", "--endpoint", "tiny"],
    "pipeline schedule create": ["job.yml"],
    "pipeline schedule delete": ["s"],
    "pipeline schedule list": [],
    "pipeline schedule pause": ["s"],
    "pipeline schedule resume": ["s"],
    "pipeline trigger": ["tiny"],
}
"""Those that call Azure, where nobody answers: they end with 2."""
UNTIL_TOLD = {
    "serve": ["named/bundle", "--port", "0", "--workers", "1", "--port-file", "named/port"],
    "pipeline watch": ["--data", "photos", "-w", "small.yml"],
    "app": ["--endpoint", "http://127.0.0.1:9", "--port", "0", "--port-file", "named/app-port"],
    "azure emulate": ["--port", "0"],
}
"""Commands that end by a signal."""
READY = {
    "serve": "Ctrl-C stops",
    "pipeline watch": "completed after",
    "app": "Ctrl-C stops",
    "azure emulate": "Ctrl-C stops",
}
"""What they say before they get it."""

AZURE = {
    "AZURE_SUBSCRIPTION_ID": "00000000-0000-0000-0000-000000000000",
    "AZURE_RESOURCE_GROUP": "rg",
    "AZUREML_WORKSPACE_NAME": "ws",
    "AZURE_TENANT_ID": "00000000-0000-0000-0000-000000000001",
    "AZURE_CLIENT_ID": "00000000-0000-0000-0000-000000000002",
    "AZURE_CLIENT_SECRET": "secret",
    "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    "AZURE_CLOUD": "Nowhere",
    "AZURE_AUTHORITY_HOST": "https://127.0.0.1:9",
    "AZURE_RESOURCE_MANAGER": "https://127.0.0.1:9",
    "AZURE_PORTAL": "https://127.0.0.1:9",
    "AZURE_STORAGE_SUFFIX": "storage.invalid",
    "AZUREML_RESOURCE_ID": "https://127.0.0.1:9",
    "AZUREML_REGISTRY_DISCOVERY": "https://127.0.0.1:9",
}
"""A cloud on this machine at which nobody answers."""


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> CommandWatch:
    watch = CommandWatch(tmp_path_factory.mktemp("watch"), **AZURE)
    make_prepared(watch.work / "prepared")
    shutil.copytree(watch.work / "prepared" / "train", watch.work / "photos")
    shutil.rmtree(watch.work / "prepared")
    stream = io.BytesIO()
    Image.effect_noise((40, 40), 60).save(stream, "PNG")
    FolderStore(watch.work / "corrections", 10**6).add(corrected(stream.getvalue(), "red"), stream.getvalue())
    (watch.work / "small.yml").write_text(WORKLOAD)
    (watch.work / "job.yml").write_text(JOB)
    (watch.work / "environments" / "conda").mkdir(parents=True)
    (watch.work / "environments" / "conda" / "dev.yml").write_text("dependencies: [python=3.11]\n")
    watch.keep_inputs()
    watch.inputs.add("workloads")  # `mlops new` writes there
    return watch


@pytest.fixture(scope="module")
def site(watch: CommandWatch) -> Iterator[str]:
    """Address of a web server with the photos."""
    photos = {path.relative_to(watch.work).as_posix(): path.read_bytes() for path in watch.work.glob("photos/*/*")}
    with serving(Site({"/photos.zip": Page(zip_of(photos))})) as site:
        yield site.address


def test_every_command_is_watched() -> None:
    assert {name for name, _, _ in HERE} | ON_AZURE.keys() | UNTIL_TOLD.keys() == callbacks().keys()


@pytest.mark.timeout(900)
def test_commands_write_below_outputs_and_call_nobody(watch: CommandWatch, site: str) -> None:
    problems = []
    for name, words, code in HERE:
        ended = watch.run([*name.split(), *(word.replace("SITE", site) for word in words)])
        if ended.code != code or "Traceback" in ended.text:
            problems.append(f"{name} ended with {ended.code}, not {code}: {ended.text[-2000:]}")
        problems += [f"{name} left {trace}" for trace in watch.traces()]
    assert not problems, "\n".join(problems)


def test_commands_that_call_azure_leave_nothing_else(watch: CommandWatch) -> None:
    with ThreadPoolExecutor(4) as pool:  # they mostly wait before they try again
        ends = list(pool.map(lambda item: watch.run([*item[0].split(), *item[1]]), ON_AZURE.items()))
    for name, ended in zip(ON_AZURE, ends, strict=True):
        assert (ended.code, "Traceback" in ended.text) == (2, False), f"{name}: {ended.text[-2000:]}"
    assert watch.traces() == []


@pytest.mark.parametrize("name", UNTIL_TOLD)
def test_what_runs_until_it_is_told_to_end_leaves_nothing(watch: CommandWatch, name: str) -> None:
    log = watch.work / "named" / "log"
    process = watch.start([*name.split(), *UNTIL_TOLD[name]], log)
    try:
        until(lambda: READY[name] in log.read_text(), 120)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130), log.read_text()
    finally:
        process.kill()
        process.wait()
    assert watch.traces() == []
