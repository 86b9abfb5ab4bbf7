"""`mlops migrate scan`: what of version 1 of Azure ML is found in a repository, where, and what it is answered with."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from testing.support.v1_project import FILES, write_v1_project

import vision_mlops
from vision_mlops.cli.commands import callbacks
from vision_mlops.config.retirements import retirements
from vision_mlops.core.errors import DataError
from vision_mlops.doctor.migration.python_names import names_in
from vision_mlops.doctor.migration.repository_scan import scan
from vision_mlops.doctor.migration.v1_names import GUIDE as GUIDE_ADDRESS
from vision_mlops.doctor.migration.v1_names import Topic, match_commands, match_line, match_python, v1_names

ROOT = Path(vision_mlops.__file__).parents[2]
TODAY = date(2026, 11, 30)
GUIDE = (ROOT / "docs" / "how_to" / "migrate_v1.md").read_text(encoding="utf-8")
RAN = Callable[..., tuple[int, str, str]]

EXPECTED = {
    "train.py": "3 Run; 6 Run.get_context; 10 Run.log; 11 Run.log; 12 Workspace.name; 17 Run.register_model",
    "submit.py": """
        1 azureml.core; 2 Environment; 2 Experiment; 2 Workspace; 3 AmlCompute; 3 ComputeTarget; 4 PyTorch; 5 BanditPolicy;
        5 HyperDriveConfig; 5 choice; 11 Workspace.from_config; 12 Environment.from_conda_specification;
        13 AmlCompute.provisioning_configuration; 13 STANDARD_NC6; 14 ComputeTarget.create;
        15 Datastore.upload; 15 Workspace.get_default_datastore; 16 Dataset.File.from_files; 17 Experiment.submit;
        17 Experiment; 17 PyTorch; 18 Run.wait_for_completion
        """,
    "deploy.py": """
        1 InferenceConfig; 1 Model; 2 AciWebservice; 2 AksWebservice; 2 Webservice; 4 Model.deploy; 4 InferenceConfig;
        4 AciWebservice.deploy_configuration; 5 Webservice.get_logs
        """,
    "pipeline.py": """
        1 Pipeline; 1 PipelineData; 2 PythonScriptStep; 4 Pipeline; 4 PythonScriptStep; 4 Pipeline.publish;
        5 PublishedPipeline.submit
        """,
    "old.py": "1 Workspace; 2 syntax",
    "azure-pipelines.yml": """
        2 ubuntu-18.04; 6 python 3.7; 7 AzureCLI@1; 10 extension add --name azure-cli-ml; 11 az ml model deploy;
        12 az ml run; 15 publisher.extension.MLPublishedPipelineRestAPITask@0; 16 task: Docker@1;
        17 task: PublishCodeCoverageResults@1; 19 macOS-10.15
        """,
    "docker/Dockerfile": "1 mcr.microsoft.com/azureml/openmpi3.1.2-ubuntu18.04:20200723.v1; 3 azureml-defaults",
    "deployment.json": '1 "computeType": "ACI',
    "explore.ipynb": """
        2/2 Workspace; 2/3 Workspace.from_config; 3/1 az ml service; 3/5 Workspace.get_default_datastore;
        4/2 az ml computetarget; 5/2 Datastore.download; 6/1 RunDetails; 6/2 syntax
        """,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v1_project(tmp_path_factory.mktemp("v1"))


def test_each_file_has_its_findings_and_no_others(project: Path) -> None:
    result = scan(project, TODAY)
    found: dict[str, set[str]] = {}
    for item in result.findings:
        line = f"{item.cell}/{item.line}" if item.cell else str(item.line)
        found.setdefault(item.file, set()).add(f"{line} {item.name}")
    assert found == {file: {part.strip() for part in text.split(";")} for file, text in EXPECTED.items()}
    assert result.too_large == ["photos.json"]
    assert result.files == 10


def test_a_finding_says_when_and_what_instead(project: Path) -> None:
    found = {(item.file, item.line, item.name): item for item in scan(project, TODAY).findings}
    size = found["submit.py", 13, "STANDARD_NC6"]
    assert (size.severity, size.day, size.guide) == (
        "error", "2023-09-06", f"{GUIDE_ADDRESS}#machines-agents-images-and-python",
    )  # fmt: skip
    assert "Standard_NC4as_T4_v3" in size.replacement
    sweep = found["submit.py", 5, "HyperDriveConfig"]
    what, instead = str(sweep).split("\n  -> ")
    assert what == "submit.py:5: error: HyperDriveConfig: version 1 of the Azure ML SDK (ended on 2026-06-30)"
    assert instead == f"{sweep.replacement} ({GUIDE_ADDRESS}#sweeps)"
    assert "sweep.yml" in sweep.replacement
    assert found["explore.ipynb", 2, "Datastore.download"].place == "explore.ipynb:cell 5:2"
    advice = found["azure-pipelines.yml", 16, "task: Docker@1"]
    assert (advice.severity, advice.day) == ("note", "")


def test_the_day_decides_how_urgent_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import azureml.core\n")

    def severity(day: date) -> str:
        return scan(tmp_path, day).findings[0].severity

    assert severity(date(2025, 12, 1)) == "note"
    assert severity(date(2026, 1, 15)) == "warning"
    assert severity(date(2026, 6, 30)) == "error"


def test_the_command_counts_and_ends_as_it_is_told_to(mlops: RAN, project: Path, tmp_path: Path) -> None:
    code, out, err = mlops("migrate", "scan", project)
    assert code == 0
    assert "train.py:6: error: Run.get_context" in out
    assert "photos.json was skipped: it is too large\n" in err
    assert re.search(r"\d+ errors, 0 warnings, 2 notes in 9 of 10 files", err)
    code, out, err = mlops("migrate", "scan", project, "--json", "--fail-on", "error")
    assert code == 1
    assert {"file", "line", "name", "severity", "what", "day", "replacement", "guide", "cell"} == set(
        json.loads(out)[0]
    )
    (tmp_path / "clean.py").write_text(FILES["clean.py"])
    code, out, err = mlops("migrate", "scan", tmp_path, "--fail-on", "note")
    assert (code, out, err) == (0, "", "0 errors, 0 warnings, 0 notes in 0 of 1 file\n")
    (tmp_path / "clean.yml").write_text("- task: Docker@1\n")
    assert [mlops("migrate", "scan", tmp_path, "--fail-on", limit)[0] for limit in ("note", "warning")] == [1, 0]


def test_a_folder_that_is_none_is_refused(mlops: RAN, tmp_path: Path) -> None:
    code, out, err = mlops("migrate", "scan", tmp_path / "nowhere")
    assert (code, out) == (2, "")
    assert err == f"error: {tmp_path / 'nowhere'} is not a folder\n  -> give the folder of a repository\n"


ODD = {
    "broken.ipynb": ("{", "is not a notebook"),
    "empty.ipynb": ("\n", "is not a notebook (it is empty)"),
    "list.ipynb": ("[]", "is not a notebook"),
    "null.ipynb": ('{"cells": [1]}', "is not a notebook"),
    "deep.py": ("(" * 5000, "not valid code for Python 3"),
    "null.py": ("x = 1\n" * 2000 + "\0", "not valid code for Python 3"),
    "latin.py": ("# caf\xe9\nx = (\n", "not valid code for Python 3"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_cannot_be_read_is_a_finding(tmp_path: Path, name: str) -> None:
    content, problem = ODD[name]
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    (finding,) = scan(tmp_path, TODAY).findings
    assert problem in finding.what
    heading, severity = ("files-that-cannot-be-read", "warning") if "notebook" in problem else ("python-2", "error")
    assert (finding.guide, finding.severity) == (f"{GUIDE_ADDRESS}#{heading}", severity)


def test_files_without_permission_are_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    (finding,) = scan(tmp_path, TODAY).findings
    assert (finding.file, finding.what) == ("a.py", "it cannot be read (Permission denied)")
    with pytest.raises(DataError, match="is not a folder"):
        scan(tmp_path / "a.py", TODAY)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from azureml.core import *", "azureml.core"),
        ("import azureml.core\nazureml.core.Workspace.get('w')", "azureml.core.Workspace.get"),
        ("from azureml.core import Run\ndef f(run: Run):\n    run.tag('a')", "azureml.core.Run.tag"),
        ("from azureml.core import Run\nrun: Run = make()\nrun.log(1)", "azureml.core.Run.log"),
        ("from azureml.core import Experiment as E\nwith E().start_logging() as run:\n  run.log(1)", "azureml.core.Run.log"),
        ("from azureml.core import Run\nfirst = second = Run.get_context()\nsecond.log(1)", "azureml.core.Run.log"),
    ],
)  # fmt: skip
def test_names_are_followed(code: str, name: str) -> None:
    assert name in {found for _, found in names_in(code, v1_names().returns)}


RUNS = """\
import subprocess
from azureml.core import Dataset, Experiment, Run, Workspace
from azureml.train.hyperdrive import HyperDriveConfig
ws = Workspace.from_config()
exp = Experiment(ws, "flowers")
search = exp.submit(HyperDriveConfig())
best = search.get_best_run_by_primary_metric()
best.register_model("flowers")
for child in search.get_children():
    child.log("a", 1)
