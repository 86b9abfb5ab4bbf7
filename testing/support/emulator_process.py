"""The emulator as its users start it: a process of its own, reached by variables alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests

from azureml_emulator.client_variables import IN_THE_WAY, client_variables
from azureml_emulator.process_commands import MARK
from azureml_emulator.state_folder import StateFolder

_READY = re.compile(r"ready after ([\d.]+) s at http://127\.0\.0\.1:(\d+)")
_FOREIGN = ("AZURE", "MLOPS_", "MLFLOW_")


def plain_environment() -> dict[str, str]:
    """Variables of this process without those that tests set for the tool."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}


def published_version(path: str) -> str:
    """An API version that the provider of a path has published."""
    provider, _, below = path.lower().rpartition("/providers/")[2].partition("/")
    if below in ("", "register"):
        return "2022-12-01"
    return {
        "microsoft.storage": "2023-05-01",
        "microsoft.authorization": "2022-04-01",
        "microsoft.web": "2023-12-01",
        "microsoft.containerinstance": "2023-05-01",
        "microsoft.machinelearningservices": "2024-04-01",
        "microsoft.insights": "2022-10-01",
        "microsoft.containerregistry": "2023-07-01",
        "microsoft.keyvault": "2023-07-01",
        "microsoft.managedidentity": "2023-01-31",
        "microsoft.cognitiveservices": "2025-06-01",
    }.get(provider, "2022-12-01")


class EmulatorProcess:
    """An emulator that runs with a state folder."""

    def __init__(self, state: Path, *options: str) -> None:
        self.state = StateFolder(state)
        self._log = state.with_suffix(".log")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "azureml_emulator", "--state", str(state), "--port", "0", *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=plain_environment(),
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while not (found := _READY.search(self._log.read_text())):
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)
        self.seconds, self.port = float(found[1]), int(found[2])

    @property
    def variables(self) -> dict[str, str]:
        """What points clients at it."""
        return client_variables(self.state, self.port)

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a client."""
        kept = {name: value for name, value in plain_environment().items() if name not in IN_THE_WAY}
        return {**kept, **self.variables}

    def descendants(self) -> list[psutil.Process]:
        """All processes that it or they have started."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == str(self.state.path) and process.pid != self.process.pid:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it as Ctrl-C does; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(90)

    def session(self) -> requests.Session:
        """A client that takes nothing from this process's environment but what the emulator's variables say."""
        made = requests.Session()
        made.trust_env = False
        made.proxies = {"https": self.variables["HTTPS_PROXY"], "http": self.variables["HTTP_PROXY"]}
        made.verify = self.variables["REQUESTS_CA_BUNDLE"]
        return made

    def token(self, audience: str = "https://management.azure.com") -> str:
        """A token of its service principal."""
        wanted = self.variables
        form = {
            "grant_type": "client_credentials",
            "client_id": wanted["AZURE_CLIENT_ID"],
            "client_secret": wanted["AZURE_CLIENT_SECRET"],
            "scope": f"{audience}/.default",
        }
        with self.session() as session:
            address = f"https://login.microsoftonline.com/{wanted['AZURE_TENANT_ID']}/oauth2/v2.0/token"
            return str(session.post(address, data=form, timeout=30).json()["access_token"])

    def call(self, method: str, path: str, body: Any = None, host: str = "management.azure.com") -> requests.Response:
        """A call of the resource manager; what begins with ``ws/`` is below the workspace."""
        scope = "/subscriptions/{AZURE_SUBSCRIPTION_ID}/resourceGroups/{AZURE_RESOURCE_GROUP}"
        base = scope + "/providers/Microsoft.MachineLearningServices/workspaces/{AZUREML_WORKSPACE_NAME}"
        path = path if path.startswith("/") else base.format(**self.variables) + "/" + path
        headers, version = {"Authorization": f"Bearer {self.token()}"}, {"api-version": published_version(path)}
        with self.session() as session:
            address = f"https://{host}{path}"
            return session.request(method, address, json=body, headers=headers, params=version, timeout=60)


@contextmanager
def emulator(state: Path, *options: str) -> Iterator[EmulatorProcess]:
    """Run an emulator, and end it with all that it has started."""
    running = EmulatorProcess(state, *options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()
