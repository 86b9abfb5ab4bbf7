"""Records a training run in MLflow: parameters, metrics per epoch, the curves as a picture, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytorch_lightning as pl

from vision_mlops.config.workload import Workload
from vision_mlops.data.manifest import Manifest
from vision_mlops.model.bundle import Bundle
from vision_mlops.tracking import mlflow_runs
from vision_mlops.tracking.learning_curves import curves_figure
from vision_mlops.training.checkpoints import TrainingFolder


class EpochLines(pl.Callback):
    """Reports each epoch in one line, for logs, where a progress bar is of no use.

    Args:
        say: Called with the line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._began = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch."""
        if not trainer.is_global_zero:
            return
        names = ("train_loss", "val_loss", "val_accuracy")
        found = {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}
        values = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in found.items())
        seconds = time.perf_counter() - self._began
        self._say(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: {values} ({seconds:.0f} s)")


@dataclass(eq=False)
class MlflowCallback(pl.Callback):
    """Lightning callback that records one run; a resumed training continues the MLflow run that it began.

    Args:
        workload: Its values become the parameters of the run.
        manifest: Its fingerprint becomes a tag.
        work: Keeps the id of the run for a resumed training.
        started: Time at which the training began, by ``time.perf_counter``.
    """

    workload: Workload
    manifest: Manifest
    work: TrainingFolder
    started: float
    run_id: str = field(default="", init=False)
    train_seconds: float = field(default=0.0, init=False)
    epochs_run: int = field(default=0, init=False)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the run, or the one that the interrupted training had."""
        if not trainer.is_global_zero:
            return
        if trainer.ckpt_path and mlflow_runs.find_run(self.work.run_id) is not None:
            self.run_id = self.work.run_id
            mlflow_runs.reopen_run(self.run_id)
            return
        tags = {"data_fingerprint": self.manifest.fingerprint, "workload": self.workload.name}
        self.run_id = mlflow_runs.start_run(self.workload.name, f"train-{self.workload.model.backbone}", tags)
        self.work.run_id = self.run_id
        mlflow_runs.log_params(self.run_id, self.workload.model_dump(include={"data", "model", "training"}))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch's metrics. Lightning has run the validation of the epoch by then."""
        self.epochs_run += 1
        if self.run_id:
            metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
            mlflow_runs.log_metrics(self.run_id, metrics, step=trainer.current_epoch)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self.train_seconds = time.perf_counter() - self.started

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Mark the run as failed; a resumed training reopens it."""
        if self.run_id:
            mlflow_runs.end_run(self.run_id, failed=True)

    def finish(self, bundle: Bundle) -> None:
        """Attach the curves, the final metrics and the bundle's description, and close the run."""
        client = mlflow_runs.client()

        def points(key: str) -> list[tuple[float, float]]:
            # By epoch, as an epoch that was interrupted after it was logged is logged again.
            return sorted({row.step + 1: row.value for row in client.get_metric_history(self.run_id, key)}.items())

        client.log_figure(self.run_id, curves_figure({"": points}), "curves.png")
        client.log_dict(self.run_id, bundle.model_dump(), "bundle.json")
        # A name of its own: the epochs' val_accuracy is a curve, and this is the point of it that was kept.
        final = {"best_val_accuracy": bundle.metrics["val_accuracy"], "test_accuracy": bundle.metrics["test_accuracy"]}
        final |= {"temperature": bundle.temperature, "train_seconds": self.train_seconds}
        mlflow_runs.log_metrics(self.run_id, final)
        client.set_tag(self.run_id, "git_commit", bundle.git_commit or "unknown")
        mlflow_runs.end_run(self.run_id)
