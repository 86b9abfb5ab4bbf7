"""Explains where a version came from: facts gathered when it is registered, and the chain from images to aliases.

The facts are kept with the version, so they outlive the data, the run and the reports.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import RegistryError
from vision_mlops.core.text import counted
from vision_mlops.data.manifest import Manifest, read_manifest
from vision_mlops.model.bundle import Bundle, bundle_id
from vision_mlops.registry.model_versions import ModelVersion
from vision_mlops.tracking import mlflow_runs

FACTS_TAG = "mlops.lineage"
HISTORY_TAG = "mlops.history"
DECISIONS = ("promote", "reject", "inconclusive")
_MAX_CLASSES = 100
_MAX_METRICS = 500


@dataclass(frozen=True, slots=True)
class Link:
    """One step of the chain; ``facts`` holds plain JSON values, by name."""

    step: str
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read ``metrics.json``, given as the file or its folder.

    Returns:
        ``metrics`` (finite numbers by dotted name), ``data_fingerprint`` and ``bundle_id``. Numbers per class are left out
        if there are more than 100 classes.

    Raises:
        RegistryError: the file is missing or not a JSON object.
    """
    content = _read_object(path, "metrics.json", "give the --out of `mlops evaluate`")
    kept: dict[str, Any] = {}
    for key, value in content.items():
        if key == "accuracy_interval" and isinstance(value, list) and len(value) == 2:
            kept |= {"accuracy_low": value[0], "accuracy_high": value[1]}
        elif not (key == "per_class" and isinstance(value, dict) and len(value) > _MAX_CLASSES):
            kept[key] = value
    numbers = {
        key: float(value)
        for key, value in mlflow_runs.flatten(kept)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    # A tag holds 100,000 characters, and the headline numbers come first.
    numbers = dict(list(numbers.items())[:_MAX_METRICS])
    texts = {key: str(content.get(key) or "") for key in ("data_fingerprint", "bundle_id")}
    return {"metrics": numbers, **texts}


def read_verdict(path: Path) -> dict[str, Any]:
    """Read ``verdict.json``, given as the file or its folder: ``decision`` and ``reasons``. Raises RegistryError."""
    content = _read_object(path, "verdict.json", "give the verdict that `mlops gate` wrote")
    if content.get("decision") not in DECISIONS:
        raise RegistryError(
            f"{path}: decision {content.get('decision')!r} is not one of {', '.join(DECISIONS)}",
            "run `mlops gate` again",
        )
    reasons = content.get("reasons")
    kept = [
        {"check": str(r.get("check", "")), "passed": r.get("passed"), "message": str(r.get("message", ""))[:300]}
        for r in (reasons if isinstance(reasons, list) else [])[:30]
        if isinstance(r, dict)
    ]
    return {"decision": content["decision"], "reasons": kept, "bundle_id": str(content.get("bundle_id") or "")}


def failed_checks(verdict: Mapping[str, Any]) -> list[str]:
    """Return the messages of the checks that failed in a verdict."""
    reasons = verdict.get("reasons", [])
    return [reason["message"] or reason["check"] for reason in reasons if reason.get("passed") is False]


def data_facts(manifest: Manifest) -> dict[str, Any]:
    """Return source, fingerprint and counts of prepared data, with counts per class for up to 100 classes."""
    counts = manifest.counts()
    facts: dict[str, Any] = {
        "name": manifest.name,
        "source": manifest.source,
        "fingerprint": manifest.fingerprint,
        "seed": manifest.seed,
        "images": len(manifest.images),
        "excluded": len(manifest.excluded),
        "splits": {split: sum(of_class.values()) for split, of_class in counts.items()},
    }
    if len(manifest.classes) <= _MAX_CLASSES:
        facts["classes"] = {label: sum(counts[split][label] for split in counts) for label in manifest.classes}
    return facts


def run_facts(run_id: str) -> dict[str, Any]:
    """Return name, status, start and parameters of the training run; empty if this store does not have it."""
    run = mlflow_runs.find_run(run_id)
    if run is None:
        return {}
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="seconds")
    params = dict(sorted(run.data.params.items())[:100])
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "started": started,
        "params": {key: value[:200] for key, value in params.items()},
    }


