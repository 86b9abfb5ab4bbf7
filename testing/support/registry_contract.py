"""What every registry does, as tests: a subclass gives the fixture ``registry``, an empty one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vision_mlops.core.errors import BundleError, MlopsError, RegistryError
from vision_mlops.core.hashing import file_hash
from vision_mlops.data.manifest import ImageRecord, Manifest, write_manifest
from vision_mlops.model.bundle import MANIFEST, bundle_id, read_bundle
from vision_mlops.registry.bundle_registry import Registry
from vision_mlops.registry.lineage import explain
from vision_mlops.registry.model_versions import HASH_TAG
from vision_mlops.registry.version_digest import version_with

MakeBundle = Callable[..., Path]


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_verdict(folder: Path, decision: str) -> Path:
    """A verdict as the gate writes it."""
    reason = {"check": "accuracy", "passed": decision == "promote", "message": "accuracy 0.5 is below 0.9"}
    return write_json(folder / f"{decision}.json", {"decision": decision, "reasons": [reason]})


def write_metrics(folder: Path, accuracy: float, **more: Any) -> Path:
    """An evaluation's numbers."""
    content = {"accuracy": accuracy, "accuracy_interval": [accuracy - 0.1, accuracy + 0.1], **more}
    return write_json(folder / f"eval-{accuracy}" / "metrics.json", content)


def write_prepared(folder: Path) -> Manifest:
    """The manifest of six images."""
    folder.mkdir()
    images = [
        ImageRecord(path=f"{split}/{label}/0.png", split=split, label=label, sha256="0" * 64, width=8, height=8)
        for split in ("train", "val", "test")
        for label in ("a", "b")
    ]
    return write_manifest(folder, Manifest(name="t", source="photos", seed=0, classes=["a", "b"], images=images))


