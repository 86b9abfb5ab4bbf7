"""What of MLflow is loaded: all of it where code of others runs, and what runs and models need elsewhere."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

# The command stands for one that records a run, and pandas for what is loaded when it is not needed.
_COMMAND = """
import sys
from vision_mlops.cli import {name}
from vision_mlops.tracking import mlflow_runs
def command() -> None:
    run_id = mlflow_runs.start_run("experiment", "run", {{"kind": "test"}})
    mlflow_runs.log_params(run_id, {{"epochs": 2}})
    mlflow_runs.log_metrics(run_id, {{"accuracy": 0.5}})
    mlflow_runs.end_run(run_id)
    print(mlflow_runs.find_run(run_id).data.metrics, mlflow_runs.client().search_registered_models().to_list())
    print([name for name in ("numpy", "pandas") if name in sys.modules])
    import pandas
    print(pandas.Series([1, 2]).sum())
{name}.{name} = command
sys.argv = ["mlops", "{name}"]
from vision_mlops.cli.main import main
main()
"""


@pytest.mark.parametrize(("name", "loaded"), [("deploy", []), ("train", ["numpy", "pandas"])])
def test_only_a_process_that_may_run_code_of_others_loads_all(name: str, loaded: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND.format(name=name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["{'accuracy': 0.5} []", str(loaded), "3"]


def test_other_threads_load_tables_meanwhile() -> None:
    from vision_mlops.tracking.mlflow_import import WithoutTables

    finder = WithoutTables()
    with pytest.raises(ModuleNotFoundError, match="No module named 'pandas'"):
        finder.find_spec("pandas", None)
    assert finder.find_spec("pandas.core", None) is None
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(finder.find_spec("pandas", None)))
    thread.start()
    thread.join()
    assert found == [None]
