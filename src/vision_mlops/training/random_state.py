"""Restores the state of random numbers, so that a resumed training ends with the result that it would have had."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from vision_mlops.training.training_runtime import rank


class RandomState(pl.Callback):
    """Keeps the state of the random numbers in each checkpoint, and sets it when the training continues from one.

    A checkpoint is that of the first process; the others draw from a state of their own, so with several processes a resumed
    training augments with other numbers.
    """

    def __init__(self) -> None:
        self._resumed: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state at the time when the checkpoint is written."""
        return {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the state until the training starts, because what is set up in between draws as well."""
        self._resumed = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue from the state of the checkpoint."""
        if not self._resumed or rank():
            return
        random.setstate(self._resumed["python"])
        np.random.set_state(self._resumed["numpy"])
        torch.set_rng_state(self._resumed["torch"])
        # Lightning has made the iterator over the first epoch already. Otherwise it does so now, and that draws a seed.
        torch.empty((), dtype=torch.int64).random_()
        if self._resumed["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(self._resumed["cuda"])
