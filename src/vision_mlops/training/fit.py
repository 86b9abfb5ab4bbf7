"""Fine-tune a workload's network on prepared data and write the bundle.

mlops train --data outputs/data/textile --out outputs/bundles/textile
"""

from __future__ import annotations

import contextlib
import logging
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from vision_mlops.config.own_code import references, source_hashes
from vision_mlops.config.workload import Workload
from vision_mlops.core.errors import MlopsError, TrainingError
from vision_mlops.core.files import atomic_folder
from vision_mlops.core.revision import git_commit
from vision_mlops.data.manifest import Manifest, SplitName, read_manifest
from vision_mlops.images.decoding import PIXELS_VERSION
from vision_mlops.model.bundle import Bundle, Preprocessing, read_bundle
from vision_mlops.model.network import Classifier
from vision_mlops.training import training_runtime
from vision_mlops.training.bundle_export import export, fit_temperature, logits
from vision_mlops.training.checkpoints import TrainingFolder
from vision_mlops.training.lightning_module import FineTuning, balanced_weights
from vision_mlops.training.mlflow_callback import MlflowCallback
from vision_mlops.training.own_code_check import check_own_code
from vision_mlops.training.random_state import RandomState
from vision_mlops.training.training_batches import (
    ImageSplit,
    PrefixSplit,
    Sample,
    collate,
    prefix_cache_fits,
    prefix_runner,
)

