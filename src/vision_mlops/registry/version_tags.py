"""Turns a version's facts into registry tags and back: what people search for by name, and all facts as one JSON tag."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import RegistryError
from vision_mlops.model.bundle import Bundle, bundle_id
from vision_mlops.registry import lineage
from vision_mlops.registry.model_versions import HASH_TAG, ModelVersion

HEADLINES = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "expected_calibration_error")


def evidence(content: Bundle, verdict: Path | None, metrics: Path | None) -> dict[str, Any]:
    """Return the facts of the reports. Raises RegistryError if they are about another bundle."""
    found: dict[str, Any] = {}
    own = bundle_id(content)
    judged = lineage.read_verdict(verdict) if verdict else {}
    evaluated = lineage.read_evaluation(metrics) if metrics else {}
    for path, report in ((verdict, judged), (metrics, evaluated)):
        if report and report["bundle_id"] not in ("", own):
            raise RegistryError(
                f"{path} is about bundle {report['bundle_id']}, but this is {own}",
                "evaluate the bundle that you register",
            )
    if judged:
        found["verdict"] = {key: judged[key] for key in ("decision", "reasons")}
    if evaluated:
        found |= {"metrics": evaluated["metrics"], "evaluation_data": evaluated["data_fingerprint"]}
    return found


def identity_tags(content: Bundle, digest: str) -> dict[str, str]:
    """Return what identifies a version: ids, origin and the hash of its ``bundle.json``."""
    return {
        HASH_TAG: digest,
        "bundle_id": bundle_id(content),
        "data_fingerprint": content.data_fingerprint,
        "git_commit": content.git_commit,
        "run_id": content.run_id,
        "workload": str(content.workload.get("name") or content.name),
    }


def fact_tags(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return all facts as one JSON tag, and the few that people search for in MLflow's page as tags of their own."""
    metrics = facts.get("metrics", {})
    tags = {key: f"{metrics[key]:.6g}" for key in HEADLINES if key in metrics}
    if "verdict" in facts:
        tags["verdict"] = facts["verdict"]["decision"]
    return {**tags, lineage.FACTS_TAG: json.dumps(facts, ensure_ascii=False, default=str)}


def to_version(
    name: str,
    number: int,
    tags: Mapping[str, str],
    *,
    aliases: tuple[str, ...],
    created: datetime,
    run_id: str = "",
    source: str = "",
) -> ModelVersion:
    """Make a version from its tags and what the store itself knows; the ``run_id`` of the tags takes precedence."""
    version = ModelVersion(
        name=name,
        version=number,
        aliases=aliases,
        created=created.astimezone(UTC).isoformat(timespec="seconds"),
        data_fingerprint=tags.get("data_fingerprint", ""),
        git_commit=tags.get("git_commit", ""),
        verdict=tags.get("verdict", ""),
        bundle_id=tags.get("bundle_id", ""),
        run_id=tags.get("run_id") or run_id,
        source=source,
        tags=tags,
    )
    metrics = lineage.stored_facts(version).get("metrics", {})
    return replace(version, metrics=metrics)
