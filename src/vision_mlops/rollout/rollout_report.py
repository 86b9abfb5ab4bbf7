"""The report of a rollout: what was done and observed at each step, as JSON, text and a page, kept up to date."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from vision_mlops.core import paths
from vision_mlops.core.errors import MlopsError
from vision_mlops.core.files import atomic_write
from vision_mlops.core.text import counted
from vision_mlops.endpoints.contract import Endpoint
from vision_mlops.registry import Registry
from vision_mlops.rollout import rollout_page
from vision_mlops.rollout.judge import Judgement, Observation
from vision_mlops.rollout.rollout_endpoint import shares
from vision_mlops.rollout.rollout_settings import write_steps
from vision_mlops.rollout.rollout_state import Rollout

JSON_FILE = "report.json"
TEXT_FILE = "report.txt"
PAGE_FILE = "report.html"


class RolloutOutcome(StrEnum):
    """The state of a rollout, or how it ended."""

    UNDER_WAY = "under way"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"


def rollouts_folder(endpoint: str) -> Path:
    """Return the folder of the reports of an endpoint's rollouts on this machine."""
    return paths.home() / "rollouts" / endpoint


class Report:
    """Report of one rollout, which continues what an earlier process on this machine wrote.

    Args:
        endpoint: As it is now.
        state: Of the rollout.
        registry: Where accuracy and verdict of both versions are looked up.
    """

    def __init__(self, endpoint: Endpoint, state: Rollout, registry: Registry) -> None:
        self.folder = rollouts_folder(endpoint.name) / state.folder_name
        champion = next((item.reference for item in endpoint.deployments if item.name == state.champion), "")
        self.content: dict[str, Any] = {
            "endpoint": endpoint.name,
            "target": endpoint.target,
            "candidate": {"deployment": state.candidate, "model": state.model, **_judged(registry, state.model)},
            "champion": {"deployment": state.champion, "model": champion, **_judged(registry, champion)},
            "began": datetime.fromtimestamp(state.began, UTC).isoformat(),
            "outcome": str(RolloutOutcome.UNDER_WAY),
            "reasons": [],
            "steps_planned": write_steps(state.steps),
            "limits": asdict(state.limits),
            "steps": [],
            "traffic": [],
            "notes": [],
            "log": "",
        }
        earlier = read_report(self.folder)
        if earlier.get("outcome") in (RolloutOutcome.UNDER_WAY, RolloutOutcome.PAUSED):
            for key in ("champion", "reasons", "steps", "traffic", "notes", "log"):
                self.content[key] = earlier.get(key, self.content[key])
        self.shared(*shares(endpoint))

    @property
    def page(self) -> Path:
        """The page, to be opened in a browser."""
        return self.folder / PAGE_FILE

    def shared(self, traffic: Mapping[str, int], mirror: Mapping[str, int]) -> None:
        """Note the traffic of the endpoint from now on: shares and copies by deployment, in percent."""
        now: dict[str, Any] = {"traffic": dict(traffic), "mirror": dict(mirror)}
        known = self.content["traffic"]
        if not known or {key: known[-1][key] for key in now} != now:
            known.append({"at": _now("milliseconds"), **now})

    def begin_step(self, state: Rollout) -> None:
        """Note that a step begins, or begins again after an interruption."""
        self.content["steps"].append(
            {"step": str(state.step), "what": state.step.describe(), "began": _now(), "verdict": "", "reasons": []}
        )
        self.write(RolloutOutcome.UNDER_WAY)

    def judged(self, judgement: Judgement, seen: Observation) -> None:
        """Note the judgement on the current step."""
        self.content["steps"][-1] |= {
            "verdict": str(judgement.verdict),
            "reasons": list(judgement.reasons),
            "figures": seen.figures(),
        }
        self.write(RolloutOutcome.UNDER_WAY)

    def note(self, text: str) -> None:
        """Note something that happened outside the steps."""
        self.content["notes"].append(f"{_now()} {text}")

    def failed(self, reasons: list[str]) -> None:
        """Note why the candidate is removed."""
        self.content["reasons"] = reasons
        self.write(RolloutOutcome.UNDER_WAY)

    def write(self, outcome: RolloutOutcome) -> None:
        """Write all files."""
        self.content |= {"outcome": str(outcome), "updated": _now("milliseconds")}
        text = json.dumps(self.content, indent=2, ensure_ascii=False)
        atomic_write(self.folder / JSON_FILE, text + "\n")
        atomic_write(self.folder / TEXT_FILE, as_text(self.content))
        atomic_write(self.page, rollout_page.render(self.content))


