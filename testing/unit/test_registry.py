"""The registry: versions, aliases, refusals, lineage, and many writers at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from vision_mlops import tracking
from vision_mlops.data.manifest import ImageRecord, Manifest, write_manifest
from vision_mlops.exceptions import BundleError, MlopsError, RegistryError
from vision_mlops.model.bundle import bundle_id, read_bundle
from vision_mlops.registry import ModelVersion, Reference, compare, open_registry, parse_reference
from vision_mlops.registry.lineage import explain
from vision_mlops.registry.mlflow_registry import MlflowRegistry

MakeBundle = Callable[..., Path]


def _write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def _verdict(folder: Path, decision: str) -> Path:
    reason = {"check": "accuracy", "passed": decision == "promote", "message": "accuracy 0.5 is below 0.9"}
    return _write(folder / f"{decision}.json", {"decision": decision, "reasons": [reason]})


def _metrics(folder: Path, accuracy: float, **more: Any) -> Path:
    content = {"accuracy": accuracy, "accuracy_interval": [accuracy - 0.1, accuracy + 0.1], **more}
    return _write(folder / f"eval-{accuracy}" / "metrics.json", content)


def _prepared(folder: Path) -> Manifest:
    folder.mkdir()
    images = [
        ImageRecord(path=f"{split}/{label}/0.png", split=split, label=label, sha256="0" * 64, width=8, height=8)
        for split in ("train", "val", "test")
        for label in ("a", "b")
    ]
    return write_manifest(folder, Manifest(name="t", source="photos", seed=0, classes=["a", "b"], images=images))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("textile", Reference("textile")),
        ("textile:latest", Reference("textile")),
        ("textile:12", Reference("textile", version=12)),
        ("textile@champion", Reference("textile", alias="champion")),
    ],
)
def test_parse_reference(text: str, expected: Reference) -> None:
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


def test_register_get_and_list(store: Path, plain_bundle: MakeBundle) -> None:
    registry = open_registry()
    assert registry.models() == []
    for seed in range(11):
        version = registry.register(plain_bundle(seed), "textile")
    assert version.version == 11
    # Numbers are compared as numbers: 10 comes after 9.
    assert [v.version for v in registry.versions("textile")] == list(range(1, 12))
    assert registry.get("textile") == version
    assert registry.get("textile", "9").version == registry.get("textile:9").version == 9
    assert (version.data_fingerprint, version.git_commit) == ("f" * 64, "c" * 40)
    assert version.bundle_id == bundle_id(read_bundle(registry.bundle_path(version)))
    assert registry.bundle_path(version).parent == store / "models" / "textile"
    assert registry.models() == ["textile"]


def test_identical_bundle_is_one_version_and_gains_evidence(
    store: Path, tmp_path: Path, plain_bundle: MakeBundle
) -> None:
    registry = open_registry()
    bundle = plain_bundle()
    registry.register(bundle, "textile")
    again = registry.register(
        bundle, "textile", metrics=_metrics(tmp_path, 0.8), verdict=_verdict(tmp_path, "promote"), aliases=["champion"]
    )
    assert (again.version, again.verdict, again.aliases) == (1, "promote", ("champion",))
    assert again.metrics["accuracy"] == 0.8
    assert len([path for path in (store / "models" / "textile").iterdir() if path.is_dir()]) == 1
    assert registry.register(bundle, "textile", force=True).version == 2
    assert registry.register(bundle, "other").version == 1


def test_broken_bundle_leaves_nothing(store: Path, plain_bundle: MakeBundle) -> None:
    bundle = plain_bundle()
    (bundle / "model.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"model\.onnx was changed"):
        open_registry().register(bundle, "textile")
    assert open_registry().models() == []
    assert not (store / "models").exists()


def test_missing_things_are_named_with_what_exists(store: Path, plain_bundle: MakeBundle) -> None:
    registry = open_registry()
    with pytest.raises(RegistryError, match="there is no model 'textile'"):
        registry.get("textile")
    registry.register(plain_bundle(), "textile", aliases=["champion"])
    with pytest.raises(RegistryError, match=r"no model 'textil'; there is textile\n  -> did you mean 'textile'\?"):
        registry.get("textil")
    with pytest.raises(RegistryError, match="no version 7; there is 1"):
        registry.get("textile:7")
    with pytest.raises(RegistryError, match=r"no alias 'champoin'; there is champion\n  -> did you mean 'champion'\?"):
        registry.get("textile@champoin")


def test_reports_are_checked(store: Path, tmp_path: Path, plain_bundle: MakeBundle) -> None:
    registry, bundle = open_registry(), plain_bundle()
    other = _metrics(tmp_path, 0.5, bundle_id="0" * 12)
    with pytest.raises(RegistryError, match="is about bundle 000000000000, but this is"):
        registry.register(bundle, "textile", metrics=other)
    with pytest.raises(RegistryError, match="does not exist"):
        registry.register(bundle, "textile", metrics=tmp_path / "no.json")
    with pytest.raises(RegistryError, match="decision 'maybe' is none of"):
        registry.register(bundle, "textile", verdict=_write(tmp_path / "v.json", {"decision": "maybe"}))
    with pytest.raises(RegistryError, match="a JSON object is expected, not list"):
        registry.register(bundle, "textile", verdict=_write(tmp_path / "v.json", []))
    _prepared(tmp_path / "prepared")
    with pytest.raises(RegistryError, match="the bundle was trained on data ffffffffffff"):
        registry.register(bundle, "textile", data=tmp_path / "prepared")
    with pytest.raises(RegistryError, match="'a/b' is not a valid model name"):
        registry.register(bundle, "a/b")
    assert registry.models() == []


def test_promotion_is_recorded_and_can_be_rolled_back(store: Path, plain_bundle: MakeBundle) -> None:
    registry = open_registry()
    for seed in range(2):
        registry.register(plain_bundle(seed), "textile", aliases=["champion"])
    back = registry.promote("textile", 1)
    assert back.aliases == ("champion",)
    assert back.tags["champion.previous"] == "2"
    assert registry.get("textile", "2").aliases == ()
    assert [(e["version"], e["previous"]) for e in registry.history("textile")] == [(1, None), (2, 1), (1, 2)]
    registry.promote("textile", 1)
    assert len(registry.history("textile")) == 3
    with pytest.raises(RegistryError, match="no version 9"):
        registry.promote("textile", 9)


def test_rejected_version_is_promoted_only_by_force(store: Path, tmp_path: Path, plain_bundle: MakeBundle) -> None:
    registry, bundle, verdict = open_registry(), plain_bundle(), _verdict(tmp_path, "reject")
    with pytest.raises(RegistryError, match="cannot become champion: its verdict is reject"):
        registry.register(bundle, "textile", verdict=verdict, aliases=["champion"])
    assert registry.models() == []
    registry.register(bundle, "textile", verdict=verdict)
    with pytest.raises(RegistryError, match=r"textile:1 cannot .* \(accuracy 0.5 is below 0.9\)\n  -> .*--force"):
        registry.promote("textile", 1)
    assert registry.promote("textile", 1, force=True).aliases == ("champion",)
    assert registry.history("textile")[-1]["forced"] is True


def test_download_is_verified_and_whole(store: Path, tmp_path: Path, plain_bundle: MakeBundle) -> None:
    registry, bundle = open_registry(), plain_bundle()
    version = registry.register(bundle, "textile")
    registry.download("textile:1", tmp_path / "out")
    assert read_bundle(tmp_path / "out") == read_bundle(bundle)
    with pytest.raises(MlopsError, match="exists already"):
        registry.download("textile:1", tmp_path / "out")
    kept = registry.bundle_path(version)
    (kept / "model.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"model\.onnx was changed"):
        registry.download("textile:1", tmp_path / "second")
    shutil.copytree(plain_bundle(1), kept, dirs_exist_ok=True)
    with pytest.raises(RegistryError, match="is not the bundle that was registered"):
        registry.download("textile:1", tmp_path / "second")
    assert not (tmp_path / "second").exists()
    shutil.rmtree(kept)
    with pytest.raises(RegistryError, match="the bundle of textile:1 is not in"):
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
    manifest = _prepared(tmp_path / "prepared")
    run_id = tracking.start_run("textile", "night run")
    tracking.log_params(run_id, {"epochs": 2})
    bundle = plain_bundle(run_id=run_id, data_fingerprint=manifest.fingerprint)
    reports = tmp_path / "reports"
    metrics = _metrics(reports, 0.5, latency_ms={"median": 3.0}, per_class={"a": {"recall": 1.0}}, bad=float("nan"))
    version = registry.register(
        bundle, "textile", metrics=metrics.parent, verdict=_verdict(reports, "inconclusive"), data=tmp_path / "prepared"
    )
    assert version.metrics["per_class.a.recall"] == 1.0
    assert "bad" not in version.metrics
    registry.promote("textile", 1)
    for folder in (tmp_path / "prepared", reports, bundle):
        shutil.rmtree(folder)
    tracking.client().delete_run(run_id)
    links = explain(registry.get("textile@champion"), registry.history("textile"))
    assert [link.step for link in links] == ["data", "run", "bundle", "evaluation", "verdict", "registry"]
    text = {link.step: link.summary for link in links}
    assert "6 images from photos (train 2, val 2, test 2)" in text["data"]
    assert manifest.fingerprint[:12] in text["data"]
    assert "'night run'" in text["run"]
    assert "git commit cccccccccccc" in text["run"]
    assert "tiny, 2 classes, 32 px, export parity probabilities 1e-06" in text["bundle"]
    assert "accuracy 0.5000 [0.4000, 0.6000]" in text["evaluation"]
    assert text["verdict"] == "inconclusive: accuracy 0.5 is below 0.9"
    assert "champion since " in text["registry"]
    json.dumps([link.to_dict() for link in links])


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
