"""Training from prepared data to a bundle: what is learnt, saved, resumed and refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from testing.support.prepared_data import make_prepared

from vision_mlops.config import Workload, load_workload
from vision_mlops.config.workload import Augment, Training
from vision_mlops.core.errors import DataError, MlopsError, TrainingError
from vision_mlops.data.manifest import read_manifest
from vision_mlops.model.bundle import WEIGHTS, Bundle, read_evaluation
from vision_mlops.model.network import Classifier
from vision_mlops.model.predictor import Predictor
from vision_mlops.tracking import mlflow_runs
from vision_mlops.training import bundle_export as exporting
from vision_mlops.training.bundle_export import fit_temperature
from vision_mlops.training.checkpoints import TrainingFolder
from vision_mlops.training.fit import fit
from vision_mlops.training.lightning_module import FineTuning, balanced_weights
from vision_mlops.training.training_batches import (
    ImageSplit,
    PrefixSplit,
    augmented,
    prefix_cache_fits,
    prefix_runner,
    view,
)

import pytorch_lightning as pl  # isort: skip  # after the package, which makes its torchvision importable

TINY = (
    "model.backbone=test_resnet",
    "model.pretrained=false",
    "model.image_size=32",
    "model.frozen_stages=0",
    "training.epochs=3",
    "training.batch_size=8",
)


def tiny(*overrides: str) -> Workload:
    return load_workload("textile", [*TINY, *overrides])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_prepared(tmp_path / "data", train=8, val=4, test=4)
    return tmp_path / "data"


@pytest.mark.slow
def test_one_batch_is_overfitted(data: Path) -> None:
    """A network that cannot learn one batch by heart has a broken gradient, loss or input somewhere."""
    torch.manual_seed(0)
    workload = tiny()
    split = ImageSplit(data, read_manifest(data), "train", workload)
    network = Classifier(workload.model, 3).train()
    module = FineTuning(network, workload.training, None)
    images, labels = torch.stack([split.image(i) for i in range(24)]), torch.tensor(split.labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(module(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(loss.detach()) < 0.05


@pytest.mark.slow
def test_fit_writes_a_bundle_that_predicts_like_the_network(data: Path, store: Path, tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        fitted = fit(tiny("training.epochs=6"), data, tmp_path / "bundle", progress=False)
    finally:
        os.umask(umask)
    assert fitted is not None
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "bundle").glob("*.*")} == {0o640}
    bundle = fitted.bundle
    assert bundle.metrics["test_accuracy"] >= 0.9
    assert bundle.parity["agreement"] == 1.0
    assert bundle.data_fingerprint == read_manifest(data).fingerprint
    assert len(bundle.golden) == 6
    evaluation = read_evaluation(tmp_path / "bundle", bundle)
    assert evaluation is not None
    assert evaluation["accuracy"] == bundle.metrics["test_accuracy"]
    assert np.sum(evaluation["confusion_matrix"]) == len(read_manifest(data).of_split("test"))
    predictor = Predictor(tmp_path / "bundle")
    network = Classifier(tiny().model, 3).eval()
    network.load_state_dict(load_file(tmp_path / "bundle" / WEIGHTS))
    split = ImageSplit(data, read_manifest(data), "test", tiny())
    expected = exporting.probabilities(network, bundle.temperature, split, 8)
    got = predictor.score([split.image(i).numpy() for i in range(len(split))]).probabilities
    np.testing.assert_allclose(got, expected, atol=0.01)
    assert not list(tmp_path.glob(".bundle*")), "checkpoints must go once the bundle is whole"
    run = mlflow_runs.client().get_run(bundle.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.backbone"] == "test_resnet"
    history = mlflow_runs.client().get_metric_history(bundle.run_id, "val_accuracy")
    assert len({point.step for point in history}) >= 6
    assert {item.path for item in mlflow_runs.client().list_artifacts(bundle.run_id)} >= {"curves.png", "bundle.json"}
    with pytest.raises(MlopsError, match="exists already"):
        fit(tiny(), data, tmp_path / "bundle", progress=False)


class Modes(pl.Callback):
    """Notes at each step which modules of the network train."""

    def __init__(self) -> None:
        self.seen: list[dict[str, bool]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, _: int) -> None:
        assert isinstance(pl_module, FineTuning)
        assert pl_module.from_prefix
        self.seen.append({name: module.training for name, module in pl_module.network.named_modules()})


@pytest.mark.slow
def test_with_the_prefix_cache_the_rest_of_the_network_trains(data: Path, store: Path, tmp_path: Path) -> None:
    """Batch statistics that stand still ruin the model without any error: each epoch must train what is not frozen."""
    modes = Modes()
    workload = load_workload(
        "textile", ["model.image_size=32", "model.pretrained=false", "training.epochs=2", "training.batch_size=8"]
    )
    fit(workload, data, tmp_path / "bundle", progress=False, callbacks=[modes])
    assert len(modes.seen) == 6
    for seen in modes.seen:
        assert not seen["backbone.bn1"]
        assert not seen["backbone.blocks.2.0.bn1"]
        assert seen["backbone.blocks.3.0.bn1"]
        assert seen["backbone.bn2"]
        assert seen["dropout"]


@pytest.mark.slow
def test_equal_seeds_give_equal_models(data: Path, store: Path, tmp_path: Path) -> None:
    hashes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fitted = fit(tiny("training.epochs=1", f"training.seed={seed}"), data, tmp_path / name, progress=False)
        assert fitted is not None
        hashes.append(fitted.bundle.files[WEIGHTS])
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


@pytest.mark.slow
def test_resume_continues_after_a_kill(data: Path, store: Path, tmp_path: Path) -> None:
    """The process kills itself as the second epoch ends, as ``kill -9`` would; --resume then runs only what is missing."""
    killed = f"""
