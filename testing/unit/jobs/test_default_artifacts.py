"""What steps write to ./outputs and ./logs without declaring it: there before they start, kept, and passed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import command, command_job, component, output, pipeline, run, statuses, write

from vision_mlops.core import paths

WRITES = "echo salt > outputs/word.txt && echo seen > logs/own.log"
READS = "cat ${{inputs.kept}}/outputs/word.txt ${{inputs.kept}}/logs/own.log > ${{outputs.out}}"


def chain(writer: dict[str, Any]) -> dict[str, Any]:
    kept = {"kept": "${{parent.jobs.writer.outputs.artifacts}}"}
    return pipeline({"writer": writer, "reader": command(READS, {"out": "uri_file"}, inputs=kept)})


@pytest.mark.usefixtures("without_mlflow")
class TestSteps:
    def test_a_following_step_takes_them(self, tmp_path: Path) -> None:
        job = write(tmp_path / "job.yml", chain(command(WRITES, outputs={"artifacts": {}})))
        job.write_text(job.read_text().replace("artifacts: {}", "artifacts:"))
        first, second = run(job), run(job)
        assert statuses(first) == {"writer": "Completed", "reader": "Completed"}
        assert statuses(second) == {"writer": "Reused", "reader": "Reused"}
        assert output(first, "reader").read_text() == "salt\nseen\n"
        job.write_text(job.read_text().replace("echo salt", "echo pepper"))
        third = run(job)
        assert output(third, "reader").read_text() == "pepper\nseen\n", (
            "their content is part of what a step depends on"
        )

    def test_a_following_step_takes_what_was_not_declared(self, tmp_path: Path) -> None:
        """Not even by the component, and also where there is nothing."""
        write(tmp_path / "part.yml", component(WRITES))
        for _ in range(2):
            ended = run(write(tmp_path / "job.yml", chain({"type": "command", "component": "./part.yml"})))
            assert output(ended, "reader").read_text() == "salt\nseen\n"
        job = chain(command("true"))
        job["jobs"]["reader"]["command"] = "ls ${{inputs.kept}} > ${{outputs.out}}"
        assert output(run(write(tmp_path / "job.yml", job)), "reader").read_text() == ""

    def test_they_are_kept_of_a_step_that_declares_nothing(self, tmp_path: Path) -> None:
        job = write(tmp_path / "job.yml", command_job(WRITES, {"out": "uri_folder"}))
        for status in ("Completed", "Reused"):
            ended = run(job)
            assert statuses(ended) == {"job": status}
            shown = paths.home() / "jobs" / ended.state.name / "steps" / "job" / "outputs" / "artifacts"
            assert (shown / "outputs" / "word.txt").read_text() == "salt\n"
            assert shown.resolve() == output(ended, "job", "artifacts")
        assert set(ended.state.outputs) == {"out"}, "they are no output of the job"
        (output(ended, "job", "artifacts") / "outputs" / "word.txt").write_text("sugar")
        assert statuses(run(job)) == {"job": "Completed"}, "a result that was changed is made again"

    def test_nothing_is_kept_where_nothing_is_written(self, tmp_path: Path) -> None:
        ended = run(write(tmp_path / "job.yml", command_job("test -d outputs && test -d logs")))
        assert (statuses(ended), ended.state.steps["job"].outputs) == ({"job": "Completed"}, {})

    def test_code_and_outputs_of_that_name(self, tmp_path: Path) -> None:
        """A file of the code that is called so stays a file, and an output that is a file stays what the step made it."""
        write(tmp_path / "code" / "logs", "a file")
        text = "cat logs > ${{outputs.artifacts}} && echo 1 > outputs/x"
        ended = run(write(tmp_path / "job.yml", command_job(text, {"artifacts": "uri_file"}, code="./code")))
        assert output(ended, "job", "artifacts").read_text() == "a file"
        declared = command_job("echo own > ${{outputs.artifacts}}/own; " + WRITES, {"artifacts": "uri_folder"})
        ended = run(write(tmp_path / "second.yml", declared))
        found = {path.relative_to(output(ended, "second", "artifacts")).as_posix()
                 for path in output(ended, "second", "artifacts").rglob("*") if path.is_file()}  # fmt: skip
        assert found == {"own", "outputs/word.txt", "logs/own.log"}

    def test_a_failed_step_leaves_them_where_it_worked(self, tmp_path: Path) -> None:
        ended = run(write(tmp_path / "job.yml", command_job(f"{WRITES}; exit 3")))
        step = paths.home() / "jobs" / ended.state.name / "steps" / "job"
        assert (step / "work" / "outputs" / "word.txt").read_text() == "salt\n"
        assert ended.state.steps["job"].outputs == {}

    @pytest.mark.slow
    def test_a_parallel_step_has_them(self, tmp_path: Path) -> None:
        script = "def init(): open('outputs/word.txt', 'w').write('salt'); open('logs/own.log', 'w').write('seen')\n"
        write(tmp_path / "code" / "score.py", script + "def run(batch): return list(batch)\n")
        write(tmp_path / "data" / "a.txt", "a")
        task = {"type": "run_function", "code": "./code", "entry_script": "score.py", "environment": "azureml:e:1"}
        writer = {
            "type": "parallel", "task": task, "input_data": "${{inputs.data}}", "mini_batch_size": "1",
            "inputs": {"data": {"type": "uri_folder", "path": "./data"}}, "outputs": {"artifacts": {"type": "uri_folder"}},
        }  # fmt: skip
        ended = run(write(tmp_path / "job.yml", chain(writer)))
        assert statuses(ended) == {"writer": "Completed", "reader": "Completed"}
        assert output(ended, "reader").read_text() == "saltseen"


TRIAL = """
import os, pathlib, sys
from mlflow import MlflowClient
MlflowClient().log_metric(os.environ["MLFLOW_RUN_ID"], "score", float(sys.argv[1]))
pathlib.Path("outputs/word.txt").write_text(sys.argv[1])
pathlib.Path("logs/own.log").write_text("!")
"""


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_those_of_the_best_trial_are_those_of_the_sweep(tmp_path: Path) -> None:
    write(tmp_path / "code" / "fit.py", TRIAL)
    write(tmp_path / "fit.yml", component("python fit.py ${{inputs.x}}", {"x": "number"}, code="./code"))
    sweep = {
        "type": "sweep", "trial": "file:./fit.yml", "sampling_algorithm": "grid",
        "search_space": {"x": {"type": "choice", "values": [1, 3, 2]}}, "limits": {"max_total_trials": 3},
        "objective": {"goal": "maximize", "primary_metric": "score"},
    }  # fmt: skip
    ended = run(write(tmp_path / "job.yml", chain(sweep)))
    assert statuses(ended) == {"writer": "Completed", "reader": "Completed"}
    assert output(ended, "reader").read_text() == "3!"
    trials = paths.home() / "jobs" / ended.state.name / "steps" / "writer" / "trials"
    kept = [(trials / str(number) / "artifacts" / "outputs" / "word.txt").read_text() for number in range(3)]
    assert sorted(kept) == ["1", "2", "3"]
