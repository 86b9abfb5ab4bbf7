"""The gate: decides whether a candidate may replace the champion, by floors and by a paired test on the same images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vision_mlops.config.workload import Gate
from vision_mlops.core.errors import DataError
from vision_mlops.core.files import atomic_write
from vision_mlops.core.text import counted
from vision_mlops.evaluation import evaluation_report
from vision_mlops.evaluation.evaluate import Evaluation
from vision_mlops.evaluation.own_metrics import OWN_METRICS
from vision_mlops.evaluation.robustness import ROBUSTNESS, ROBUSTNESS_ACCURACY

VERDICT = "verdict.json"
Decision = Literal["promote", "reject", "inconclusive"]


LATENCY = "latency"
_WORSE: tuple[Decision, ...] = ("promote", "inconclusive", "reject")


@dataclass(frozen=True, slots=True)
class Reason:
    """One check in words; ``passed`` is None if it neither passes nor fails, and for a remark."""

    check: str
    passed: bool | None
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision and why."""

    decision: Decision
    reasons: list[Reason]
    candidate: str
    champion: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return asdict(self)


def decide(candidate: Evaluation, champion: Evaluation | None, gate: Gate) -> Verdict:
    """Judge a candidate by the floors and, where there is one, against the champion on the same images.

    Raises:
        DataError: the two were not evaluated on the same images, or there is a floor for what was not measured.
    """
    reasons = _floors(candidate, gate)
    decision: Decision = "promote"
    if any(reason.passed is False for reason in reasons):
        decision = "reject"
    elif any(reason.check == LATENCY and reason.passed is None for reason in reasons):
        decision = "inconclusive"
    if champion is None:
        reasons.append(Reason("champion", None, "there is no champion yet, so the floors alone decide"))
    elif candidate.metrics["bundle_id"] == champion.metrics["bundle_id"]:
        reasons.append(Reason("champion", None, "the candidate is identical to the champion"))
    else:
        compared, reason = _compare(candidate, champion, gate)
        reasons.append(reason)
        decision = max(decision, compared, key=_WORSE.index)
    return Verdict(
        decision, reasons, candidate.metrics["bundle_id"], champion.metrics["bundle_id"] if champion else None
    )


def write_verdict(verdict: Verdict, candidate: Evaluation, out: Path | None = None) -> Path:
    """Write a verdict into the candidate's folder and show it in its report; or into the file ``out`` and nothing else.

    In a pipeline the candidate's folder is an input, which a step leaves as it is.
    """
    target = out or candidate.folder / VERDICT
    atomic_write(target, json.dumps(verdict.to_dict(), indent=2) + "\n")
    if out is None:
        show_verdict(candidate, verdict.to_dict())
    return target


def show_verdict(candidate: Evaluation, verdict: dict[str, Any]) -> None:
    """Show a verdict in the candidate's report."""
    page = evaluation_report.render(candidate.folder, candidate.metrics, verdict)
    atomic_write(candidate.folder / evaluation_report.REPORT, page)


