"""The verdict on a version as a page of Markdown: for people who read the summary of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vision_mlops.core.text import in_markdown
from vision_mlops.registry.lineage import stored_facts
from vision_mlops.registry.model_versions import HASH_TAG, ModelVersion

NOT_JUDGED = "none"
"""Stands for the verdict on a version that no gate has judged."""
_MARKS = {True: "passed", False: "**failed**", None: "note"}
_METRICS = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "expected_calibration_error")


def decision_on(version: ModelVersion) -> str:
    """Return the verdict on a version: promote, reject, inconclusive, or none."""
    return version.verdict or NOT_JUDGED


def reasons_of(version: ModelVersion) -> list[Mapping[str, Any]]:
    """Return the checks of the gate, each with ``check``, ``passed`` and ``message``."""
    reasons = stored_facts(version).get("verdict", {}).get("reasons", [])
    return [reason for reason in reasons if isinstance(reason, Mapping)]


def verdict_summary(version: ModelVersion, champion: ModelVersion | None) -> str:
    """Return the page.

    Args:
        version: The version that was judged.
        champion: The champion of the model now; None if it has none.
    """
    lines = [f"## {in_markdown(version.reference)}: {decision_on(version)}", ""]
    reasons = reasons_of(version)
    if reasons:
        lines += ["| check | | |", "| --- | --- | --- |"]
        for reason in reasons:
            mark = _MARKS.get(reason.get("passed"), "note")
            lines.append(f"| {in_markdown(str(reason['check']))} | {mark} | {in_markdown(str(reason['message']))} |")
        lines.append("")
    known = {
        "champion": champion.reference if champion else "none",
        "digest": version.tags.get(HASH_TAG, ""),
        "data": version.data_fingerprint,
        "git commit": version.git_commit,
        "run": version.run_id,
        "registered": version.created,
    }
    metrics = {name.replace("_", " "): f"{version.metrics[name]:.4f}" for name in _METRICS if name in version.metrics}
    lines += ["| | |", "| --- | --- |"]
    lines += [f"| {name} | {in_markdown(text)} |" for name, text in {**known, **metrics}.items() if text]
    return "\n".join(lines) + "\n"