for run in exp.get_runs():
    run.cancel()
runs = sorted(exp.get_runs(), key=str)
runs[0].tag("first")
ids = [r.upload_file("a", "b") for r in runs if r.get_details()]
r = next(exp.get_runs())
r.fail()
for model in ws.models.values():
    model.download()
table = Dataset.Tabular.from_delimited_files("a.csv")
table.to_pandas_dataframe()
run.experiment.workspace
subprocess.run(["az", "ml", "service", "list"])
subprocess.run([
    "az",
    "ml",
    'run', "list",
])
"""


def test_runs_are_followed_out_of_lists_and_searches(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(RUNS)
    found = {(item.line, item.name): item.replacement for item in scan(tmp_path, TODAY).findings}
    expected = {
        (7, "Run.get_best_run_by_primary_metric"): "the outputs of the sweep",
        (8, "Run.register_model"): "`mlops models register`",
        (9, "Run.get_children"): "runs of MLflow",
        (10, "Run.log"): "MLflow",
        (11, "Experiment.get_runs"): "`mlops job list`",
        (12, "Run.cancel"): "`mlops job cancel NAME`",
        (14, "Run.tag"): "MLflow",
        (15, "Run.upload_file"): "outputs of the job",
        (15, "Run.get_details"): "`mlops job logs",
        (17, "Run.fail"): "`mlops job cancel NAME`; the exit code",
        (19, "Model.download"): "`mlops models download",
        (20, "Dataset.Tabular.from_delimited_files"): "a file `MLTable`",
        (21, "TabularDataset.to_pandas_dataframe"): "a file `MLTable`",
        (22, "Experiment.workspace"): "the settings",
        (23, "az ml service"): "`mlops deploy`",
        (25, "az ml run"): "`mlops job run",
    }
    assert {place for place in expected if place not in found} == set()
    assert {place: found[place] for place in expected if not found[place].startswith(expected[place])} == {}


def test_a_variable_of_a_loop_in_brackets_is_gone_after_it() -> None:
    code = "from azureml.core import Experiment\nids = [r.id for r in Experiment().get_runs()]\nr.log(1)"
    assert not any(line == 3 for line, _ in names_in(code, v1_names().returns, v1_names().elements))


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        ({"kernelspec": {"name": "python38-azureml", "display_name": "Python 3.8 - AzureML"}}, "python 3.8"),
        ({"kernelspec": {"name": "azureml_py36", "display_name": "Python 3.6 - AzureML"}}, "python 3.6"),
        ({"kernelspec": {"name": "python3"}, "language_info": {"name": "python", "version": "3.7.9"}}, "python 3.7"),
        ({"kernelspec": {"name": "python2"}}, "python 2"),
        ({"kernelspec": {"name": "python3", "display_name": "Python 3"}}, ""),
        ({"kernelspec": {"name": "ir"}, "language_info": {"name": "R", "version": "3.6.1"}}, ""),
        ([], ""),
    ],
)
def test_the_kernel_of_a_notebook_counts(tmp_path: Path, metadata: object, name: str) -> None:
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": [], "metadata": metadata}))
    assert [(item.name, item.place) for item in scan(tmp_path, TODAY).findings] == ([(name, "a.ipynb")] if name else [])


@pytest.mark.parametrize(
    ("file", "line", "found"),
    [
        ("setup.py", 'setup(python_requires=">=3.6")', 'python_requires=">=3.6'),
        ("pyproject.toml", 'requires-python = ">3.8, <3.13"', 'requires-python = ">3.8'),
        ("pyproject.toml", 'python = "^3.7"', 'python = "^3.7'),
        ("setup.cfg", "python_requires = '<4, >=2.7'", "python_requires = '<4, >=2.7"),
        ("setup.cfg", "python_requires = >=3.9", "python_requires = >=3.9"),
        ("pyproject.toml", 'requires-python = ">=3.11,<3.14"', ""),
        ("pyproject.toml", 'requires-python = "<3.10"', ""),
    ],
)
def test_the_oldest_python_is_advice(tmp_path: Path, file: str, line: str, found: str) -> None:
    (tmp_path / file).write_text(line)
    notes = [(item.name, item.severity) for item in scan(tmp_path, TODAY).findings]
    assert notes == ([(found, "note")] if found else [])


def test_what_git_ignores_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("outputs/\n.env\n!\n*_old.py\n")
    for name in ("outputs/a.py", "src/b_old.py", "src/kept_old.py", "src/c.py", "src/made/d.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("import azureml.core\n")
    (tmp_path / "outputs" / "broken.ipynb").write_text("{")
    (tmp_path / "src" / ".gitignore").write_text("made\n!kept_old.py\n")
    (tmp_path / ".env").write_text("SIZE=Standard_NC6\n")
    assert [item.file for item in scan(tmp_path, TODAY).findings] == [".env", "src/c.py", "src/kept_old.py"]


def test_what_is_shown_says_nothing_of_how_it_was_looked_up() -> None:
    texts = [text.what for topic in v1_names().topics for text in topic.texts]
    assert not [text for text in (*texts, *(row.what for row in retirements())) if "memory" in text]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert GUIDE_ADDRESS.startswith(f"{project['urls']['Repository']}/blob/")


def test_a_variable_that_became_something_else_is_not_followed() -> None:
    code = "from azureml.core import Run\nrun = Run.get_context()\nrun = open('x')\nrun.log(1)"
    assert not any(line == 4 for line, _ in names_in(code, v1_names().returns))


@pytest.mark.parametrize(
    "line",
    ["az ml model create", "az ml job create", "az ml online-deployment create", "az ml run-history list", "az mlops run",
     "az ml environment create", "az extension add -n ml", "task: Docker@2", "task: AzureCLI@2"],
)  # fmt: skip
def test_version_2_is_left_alone(line: str) -> None:
    assert not [*match_line(line), *match_commands(line)]


@pytest.mark.parametrize(
    "name", ["azureml.mlflow", "azureml.ai.monitoring.Collector", "azure.ai.ml.MLClient", "azuremlx.Y"]
)
def test_what_still_serves_is_left_alone(name: str) -> None:
    assert match_python(name) is None


def test_no_name_is_in_the_table_twice() -> None:
    names = [name for topic in v1_names().topics for row in topic.python for name in row.names]
    assert sorted(names) == sorted(set(names))
    assert {*v1_names().returns.values(), *v1_names().elements.values()} <= {name.partition(".")[0] for name in names}


def options_of(command: str) -> str:
    """The part of the reference that is about a command."""
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    parts = re.split(r"^## `(mlops .*)`\n", reference, flags=re.MULTILINE)
    return max(
        (
            (name, text)
            for name, text in zip(parts[1::2], parts[2::2], strict=True)
            if f"{command} ".startswith(f"{name} ")
        ),
        key=lambda part: len(part[0]),
    )[1]


def test_replacements_name_commands_files_and_settings_that_exist() -> None:
    variables = (ROOT / ".env.example").read_text(encoding="utf-8")
    rows = [
        row for topic in v1_names().topics for row in (*topic.python, *topic.modules, *topic.commands, *topic.texts)
    ]
    for row in rows:
        for quoted in re.findall(r"`([^`]+)`", row.replacement):
            if quoted.startswith("mlops "):
                assert all(
                    re.search(rf"`.*{option}\b", options_of(quoted)) for option in re.findall(r" (--[a-z-]+)", quoted)
                ), quoted
                words = quoted.split()[1:]
                groups = {name.partition(" ")[0] for name in callbacks() if " " in name}
                assert words in [[group] for group in groups] or any(
                    " ".join(words[:length]) in callbacks() for length in (1, 2, 3)
                ), quoted
            if re.fullmatch(r"(AZURE|AZUREML|MLOPS)_[A-Z_]+", quoted) and quoted != "AZUREML_MODEL_DIR":
                assert quoted in variables, quoted
            if re.match(r"(environments|infrastructure|src|ado_pipelines)/", quoted) and "NAME" not in quoted:
                assert (ROOT / quoted).exists(), quoted
    for topic in v1_names().topics:
        assert (ROOT / "docs" / "how_to" / topic.guide).is_file()


def sections() -> dict[str, str]:
    """Text of the guide by heading."""
    parts = re.split(r"^## (.+)\n", GUIDE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("topic", v1_names().topics, ids=lambda topic: topic.heading)
def test_the_guide_has_the_table_of_each_topic(topic: Topic) -> None:
    """Its rows are those of `v1_names.yml`: the message has what is missing, ready to be pasted."""
    section = sections()[topic.heading]
    rows = []
    for row in (*topic.python, *topic.modules, *topic.texts):
        rows.append(f"| {', '.join(f'`{name}`' for name in row.names)} | {row.replacement} |")
    for row in topic.commands:
        rows.append(f"| {', '.join(f'`az ml {name}`' for name in row.names)} | {row.replacement} |")
    missing = [row for row in rows if row not in section.splitlines()]
    assert "\n".join(missing) == ""
    assert len([line for line in section.splitlines() if line.startswith("| `")]) == len(rows)
    assert topic.guide == "migrate_v1.md" or f"]({topic.guide})" in section
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in sections()}
    assert topic.link.partition("#")[2] in anchors


def test_the_example_of_the_guide_prints_what_it_shows(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(.*)\n((?:(?!```).*\n)*)```$", GUIDE, re.MULTILINE)
    for header, content in blocks:
        if name := re.search(r'title="old-project/(.+)"', header):
            (tmp_path / name[1]).write_text(content)
    printed = "\n".join(map(str, scan(tmp_path, TODAY).findings)).splitlines()
    shown = [line for header, content in blocks if not header for line in content.splitlines() if line != "..."]
    assert len(shown) == 4
    assert [line for line in shown if line not in printed] == []


def test_tasks_that_the_guide_names_are_in_the_table_of_retirements() -> None:
    tasks = [row.pattern for row in retirements() if row.kind == "task"]
    section = sections()["Azure DevOps"]
    for pattern in tasks:
        name = re.search(r"[A-Za-z]{5,}", pattern)
        assert name is not None
        assert name[0] in section
