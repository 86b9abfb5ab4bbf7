"""An executor for tests that are not about running: it writes a file for each output, and waits or fails on demand."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import yaml

from azureml_emulator.jobs.job_executor import JobExecution, JobOrder
from azureml_emulator.jobs.reported_states import ReportedJob, ReportedStep
from azureml_emulator.rest.rest_calls import Json


class Rehearsal:
    """Goes through the motions of a job.

    Args:
        failing: Names of the steps that fail; the steps after it are not reached.
        held: Whether jobs stay running until :meth:`release`.
    """

    def __init__(self, failing: tuple[str, ...] = (), held: bool = False) -> None:
        self.orders: list[JobOrder] = []
        self._failing = failing
        self._go = threading.Event()
        if not held:
            self._go.set()

    def start(self, order: JobOrder) -> JobExecution:
        """Take a job; it ends at once, or when it is released."""
        self.orders.append(order)
        return _Play(order, self._failing, self._go)

    def release(self) -> None:
        """Let the jobs end."""
        self._go.set()

    def definition(self, number: int = -1) -> Json:
        """What a job looked like that was started, by default the last."""
        found: Json = yaml.safe_load(self.orders[number].definition.read_text(encoding="utf-8"))
        return found


class _Play:
    def __init__(self, order: JobOrder, failing: tuple[str, ...], go: threading.Event) -> None:
        self._order = order
        self._failing = failing
        self._go = go
        self._cancelled = False
        self._definition: Json = yaml.safe_load(order.definition.read_text(encoding="utf-8"))
        self._log = order.folder / "log.txt"
        self._log.write_text(f"rehearsing {order.name}\n", encoding="utf-8")

    def state(self) -> ReportedJob:
        steps = list(self._definition.get("jobs", {}))
        logs = {"logs/azureml/executionlogs.txt" if steps else "user_logs/std_log.txt": self._log}
        if self._cancelled:
            return ReportedJob("Canceled", logs=logs, steps={name: ReportedStep("Canceled") for name in steps})
        if not self._go.is_set():
            return ReportedJob("Running", logs=logs, steps={name: ReportedStep("NotStarted") for name in steps})
        states: dict[str, ReportedStep] = {}
        for name in steps:
            if name in self._failing:
                states[name] = ReportedStep("Failed", f"{name} ended with exit code 1", logs=self._step_log(name))
                states.update({later: ReportedStep("Canceled") for later in steps if later not in states})
                return ReportedJob("Failed", f"step {name} failed", steps=states, logs=logs)
            outputs = self._made(f"steps/{name}", self._definition["jobs"][name].get("outputs") or {})
            states[name] = ReportedStep("Completed", outputs=outputs, logs=self._step_log(name))
        made = self._made("outputs", self._definition.get("outputs") or {})
        return ReportedJob("Completed", outputs=made, steps=states, logs=logs)

    def cancel(self) -> None:
        self._cancelled = True

    def preempt(self) -> None:
        """What only pretends to run goes on pretending."""

    def metrics(self, step: str) -> dict[str, float]:
        return {"length": float(len(step or self._order.name))}

    def _step_log(self, name: str) -> dict[str, Path]:
        file = self._order.folder / f"{name}.txt"
        file.write_text(f"this is {name}\n", encoding="utf-8")
        return {"user_logs/std_log.txt": file}

    def _made(self, where: str, declared: dict[str, Any]) -> dict[str, Path]:
        found = {}
        for name, port in declared.items():
            path = self._order.folder / where / name
            single = isinstance(port, dict) and port.get("type") == "uri_file"
            file = path if single else path / "made.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{where} {name}\n", encoding="utf-8")
            found[name] = path
        return found
