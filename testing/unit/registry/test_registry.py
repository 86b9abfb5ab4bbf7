"""The registry: versions, aliases, refusals, lineage, and many writers at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
from testing.support.registry_contract import MakeBundle, RegistryContract, write_metrics, write_prepared, write_verdict

from vision_mlops.core.errors import BundleError, RegistryError
from vision_mlops.registry import ModelReference, ModelVersion, compare, open_registry, parse_reference
from vision_mlops.registry.lineage import FACTS_TAG, explain
from vision_mlops.registry.mlflow_registry import MlflowRegistry
from vision_mlops.tracking import mlflow_runs


class TestMlflowRegistry(RegistryContract):
    """What every registry does, on MLflow's."""

    @pytest.fixture
    def registry(self, store: Path) -> MlflowRegistry:
        return MlflowRegistry()


def test_reading_creates_nothing(home: Path) -> None:
    registry = MlflowRegistry()
    assert registry.models() == []
    for read in (registry.versions, registry.history, registry.get):
        with pytest.raises(RegistryError, match="no model 'textile' is registered"):
            read("textile")
    assert not home.exists()
    home.mkdir()
    (home / "mlflow.db").touch()  # as `mktemp` leaves it
    assert registry.models() == []
    assert [path.name for path in home.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("textile", ModelReference("textile")),
        ("textile:latest", ModelReference("textile")),
        ("textile:12", ModelReference("textile", version=12)),
        ("textile@champion", ModelReference("textile", alias="champion")),
    ],
)
def test_parse_reference(text: str, expected: ModelReference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a valid model name"),
        ("a/b:1", "'a/b' is not a valid model name"),
        ("../x", "is not a valid model name"),
        ("textile:", "'' is not a version number"),
        ("textile:0", "'0' is not a version number"),
        ("textile:-1", "'-1' is not a version number"),
        ("textile:٣", "is not a version number"),
        ("textile:champion", "for an alias write textile@champion"),
        ("textile@", "'' is not a valid alias"),
        ("textile@v3", "'v3' is not a valid alias"),
        ("textile@a b", "'a b' is not a valid alias"),
    ],
)
def test_bad_reference(text: str, message: str) -> None:
    with pytest.raises(RegistryError) as caught:
        parse_reference(text)
    assert message in str(caught.value)


def test_bundles_lie_below_the_home_folder(store: Path, plain_bundle: MakeBundle) -> None:
    registry, bundle = open_registry(), plain_bundle()
    version = registry.register(bundle, "textile")
    assert registry.bundle_path(version).parent == store / "models" / "textile"
    registry.register(bundle, "textile")
    assert len([path for path in (store / "models" / "textile").iterdir() if path.is_dir()]) == 1