# Sections of the workload that decide what is trained: the bundle records them. The component train.yml names the same.
TRAINED_FROM = {"name", "title", "data", "model", "training"}


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained and exported model."""

    bundle: Bundle
    folder: Path
    epochs: int
    train_seconds: float
    images_per_second: float


def fit(
    workload: Workload,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    callbacks: Sequence[pl.Callback] = (),
    kept_in: Path | None = None,
) -> Fitted | None:
    """Train, calibrate on the validation split, export, and prove parity on the test split.

    Args:
        workload: What to train and how.
        data: Prepared data.
        out: Folder of the bundle.
        resume: Continue at the last finished epoch of an interrupted run.
        overwrite: Replace an existing bundle.
        progress: Show Lightning's progress bar.
        callbacks: Lightning callbacks besides our own.
        kept_in: Folder of the checkpoints until the bundle is complete; beside it if not given.

    Returns:
        The result; None on the processes of a distributed run other than the first.

    Raises:
        TrainingError, DataError, ConfigError: what is wrong with the network, the data or own code, before anything is
            written.
    """
    started = time.perf_counter()
    out = out.absolute()
    manifest = read_manifest(data)
    training = _FineTuningRun(workload, data, manifest, out, TrainingFolder(out, workload, manifest, kept_in))
    training.check_target(resume=resume, overwrite=overwrite)
    training_runtime.keep_freed_memory()
    pl.seed_everything(workload.training.seed, workers=True, verbose=False)
    network = Classifier(workload.model, len(manifest.classes))
    check_own_code(network, workload.training.augment)
    if resume:
        # The prefix cache below must come from the weights that the interrupted run used.
        saved = torch.load(training.work.last, weights_only=False, map_location="cpu")["state_dict"]
        network.load_state_dict({key.removeprefix("network."): value for key, value in saved.items()})
    elif training_runtime.rank() == 0:
        training.work.begin()
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with _quiet():
        journal = MlflowCallback(workload, manifest, training.work, started)
        trainer = training.trainer([journal, *callbacks], progress)
        val = training.images("val")
        module = training.learn(network, val, trainer, resume=resume)
        if not trainer.is_global_zero:
            return None
        return training.finish(module, val, journal, trainer.current_epoch, overwrite=overwrite)


@dataclass(frozen=True, slots=True)
class _FineTuningRun:
    workload: Workload
    data: Path
    manifest: Manifest
    out: Path
    work: TrainingFolder

    def check_target(self, *, resume: bool, overwrite: bool) -> None:
        out = self.out
        if out.exists() and (not out.is_dir() or any(out.iterdir())) and not overwrite:
            raise MlopsError(f"{out} exists already", "choose another --out, or give --overwrite")
        if resume:
            self.work.check_resumable()
        elif self.work.interrupted and not overwrite:
            raise TrainingError(
                f"an interrupted training of {out} is in {self.work.folder}",
                "--resume continues it, --overwrite starts over",
            )

    def images(self, split: SplitName, *, augment: bool = False) -> ImageSplit:
        return ImageSplit(self.data, self.manifest, split, self.workload, augment=augment)

    def trainer(self, callbacks: Sequence[pl.Callback], progress: bool) -> pl.Trainer:
        config = self.workload.training
        processes, local = training_runtime.world_size(), training_runtime.local_world_size()
        checkpoints = pl.callbacks.ModelCheckpoint(
            dirpath=self.work.checkpoints, filename="best", monitor="val_loss", save_last=True,
            enable_version_counter=False,
        )  # fmt: skip
        stopping = pl.callbacks.EarlyStopping("val_loss", patience=config.early_stopping_patience)
        return pl.Trainer(
            max_epochs=config.epochs,
            accelerator=config.accelerator,
            devices=local,
            num_nodes=processes // local,
            strategy="ddp" if processes > 1 else "auto",
            precision=training_runtime.precision(config),
            callbacks=[checkpoints, stopping, RandomState(), *callbacks],
            logger=False,
            enable_progress_bar=progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            default_root_dir=self.work.folder,
        )

    def learn(self, network: Classifier, val: ImageSplit, trainer: pl.Trainer, *, resume: bool) -> FineTuning:
        config, classes = self.workload.training, len(self.manifest.classes)
        train = self.images("train", augment=True)
        batch_size = min(config.batch_size, len(train))
        cached = training_runtime.world_size() == 1 and prefix_cache_fits(network, self.workload, len(train) + len(val))
        weights = balanced_weights(train.labels, classes) if config.class_weights == "balanced" else None
        module = FineTuning(network, config, weights, from_prefix=cached)
        splits: tuple[Dataset[Sample], Dataset[Sample]] = (train, val)
        if cached:
            run = prefix_runner(network, trainer.strategy.root_device)
            splits = PrefixSplit(train, run, batch_size), PrefixSplit(val, run, batch_size)
        options: dict[str, Any] = {"batch_size": batch_size, "collate_fn": collate}
        if config.workers and train.pixels is None and not cached:
            options |= {"num_workers": config.workers, "persistent_workers": True}
        loaders = (
            # A last batch of one image has no batch statistics: leave it out.
            DataLoader(splits[0], shuffle=True, drop_last=len(train) % batch_size == 1 and len(train) > 1, **options),
            DataLoader(splits[1], **options),
        )
        # Lightning keeps the mode that it finds, and the prefix runner left evaluation mode.
        module.train()
        handler = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, *loaders, ckpt_path=str(self.work.last) if resume else None, weights_only=False)
        except SystemExit:
            if not trainer.interrupted:
                raise
            # Lightning turns Ctrl-C into an exit code of its own and ignores the signal from then on.
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
        return module

    def finish(
        self, module: FineTuning, val: ImageSplit, journal: MlflowCallback, epochs: int, *, overwrite: bool
    ) -> Fitted:
        workload, manifest, network = self.workload, self.manifest, module.network
        module.load_state_dict(torch.load(self.work.best, weights_only=False, map_location="cpu")["state_dict"])
        batch_size = workload.training.batch_size
        scores = logits(network.to("cpu"), val, batch_size)
        labels = torch.tensor(val.labels)
        bundle = Bundle(
            name=workload.name,
            classes=manifest.classes,
            preprocessing=Preprocessing(
                image_size=workload.model.image_size, resize=workload.model.resize, version=PIXELS_VERSION
            ),
            backbone=workload.model.backbone,
            frozen_stages=workload.model.frozen_stages,
            temperature=fit_temperature(scores, labels),
            data_fingerprint=manifest.fingerprint,
            git_commit=git_commit(),
            run_id=journal.run_id,
            workload=workload.model_dump(include=TRAINED_FROM),
            own_code=source_hashes(references(workload, TRAINED_FROM)),
            metrics={"val_accuracy": float((scores.argmax(1) == labels).float().mean())},
            libraries=training_runtime.library_versions(),
        )
        with atomic_folder(self.out, overwrite=overwrite) as folder:
            bundle = export(folder, bundle, network, self.images("test"), manifest, batch_size=batch_size)
        journal.finish(bundle)
        self.work.drop()
        seconds = journal.train_seconds
        trained = journal.epochs_run * sum(record.split == "train" for record in manifest.images)
        return Fitted(read_bundle(self.out), self.out, epochs, seconds, trained / seconds if seconds else 0.0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice off the terminal: workers, hardware tips and version notes are not for our users."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", module="lightning_fabric")
        warnings.filterwarnings("ignore", module="torch")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