def gather(bundle: Bundle, data: Path | None) -> dict[str, Any]:
    """Gather facts about the data, the run and the bundle, which :func:`explain` uses later.

    Raises:
        DataError: ``data`` is not prepared data.
        RegistryError: the bundle was trained on other data.
    """
    facts: dict[str, Any] = {
        "bundle": {
            "id": bundle_id(bundle),
            "name": bundle.name,
            "created": bundle.created,
            "backbone": bundle.backbone,
            "classes": len(bundle.classes),
            "image_size": bundle.preprocessing.image_size,
            "temperature": bundle.temperature,
            "parity": {key: value for key, value in bundle.parity.items() if math.isfinite(value)},
            "libraries": bundle.libraries,
            "training_metrics": {key: value for key, value in bundle.metrics.items() if math.isfinite(value)},
            **({"own_code": bundle.own_code} if bundle.own_code else {}),
        },
        "training": bundle.workload.get("training", {}),
        "run": run_facts(bundle.run_id),
    }
    if data is not None:
        manifest = read_manifest(data)
        if manifest.fingerprint != bundle.data_fingerprint:
            raise RegistryError(
                f"the bundle was trained on data {bundle.data_fingerprint[:12]}, but {data} is"
                f" {manifest.fingerprint[:12]}",
                "give the prepared folder that it was trained on, or omit --data",
            )
        facts["data"] = data_facts(manifest)
    return facts


def stored_facts(version: ModelVersion) -> dict[str, Any]:
    """Return the facts that are kept with a version; empty for one that another tool registered."""
    try:
        facts = json.loads(version.tags.get(FACTS_TAG, "{}"))
    except ValueError:
        # Anyone can edit tags in MLflow's page; the chain then shows what is left.
        return {}
    return facts if isinstance(facts, dict) else {}