def test_broken_bundle_leaves_no_folder(store: Path, plain_bundle: MakeBundle) -> None:
    bundle = plain_bundle()
    (bundle / "model.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"model\.onnx was changed"):
        open_registry().register(bundle, "textile")
    assert not (store / "models").exists()


def test_download_is_verified(store: Path, tmp_path: Path, plain_bundle: MakeBundle) -> None:
    registry, bundle = open_registry(), plain_bundle()
    version = registry.register(bundle, "textile")
    kept = registry.bundle_path(version)
    (kept / "model.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"model\.onnx was changed"):
        registry.download("textile:1", tmp_path / "second")
    shutil.copytree(plain_bundle(1), kept, dirs_exist_ok=True)
    with pytest.raises(RegistryError, match="is not the bundle that was registered"):
        registry.download("textile:1", tmp_path / "second")
    assert not (tmp_path / "second").exists()
    shutil.rmtree(kept)
    with pytest.raises(RegistryError, match="the bundle of textile:1 is no longer in"):
        registry.download("textile:1", tmp_path / "second")


def test_home_can_be_moved(
    store: Path, tmp_path: Path, plain_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_registry().register(plain_bundle(), "textile")
    store.rename(tmp_path / "moved")
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "moved"))
    version = open_registry().get("textile")
    assert open_registry().bundle_path(version).is_relative_to(tmp_path / "moved")


def test_compare_tolerates_missing_metrics() -> None:
    rows = compare(
        ModelVersion("t", 1, metrics={"accuracy": 0.5, "macro_f1": 0.4}),
        ModelVersion("t", 2, metrics={"accuracy": 0.75, "latency_ms.median": 3.0}),
    )
    assert rows == [
        {"metric": "accuracy", "a": 0.5, "b": 0.75, "difference": 0.25},
        {"metric": "macro_f1", "a": 0.4, "b": None, "difference": None},
        {"metric": "latency_ms.median", "a": None, "b": 3.0, "difference": None},
    ]


def test_explain_outlives_data_run_and_reports(store: Path, tmp_path: Path, plain_bundle: MakeBundle) -> None:
    registry = MlflowRegistry()
    manifest = write_prepared(tmp_path / "prepared")
    run_id = mlflow_runs.start_run("textile", "night run")
    mlflow_runs.log_params(run_id, {"epochs": 2})
    parity = {"probabilities": 1e-6, "images": 300.0}
    bundle = plain_bundle(run_id=run_id, data_fingerprint=manifest.fingerprint, parity=parity)
    reports = tmp_path / "reports"
    metrics = write_metrics(
        reports, 0.5, latency_ms={"median": 3.0}, per_class={"a": {"recall": 1.0}}, bad=float("nan")
    )
    version = registry.register(
        bundle,
        "textile",
        metrics=metrics.parent,
        verdict=write_verdict(reports, "inconclusive"),
        data=tmp_path / "prepared",
    )
    assert version.metrics["per_class.a.recall"] == 1.0
    assert "bad" not in version.metrics
    registry.promote("textile", 1)
    for folder in (tmp_path / "prepared", reports, bundle):
        shutil.rmtree(folder)
    mlflow_runs.client().delete_run(run_id)
    links = explain(registry.get("textile@champion"), registry.history("textile"))
    assert [link.step for link in links] == ["data", "run", "bundle", "evaluation", "verdict", "registry"]
    text = {link.step: link.summary for link in links}
    assert "6 images from photos (train 2, val 2, test 2)" in text["data"]
    assert manifest.fingerprint[:12] in text["data"]
    assert "'night run'" in text["run"]
    assert "git commit cccccccccccc" in text["run"]
    assert "tiny, 2 classes, 32 px, export parity probabilities 1e-06, on 300 images" in text["bundle"]
    assert "accuracy 0.5000 [0.4000, 0.6000]" in text["evaluation"]
    assert text["verdict"] == "inconclusive: accuracy 0.5 is below 0.9"
    assert "champion since " in text["registry"]
    json.dumps([asdict(link) for link in links])


@pytest.mark.parametrize(
    ("passed", "summary"),
    [
        ((True, True, None), "promote: 2 checks passed, 1 note"),
        ((True,), "promote: 1 check passed"),
        ((True, False, None), "promote: too low"),
    ],
)
def test_a_note_is_no_check(passed: tuple[bool | None, ...], summary: str) -> None:
    reasons = [{"check": "accuracy", "passed": each, "message": "too low"} for each in passed]
    facts = {"verdict": {"decision": "promote", "reasons": reasons}}
    version = ModelVersion("textile", 1, verdict="promote", tags={FACTS_TAG: json.dumps(facts)})
    assert {link.step: link.summary for link in explain(version)}["verdict"] == summary


def test_explain_says_what_is_unknown(store: Path, plain_bundle: MakeBundle) -> None:
    registry = MlflowRegistry()
    version = registry.register(plain_bundle(run_id="0" * 32), "textile")
    text = {link.step: link.summary for link in explain(version)}
    assert "source not recorded" in text["data"]
    assert "(not in this store)" in text["run"]
    assert text["evaluation"] == "not evaluated; training reported val_accuracy 0.75"
    assert text["verdict"] == "not judged"


def test_threads_register_at_once(store: Path, plain_bundle: MakeBundle) -> None:
    bundles = [plain_bundle(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda bundle: open_registry().register(bundle, "textile").version, bundles))
    assert sorted(made) == [1, 2, 3, 4]


@pytest.mark.slow
def test_processes_register_at_once(store: Path, plain_bundle: MakeBundle) -> None:
    code = (
        "import sys; from pathlib import Path; from vision_mlops.registry import open_registry;"
        "print([open_registry().register(Path(p), n).version for p in sys.argv[1:] for n in ('textile', 'other')])"
    )
    bundles = [plain_bundle(seed) for seed in range(3)]
    # The third process registers what the first two do as well: each bundle shall be there once.
    jobs = [[bundles[0]], [bundles[1]], bundles]
    started = [
        subprocess.Popen([sys.executable, "-c", code, *map(str, job)], stdout=-1, stderr=-1, text=True, env=os.environ)
        for job in jobs
    ]
    results = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], results
    registry = open_registry()
    for name in ("textile", "other"):
        assert [v.version for v in registry.versions(name)] == [1, 2, 3]
        assert len({v.bundle_id for v in registry.versions(name)}) == 3