def read_verdict(path: Path) -> dict[str, Any]:
    """Read a verdict file, or the one in a folder.

    Raises:
        DataError: it is missing or is not a verdict.
    """
    file = path / VERDICT if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {**content, "decision": str(content["decision"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not a verdict: {error}", "write one with `mlops gate`") from error


def mcnemar(only_candidate: int, only_champion: int) -> float:
    """Return the p-value of the two-sided exact McNemar test (1947) for images that only one of two gets right."""
    from scipy.stats import binomtest

    total = only_candidate + only_champion
    return float(binomtest(only_candidate, total).pvalue) if total else 1.0


def _floors(candidate: Evaluation, gate: Gate) -> list[Reason]:
    metrics = candidate.metrics
    accuracy, (low, _) = metrics["accuracy"], metrics["accuracy_interval"]
    checks = [
        _at_least("accuracy", accuracy, gate.min_accuracy),
        *(
            _at_least(f"recall of {name}", row["recall"], gate.min_recall_per_class)
            for name, row in metrics["per_class"].items()
        ),
        _at_most("calibration error", metrics["expected_calibration_error"], gate.max_calibration_error, ""),
        _latency(metrics["latency_ms"], gate.max_latency_ms),
    ]
    if gate.min_robustness_accuracy is not None:
        checks.append(_at_least("accuracy on corrupted images", _robustness(candidate), gate.min_robustness_accuracy))
    checks += [_at_least(name, _own_metric(candidate, name), floor) for name, floor in gate.min_metrics.items()]
    if low < gate.min_accuracy <= accuracy:
        checks.append(
            Reason(
                "sample size",
                None,
                f"the 95% interval reaches down to {low:.4f}, below the floor: there are few test images",
            )
        )
    return checks


def _robustness(candidate: Evaluation) -> float:
    found = candidate.metrics.get(ROBUSTNESS)
    if found is None:
        raise DataError(
            f"{candidate.folder} has no accuracy on corrupted images, for which gate.min_robustness_accuracy sets a floor",
            "run `mlops evaluate --robustness` first; in a pipeline of your own, give its step the workload (--workload)",
        )
    return float(found[ROBUSTNESS_ACCURACY])


def _own_metric(candidate: Evaluation, name: str) -> float:
    found = candidate.metrics.get(OWN_METRICS, {})
    if name not in found:
        raise DataError(
            f"{candidate.folder} has no metric {name!r}, for which gate.min_metrics sets a floor",
            "run `mlops evaluate --workload NAME` first, whose evaluation.metrics name it",
        )
    return float(found[name])


def _at_least(name: str, value: float, floor: float) -> Reason:
    passed = value >= floor  # false for NaN
    return Reason(name, passed, f"{name} {value:.4f} {'reaches' if passed else 'is below'} the floor of {floor:g}")


def _at_most(name: str, value: float, ceiling: float, unit: str) -> Reason:
    passed = value <= ceiling
    word = "is within" if passed else "exceeds"
    return Reason(name, passed, f"{name} {value:.4g}{unit} {word} the limit of {ceiling:g}{unit}")


def _latency(found: dict[str, float], ceiling: float) -> Reason:
    """Judge the median; if the limit lies in its interval, the measurement does not tell on which side it is."""
    median = found["median"]
    low, high = found.get("median_low", median), found.get("median_high", median)
    if low <= ceiling < high:
        shown = f"latency {median:.4g} ms is not known to be within the limit of {ceiling:g} ms"
        return Reason(LATENCY, None, f"{shown}: the 99% interval is {low:.4g} to {high:.4g} ms; evaluate again")
    return _at_most(LATENCY, median, ceiling, " ms")


def _compare(candidate: Evaluation, champion: Evaluation, gate: Gate) -> tuple[Decision, Reason]:
    ours, theirs = ({path: (true, got) for path, true, got in side.predictions} for side in (candidate, champion))
    if {path: true for path, (true, _) in ours.items()} != {path: true for path, (true, _) in theirs.items()}:
        raise DataError(
            f"{candidate.folder} and {champion.folder} were not evaluated on the same images",
            "evaluate both with the same --data and --split",
        )
    right = {path: (true == got, true == theirs[path][1]) for path, (true, got) in ours.items()}
    only_candidate = sum(mine and not other for mine, other in right.values())
    only_champion = sum(other and not mine for mine, other in right.values())
    p = mcnemar(only_candidate, only_champion)
    facts = (
        f"accuracy {candidate.metrics['accuracy']:.4f} against {champion.metrics['accuracy']:.4f};"
        f" {counted(only_candidate, 'image')} only the candidate gets right, {only_champion} only the champion (p = {p:.3g})"
    )
    if p < gate.significance:
        better = only_candidate > only_champion
        word = "better" if better else "worse"
        return "promote" if better else "reject", Reason("champion", better, f"significantly {word}: {facts}")
    if candidate.metrics["accuracy"] >= champion.metrics["accuracy"] - gate.max_accuracy_drop:
        return "promote", Reason("champion", True, f"not worse than the champion: {facts}")
    return "inconclusive", Reason("champion", None, f"slightly worse, but that may be chance: {facts}")