import os, signal
from pathlib import Path
from vision_mlops.config import load_workload
from vision_mlops.training.fit import fit
import pytorch_lightning as pl
class Kill(pl.Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
workload = load_workload("textile", {list(TINY)!r})
fit(workload, Path({str(data)!r}), Path({str(tmp_path / "bundle")!r}), progress=False, callbacks=[Kill()])
"""
    first = subprocess.run([sys.executable, "-c", killed], check=False, capture_output=True, text=True)
    assert first.returncode == -9, first.stderr
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(TrainingError, match=r"an interrupted training of .*bundle is in"):
        fit(tiny(), data, tmp_path / "bundle", progress=False)
    with pytest.raises(TrainingError, match=r"started with other values of model.image_size, training.seed"):
        fit(tiny("training.seed=5", "model.image_size=48"), data, tmp_path / "bundle", resume=True, progress=False)
    fitted = fit(tiny(), data, tmp_path / "bundle", resume=True, progress=False)
    assert fitted is not None
    assert fitted.epochs == 3
    whole = fit(tiny(), data, tmp_path / "whole", progress=False)
    assert whole is not None
    for name, weights in load_file(whole.folder / WEIGHTS).items():
        torch.testing.assert_close(load_file(fitted.folder / WEIGHTS)[name], weights, msg=f"{name} differs")
    steps = {point.step for point in mlflow_runs.client().get_metric_history(fitted.bundle.run_id, "train_loss")}
    assert steps >= {0, 1, 2}, "the resumed run goes on in the MLflow run that it began"


@pytest.mark.slow
def test_two_processes_train_one_model(data: Path, store: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "vision_mlops", "train", "--data", str(data), "--out", str(tmp_path / "bundle")]
    for item in (*TINY, "training.accelerator=cpu"):
        command += ["--set", item]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(Predictor(tmp_path / "bundle").classes) == 3


@pytest.mark.slow
def test_a_checkpoint_that_was_cut_off_is_none(data: Path, store: Path, tmp_path: Path) -> None:
    work = TrainingFolder(tmp_path / "bundle", tiny(), read_manifest(data), tmp_path / "kept")
    work.begin()
    assert work.folder == tmp_path / "kept/bundle.training"
    work.checkpoints.mkdir()
    torch.save({"a": torch.zeros(1000)}, work.last)
    found = [work.resumable]
    work.last.write_bytes(work.last.read_bytes()[:-100])
    found.append(work.resumable)
    assert found == [True, False]
    fitted = fit(tiny("training.epochs=1"), data, tmp_path / "bundle", progress=False, kept_in=tmp_path / "kept")
    assert fitted is not None
    assert not any((tmp_path / "kept").iterdir())


def test_resume_without_a_checkpoint_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no checkpoint to resume"):
        fit(tiny(), data, tmp_path / "bundle", resume=True, progress=False)


def test_unprepared_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not prepared data"):
        fit(tiny(), tmp_path, tmp_path / "bundle", progress=False)


def test_export_without_parity_is_refused(
    data: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph with other weights than the network must not become a bundle."""
    workload = tiny()
    torch.manual_seed(0)
    other = Classifier(workload.model, 3)
    torch.nn.init.normal_(other.head.weight, std=5.0)
    write = exporting.write_graph
    monkeypatch.setattr(exporting, "write_graph", lambda path, network, temperature: write(path, other, temperature))
    manifest = read_manifest(data)
    split = ImageSplit(data, manifest, "test", workload)
    draft = Bundle.model_validate(
        {"name": "x", "classes": manifest.classes, "preprocessing": {"image_size": 32}, "backbone": "test_resnet",
         "data_fingerprint": manifest.fingerprint}
    )  # fmt: skip
    (tmp_path / "out").mkdir()
    with pytest.raises(TrainingError, match="does not reproduce the network"):
        exporting.export(tmp_path / "out", draft, Classifier(workload.model, 3), split, manifest, batch_size=8)


def test_prefix_cache_is_exact(data: Path) -> None:
    workload = load_workload(
        "textile", ["model.image_size=32", "training.augment.vertical_flip=true", "training.epochs=4"]
    )
    network = Classifier(workload.model, 3).eval()
    assert prefix_cache_fits(network, workload, 24)
    source = ImageSplit(data, read_manifest(data), "train", workload, augment=True)
    cached = PrefixSplit(source, prefix_runner(network, torch.device("cpu")), 8)
    assert len(cached.views) == workload.training.augment.views == 4
    with torch.inference_mode():
        for code, stored in enumerate(cached.views):
            expected = network.prefix(view(source.image(5), workload.training.augment, code)[None])[0]
            torch.testing.assert_close(stored[5].float(), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    "override", ["training.cache_prefix=false", "training.augment.brightness=0.1", "training.epochs=1",
                 "training.cache_limit_mb=1", "model.frozen_stages=0"]
)  # fmt: skip
def test_prefix_cache_is_used_only_where_it_is_exact_and_pays(override: str) -> None:
    workload = load_workload("textile", ["model.image_size=64", override])
    assert not prefix_cache_fits(Classifier(workload.model, 3, load_weights=False), workload, 100_000)


def test_views_are_distinct_and_the_first_is_the_image() -> None:
    augment = Augment(horizontal_flip=True, vertical_flip=False, rotate90=False)
    image = torch.arange(27, dtype=torch.uint8).reshape(3, 3, 3)
    assert torch.equal(view(image, augment, 0), image)
    assert torch.equal(view(image, augment, 1), image.flip(1))
    every = Augment(horizontal_flip=False, vertical_flip=True, rotate90=True)
    assert len({view(image, every, code).numpy().tobytes() for code in range(every.views)}) == 8


def test_free_augmentation_keeps_shape_and_type() -> None:
    torch.manual_seed(0)
    image = torch.randint(0, 256, (20, 20, 3), dtype=torch.uint8)
    changed = augmented(image, Augment(crop_scale=0.5, brightness=0.3, contrast=0.3))
    assert changed.shape == image.shape
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, image)


def test_temperature_recovers_what_scaled_the_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5000, 4, generator=generator) * 2
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits * 3.0, labels) == pytest.approx(3.0, rel=0.1)


def test_balanced_weights_even_the_classes_out() -> None:
    weights = balanced_weights([0, 0, 0, 1], 2)
    assert weights.tolist() == pytest.approx([4 / 6, 2.0])
    assert Training().class_weights == "balanced"
