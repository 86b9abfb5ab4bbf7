"""The Lightning module: loss, optimiser and metrics of fine-tuning. Loops, precision and checkpoints are Lightning's."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from vision_mlops.config.workload import Training
from vision_mlops.model.network import Classifier
from vision_mlops.model.own_layers import own_transform


class FineTuning(pl.LightningModule):
    """Fine-tunes a classifier.

    Args:
        network: The classifier; in channels-last memory.
        training: Optimiser settings.
        class_weights: Weight of each class in the loss, (C,), or None.
        from_prefix: Batches hold activations of the frozen prefix instead of pixels.
    """

    def __init__(
        self, network: Classifier, training: Training, class_weights: Tensor | None, *, from_prefix: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.training_config = training
        self.from_prefix = from_prefix
        self.augment = own_transform(training.augment.transform, "training.augment.transform")
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute logits (N, C) from pixels (N, S, S, 3), or from prefix activations."""
        if self.from_prefix:
            return self.network.tail(inputs.to(self.network.head.weight.dtype))
        return self.network(inputs)  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        """Do one step: weighted cross-entropy with label smoothing."""
        inputs, labels = batch
        if self.augment is not None:
            with torch.no_grad():
                inputs = 255 * self.augment(inputs.permute(0, 3, 1, 2).float() / 255).clamp(0, 1).permute(0, 2, 3, 1)
        logits = self(inputs)
        loss = torch.nn.functional.cross_entropy(
            logits, labels, weight=self.class_weights, label_smoothing=self.training_config.label_smoothing
        )
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(labels))
        accuracy = (logits.argmax(1) == labels).float().mean()
        self.log("train_accuracy", accuracy, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        """Log the loss without weights or smoothing, and the accuracy, averaged over the validation split."""
        inputs, labels = batch
        logits = self(inputs).float()
        loss = torch.nn.functional.cross_entropy(logits, labels)
        accuracy = (logits.argmax(1) == labels).float().mean()
        values = {"val_loss": loss, "val_accuracy": accuracy}
        self.log_dict(values, prog_bar=True, batch_size=len(labels), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Set up AdamW over what is not frozen, with a one-cycle rate; normalisation and biases are not decayed."""
        config = self.training_config
        decayed: list[torch.nn.Parameter] = []
        plain: list[torch.nn.Parameter] = []
        for parameter in self.network.parameters():
            if parameter.requires_grad:
                (decayed if parameter.ndim > 1 else plain).append(parameter)
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        steps = max(2, int(self.trainer.estimated_stepping_batches))
        # A rise of exactly one step is no rise, and divides by zero in OneCycleLR.
        warmup = config.warmup + 1e-6 if math.isclose(config.warmup * steps, 1.0) else config.warmup
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=config.learning_rate, total_steps=steps, pct_start=warmup
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def balanced_weights(labels: list[int], classes: int) -> Tensor:
    """Return weights (C,) inversely proportional to class frequency, 1 on average over the images."""
    counts = torch.bincount(torch.tensor(labels), minlength=classes).clamp(min=1).float()
    return len(labels) / (classes * counts)