class RegistryContract:
    """Registering, finding, promoting, and what is refused."""

    def test_register_get_and_list(self, registry: Registry, plain_bundle: MakeBundle) -> None:
        assert registry.models() == []
        for seed in range(10):
            version = registry.register(plain_bundle(seed), "textile")
        assert version.version == 10
        # Numbers are compared as numbers: 10 comes after 9.
        assert [v.version for v in registry.versions("textile")] == list(range(1, 11))
        assert registry.get("textile") == version
        assert registry.get("textile:9").version == 9
        assert (version.data_fingerprint, version.git_commit) == ("f" * 64, "c" * 40)
        assert version.bundle_id == bundle_id(read_bundle(registry.bundle_path(version)))
        assert registry.models() == ["textile"]

    def test_identical_bundle_is_one_version_and_gains_evidence(
        self, registry: Registry, tmp_path: Path, plain_bundle: MakeBundle
    ) -> None:
        bundle = plain_bundle()
        registry.register(bundle, "textile")
        metrics, verdict = write_metrics(tmp_path, 0.8), write_verdict(tmp_path, "promote")
        again = registry.register(bundle, "textile", metrics=metrics, verdict=verdict, aliases=["champion"])
        assert (again.version, again.verdict, again.aliases) == (1, "promote", ("champion",))
        assert again.metrics["accuracy"] == 0.8
        assert registry.register(bundle, "textile", force=True).version == 2
        assert registry.register(bundle, "other").version == 1

    def test_identical_versions_keep_their_aliases(self, registry: Registry, plain_bundle: MakeBundle) -> None:
        bundle = plain_bundle()
        for alias in ("prod", "champion", "newest"):
            registry.register(bundle, "textile", aliases=[alias], force=True)
        digest = file_hash(bundle / MANIFEST)
        assert registry.register(bundle, "textile").version == 2, "the champion"
        assert registry.register(bundle, "textile", aliases=["champion"]).version == 2
        assert registry.register(bundle, "textile", aliases=["prod"]).version == 1
        assert registry.adopt(bundle, "textile", {}, aliases=["prod"]).version == 1
        assert version_with(registry, "textile", digest).version == 2
        assert [version.aliases for version in registry.versions("textile")] == [("prod",), ("champion",), ("newest",)]

    def test_broken_bundle_leaves_nothing(self, registry: Registry, plain_bundle: MakeBundle) -> None:
        bundle = plain_bundle()
        (bundle / "model.onnx").write_bytes(b"changed")
        with pytest.raises(BundleError, match=r"model\.onnx was changed"):
            registry.register(bundle, "textile")
        assert registry.models() == []

    def test_missing_things_are_named_with_what_exists(
        self, registry: Registry, tmp_path: Path, plain_bundle: MakeBundle
    ) -> None:
        with pytest.raises(
            RegistryError, match=r"no model 'textile' is registered in .*\n  -> MLOPS_REG.*models reg"
        ) as raised:
            registry.get("textile")
        assert f" in {registry.place}\n" in str(raised.value)
        registry.register(plain_bundle(), "textile", aliases=["champion"])
        unknown = r"no model 'textil' is registered in .*; known: textile\n  -> did you mean 'textile'\?"
        with pytest.raises(RegistryError, match=unknown):
            registry.get("textil")
        with pytest.raises(RegistryError, match="no version 7; known: 1"):
            registry.get("textile:7")
        registry.register(plain_bundle(2), "textile", verdict=write_verdict(tmp_path, "reject"))
        with pytest.raises(
            RegistryError, match=r"no alias 'stable'; known: champion\n  -> .* promote textile:1 --alias stable"
        ):
            registry.get("textile@stable")
        with pytest.raises(RegistryError, match=r"no alias 'champoin'; known: champion\n  -> did you mean 'champion'"):
            registry.get("textile@champoin")

    def test_reports_are_checked(self, registry: Registry, tmp_path: Path, plain_bundle: MakeBundle) -> None:
        bundle = plain_bundle()
        other = write_metrics(tmp_path, 0.5, bundle_id="0" * 12)
        with pytest.raises(RegistryError, match="is about bundle 000000000000, but this is"):
            registry.register(bundle, "textile", metrics=other)
        with pytest.raises(RegistryError, match="does not exist"):
            registry.register(bundle, "textile", metrics=tmp_path / "no.json")
        with pytest.raises(RegistryError, match="decision 'maybe' is not one of"):
            registry.register(bundle, "textile", verdict=write_json(tmp_path / "v.json", {"decision": "maybe"}))
        with pytest.raises(RegistryError, match="expected a JSON object, not list"):
            registry.register(bundle, "textile", verdict=write_json(tmp_path / "v.json", []))
        write_prepared(tmp_path / "prepared")
        with pytest.raises(RegistryError, match="the bundle was trained on data ffffffffffff"):
            registry.register(bundle, "textile", data=tmp_path / "prepared")
        with pytest.raises(RegistryError, match="'a/b' is not a valid model name"):
            registry.register(bundle, "a/b")
        assert registry.models() == []

    def test_promotion_is_recorded_and_can_be_rolled_back(self, registry: Registry, plain_bundle: MakeBundle) -> None:
        for seed in range(2):
            registry.register(plain_bundle(seed), "textile", aliases=["champion"])
        back = registry.promote("textile", 1)
        assert back.aliases == ("champion",)
        assert back.tags["champion.previous"] == "2"
        assert registry.get("textile:2").aliases == ()
        history = registry.history("textile")
        assert [(entry["version"], entry["previous"]) for entry in history] == [(1, None), (2, 1), (1, 2)]
        assert set(history[0]) == {"alias", "version", "previous", "at", "forced"}
        registry.promote("textile", 1)
        assert registry.history("textile") == history
        with pytest.raises(RegistryError, match="no version 9"):
            registry.promote("textile", 9)

    def test_several_aliases(self, registry: Registry, plain_bundle: MakeBundle) -> None:
        registry.register(plain_bundle(), "textile", aliases=["champion", "blue"])
        registry.register(plain_bundle(1), "textile", aliases=["green"])
        registry.promote("textile", 2, "blue")
        assert registry.get("textile:1").aliases == ("champion",)
        assert registry.get("textile@blue").aliases == ("blue", "green")
        assert len(registry.history("textile")) == 4

    def test_rejected_version_is_promoted_only_by_force(
        self, registry: Registry, tmp_path: Path, plain_bundle: MakeBundle
    ) -> None:
        bundle, verdict = plain_bundle(), write_verdict(tmp_path, "reject")
        with pytest.raises(RegistryError, match="cannot become champion: its verdict is reject"):
            registry.register(bundle, "textile", verdict=verdict, aliases=["champion"])
        assert registry.models() == []
        registry.register(bundle, "textile", verdict=verdict)
        with pytest.raises(RegistryError, match=r"textile:1 cannot .* \(accuracy 0.5 is below 0.9\)\n  -> .*--force"):
            registry.promote("textile", 1)
        assert registry.promote("textile", 1, force=True).aliases == ("champion",)
        assert registry.history("textile")[-1]["forced"] is True

    def test_download_is_whole(self, registry: Registry, tmp_path: Path, plain_bundle: MakeBundle) -> None:
        bundle = plain_bundle()
        (bundle / "note.txt").write_text("not of the bundle")
        version = registry.register(bundle, "textile")
        assert registry.download("textile:1", tmp_path / "out") == version
        assert read_bundle(tmp_path / "out") == read_bundle(bundle)
        assert file_hash(tmp_path / "out" / MANIFEST) == version.tags[HASH_TAG]
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "bundle.json", "golden", "model.onnx", "weights.safetensors",
        ]  # fmt: skip
        with pytest.raises(MlopsError, match="exists already"):
            registry.download("textile:1", tmp_path / "out")
        assert read_bundle(registry.bundle_path(version)) == read_bundle(bundle)

    def test_explain_tells_what_was_registered(
        self, registry: Registry, tmp_path: Path, plain_bundle: MakeBundle
    ) -> None:
        manifest = write_prepared(tmp_path / "prepared")
        # More classes than a short tag could name.
        classes = {f"class {number}": {"recall": number / 100, "precision": 0.5} for number in range(90)}
        metrics = write_metrics(tmp_path, 0.5, per_class=classes)
        version = registry.register(
            plain_bundle(data_fingerprint=manifest.fingerprint),
            "textile",
            metrics=metrics,
            verdict=write_verdict(tmp_path, "inconclusive"),
            data=tmp_path / "prepared",
        )
        registry.promote("textile", 1)
        version = registry.get("textile@champion")
        assert version.metrics["per_class.class 89.recall"] == 0.89
        text = {link.step: link.summary for link in explain(version, registry.history("textile"))}
        assert "6 images from photos (train 2, val 2, test 2)" in text["data"]
        assert "tiny, 2 classes, 32 px" in text["bundle"]
        assert "accuracy 0.5000 [0.4000, 0.6000]" in text["evaluation"]
        assert text["verdict"] == "inconclusive: accuracy 0.5 is below 0.9"
        assert "champion since " in text["registry"]