def stored_history(tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the alias changes that are kept in a tag, without what cannot be read, since anyone can edit tags."""
    try:
        entries = json.loads(tags.get(HISTORY_TAG, "[]"))
    except ValueError:
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def explain(version: ModelVersion, history: Sequence[Mapping[str, Any]] = (), asset: str = "") -> list[Link]:
    """Return the chain from image files to the served version, in that order.

    Args:
        version: What to explain.
        history: The model's alias changes, oldest first: alias, version, previous, at, forced.
        asset: Reference of registered data with the fingerprint of the version's data; empty if there is none.
    """
    facts = stored_facts(version)
    mine = [dict(entry) for entry in history if version.version in (entry.get("version"), entry.get("previous"))]
    return [
        _data_link(version, facts.get("data", {}), asset),
        _run_link(version, facts.get("run", {}), facts.get("training", {})),
        _bundle_link(version, facts.get("bundle", {})),
        _evaluation_link(version, facts),
        _verdict_link(version, facts.get("verdict", {})),
        _registry_link(version, mine),
    ]


def _data_link(version: ModelVersion, data: Mapping[str, Any], asset: str) -> Link:
    known = f"fingerprint {version.data_fingerprint[:12] or 'unknown'}" + (f" ({asset})" if asset else "")
    more = {"asset": asset} if asset else {}
    if not data:
        facts = {"fingerprint": version.data_fingerprint, **more}
        return Link("data", f"{known}; source not recorded (register with --data)", facts)
    splits = ", ".join(f"{split} {count}" for split, count in data.get("splits", {}).items())
    images = counted(data["images"], "image") if "images" in data else "images"
    return Link("data", f"{images} from {data.get('source')} ({splits}), {known}", {**data, **more})


def _run_link(version: ModelVersion, run: Mapping[str, Any], training: object) -> Link:
    commit = f"git commit {version.git_commit[:12]}" if version.git_commit else "git commit unknown"
    facts = {"run_id": version.run_id, "git_commit": version.git_commit, **run, "training": training}
    if not version.run_id:
        return Link("run", f"no tracking run; {commit}", facts)
    name = f" {run['name']!r} of {run.get('started')}" if run else " (not in this store)"
    return Link("run", f"run {version.run_id[:12]}{name}, {commit}", facts)


def _bundle_link(version: ModelVersion, bundle: Mapping[str, Any]) -> Link:
    parity = ", ".join(_parity(key, value) for key, value in bundle.get("parity", {}).items())
    summary = f"bundle {version.bundle_id or 'unknown'}"
    if bundle:
        summary += f": {bundle.get('backbone')}, {bundle.get('classes')} classes, {bundle.get('image_size')} px"
    own = ", ".join(bundle.get("own_code", {}))
    summary += f", with {own}" if own else ""
    return Link("bundle", summary + (f", export parity {parity}" if parity else ""), bundle)


def _parity(key: str, value: float) -> str:
    return f"on {counted(int(value), 'image')}" if key == "images" else f"{key} {value:.2g}"


def _evaluation_link(version: ModelVersion, facts: Mapping[str, Any]) -> Link:
    metrics = version.metrics
    if not metrics:
        trained = facts.get("bundle", {}).get("training_metrics", {})
        reported = "; training reported " + ", ".join(f"{k} {v:.4g}" for k, v in trained.items()) if trained else ""
        return Link("evaluation", f"not evaluated{reported}", {"training_metrics": trained})
    parts = [f"accuracy {metrics['accuracy']:.4f}"] if "accuracy" in metrics else []
    if parts and {"accuracy_low", "accuracy_high"} <= metrics.keys():
        parts[0] += f" [{metrics['accuracy_low']:.4f}, {metrics['accuracy_high']:.4f}]"
    parts += [f"{key} {metrics[key]:.4f}" for key in ("macro_f1", "expected_calibration_error") if key in metrics]
    of_data = facts.get("evaluation_data", "")
    return Link(
        "evaluation",
        ", ".join(parts) or counted(len(metrics), "metric"),
        {"metrics": dict(metrics), "data_fingerprint": of_data},
    )


def _verdict_link(version: ModelVersion, verdict: Mapping[str, Any]) -> Link:
    if not version.verdict:
        return Link("verdict", "not judged")
    reasons = verdict.get("reasons", [])
    failed = failed_checks(verdict)
    passed = sum(reason.get("passed") is True for reason in reasons)
    notes = len(reasons) - passed - len(failed)  # what is neither passed nor failed, such as that there is no champion
    detail = "; ".join(failed) if failed else f"{counted(passed, 'check')} passed"
    detail += f", {counted(notes, 'note')}" if notes and not failed else ""
    return Link("verdict", f"{version.verdict}: {detail}", {"decision": version.verdict, "reasons": reasons})


def _registry_link(version: ModelVersion, history: Sequence[Mapping[str, Any]]) -> Link:
    since = {entry.get("alias"): entry.get("at") for entry in history if entry.get("version") == version.version}
    aliases = [f"{alias} since {since[alias]}" if alias in since else alias for alias in version.aliases]
    summary = f"{version.reference}, registered {version.created}, {', '.join(aliases) or 'no alias'}"
    return Link("registry", summary, {"aliases": list(version.aliases), "created": version.created, "history": history})


def _read_object(path: Path, name: str, hint: str) -> dict[str, Any]:
    file = path / name if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RegistryError(f"{file} does not exist", hint) from error
    except (OSError, ValueError) as error:
        raise RegistryError(f"{file} cannot be read: {error}", hint) from error
    if not isinstance(content, dict):
        raise RegistryError(f"{file}: expected a JSON object, not {type(content).__name__}", hint)
    return content
