"""An interface for scoring requests, and its implementation by the deployment's own script."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Protocol

from azureml_emulator.endpoints.managed_limits import late, timeout_of
from azureml_emulator.jobs.project_folder import ProjectFolder
from azureml_emulator.process_commands import machine_environment
from azureml_emulator.resources.datastore_addresses import OutputAddresses
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError

# Runs the entry script as Azure ML's inference server does: init() once, then run() with the text of the request, which
# is ended when its time is up.
_HOST = """\
import importlib.util, json, signal, sys
from contextlib import redirect_stdout
class Late(BaseException): pass
def late(*_): raise Late
spec = importlib.util.spec_from_file_location("score", sys.argv[1])
module = importlib.util.module_from_spec(spec)
with redirect_stdout(sys.stderr):
    spec.loader.exec_module(module)
    module.init()
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
    try:
        answer = module.run(sys.stdin.read())
    except Late:
        sys.exit(75)
    signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps(answer))
"""
_LATE = 75


class DeploymentScorer(Protocol):
    """Responds to scoring requests."""

    def score(self, deployment: RestResource, body: Json) -> object:
        """Return the response of a deployment to a request, as JSON."""

    def log(self, deployment: RestResource) -> str:
        """Return what a deployment has printed."""


class ScriptScorer:
    """Runs the entry script of the deployment, with its model, in a separate process for each request.

    Args:
        subscription: Contains code and models.
        jobs: Knows the outputs from which models may be made.
    """

    def __init__(self, subscription: Subscription, jobs: OutputAddresses) -> None:
        self._subscription = subscription
        self._jobs = jobs
        self._logs: dict[str, str] = {}

    def score(self, deployment: RestResource, body: Json) -> object:
        """Download code and model, and run the script.

        Raises:
            ServiceRefusalError: 424, as the service responds if the model fails; 408, if it takes too long; 400, the
                deployment has no script.
        """
        script = deployment.properties.get("codeConfiguration") or {}
        if not script.get("scoringScript"):
            raise ServiceRefusalError(
                400, "UserError", f"the deployment {deployment.name!r} has no script that could run here"
            )
        with tempfile.TemporaryDirectory(dir=self._subscription.folder) as folder:
            project = ProjectFolder(
                self._subscription, self._jobs, deployment.id.split("/onlineEndpoints/")[0], Path(folder)
            )
            code = project.folder / project.code(script["codeId"])
            model = deployment.properties.get("model")
            variables = dict(deployment.properties.get("environmentVariables") or {})
            if model:
                asset = str(model if isinstance(model, str) else model.get("assetId"))
                # The service mounts the model below this folder, under the name of its own last folder.
                variables["AZUREML_MODEL_DIR"] = str((project.folder / project.data("model", asset)).parent)
            finished = subprocess.run(
                [sys.executable, "-c", _HOST, str(code / script["scoringScript"]), str(timeout_of(deployment))],
                input=json.dumps(body),
                capture_output=True,
                text=True,
                cwd=code,
                env={**machine_environment(), **variables},
                timeout=120,
            )
        self._logs[deployment.id] = self._logs.get(deployment.id, "") + finished.stderr
        if finished.returncode == _LATE:
            raise late(deployment)
        if finished.returncode != 0:
            last = finished.stderr.strip().splitlines()[-1:]
            raise ServiceRefusalError(424, "ModelError", f"the script failed: {' '.join(last)}")
        answer: object = json.loads(finished.stdout)
        return answer

    def log(self, deployment: RestResource) -> str:
        """Return what the script has printed in all requests."""
        return self._logs.get(deployment.id, "")