def read_report(folder: Path) -> dict[str, Any]:
    """Read the report in a folder; empty if there is none."""
    try:
        content = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def telling(log: str, lines: int) -> str:
    """Return the last lines of a server's log without successful requests; if nothing is left, the last lines of all."""
    found = log.splitlines()
    special = [line for line in found if not _went_well(line)]
    return "\n".join((special or found)[-lines:])


def explaining(log: str) -> str:
    """Return those lines of a server's log that are warnings, errors, or not events at all, such as tracebacks."""
    return "\n".join(line for line in log.splitlines() if _event(line).get("level") not in ("debug", "info"))


def _event(line: str) -> dict[str, Any]:
    """Return a line of a server's log as an event; empty if it is none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def as_text(content: dict[str, Any], *, whole: bool = True) -> str:
    """Return the report as text.

    Args:
        content: Of ``report.json``.
        whole: Include all last lines of the candidate; else only those that explain something.
    """
    log = content["log"] if whole else explaining(content["log"])
    candidate, champion = content["candidate"], content["champion"]
    lines = [
        f"Rollout at {content['endpoint']} ({content['target']}): {content['outcome']}",
        f"candidate  {candidate['deployment']} ({candidate['model']}{_facts(candidate)})",
        f"champion   {champion['deployment']} ({champion['model'] or 'gone'}{_facts(champion)})",
        f"steps      {content['steps_planned']}",
        f"began      {content['began']}",
        "",
    ]
    for step in content["steps"]:
        lines.append(f"{step['what']}: {step['verdict'] or 'not judged'}")
        lines += [f"    {reason}" for reason in step["reasons"]]
        lines += [f"    {line}" for line in _figures(step.get("figures"))]
    lines += ["", *content["notes"]] if content["notes"] else []
    if log:
        lines += ["", f"Last lines of {candidate['deployment']}:", log.rstrip()]
    lines += ["", *(f"! {reason}" for reason in content["reasons"])] if content["reasons"] else []
    return "\n".join(lines) + "\n"


def _facts(version: Mapping[str, Any]) -> str:
    accuracy, verdict = version.get("accuracy"), version.get("verdict")
    return ("" if accuracy is None else f", accuracy {accuracy:.4f}") + (f", verdict {verdict}" if verdict else "")


def _went_well(line: str) -> bool:
    entry = _event(line)
    try:
        return bool(entry["event"] == "request" and (entry["status"] < 500 or entry["path"].startswith("/health/")))
    except (KeyError, TypeError, AttributeError):
        return False


def _figures(figures: dict[str, Any] | None) -> list[str]:
    if not figures:
        return []
    counts = "; ".join(f"{who} {rollout_page.requests(figures[who])}" for who in rollout_page.WHO)
    compared = counted(figures["compared"], "image")
    lines = [
        f"{counts}; {figures['seconds']} s",
        f"{counted(figures['pairs'], 'pair')}; {figures['disagreed']} of {compared} labelled differently",
    ]
    for what, rows in figures["latency_ms"].items():
        numbers = (
            f"{who} median {rows[who]['median']}, p95 {rows[who]['p95']} of {rows[who]['of']}"
            for who in rollout_page.WHO
        )
        lines.append(f"{what} in ms: {'; '.join(numbers)}")
    return lines


def _judged(registry: Registry, reference: str) -> dict[str, Any]:
    """Return accuracy and verdict of a version; empty if unknown, because a report must not stop a rollout."""
    try:
        version = registry.get(reference) if reference else None
    except MlopsError:
        version = None
    if version is None:
        return {"accuracy": None, "verdict": ""}
    return {"accuracy": version.metrics.get("accuracy"), "verdict": version.verdict}


def _now(precision: str = "seconds") -> str:
    return datetime.now(UTC).isoformat(timespec=precision)
