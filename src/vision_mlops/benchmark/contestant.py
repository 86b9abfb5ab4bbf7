"""What takes part in a benchmark: a class that learns from labelled images and then predicts others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vision_mlops.config.workload import Workload
from vision_mlops.data.manifest import Manifest, SplitName

Probabilities = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """One split of prepared data: the files and, for each, the index of its class."""

    files: list[Path]
    labels: npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a contestant used that costs money: amounts by the key of their price in ``prices.yml``."""

    training: Mapping[str, float] = field(default_factory=dict)
    per_prediction: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """What a contestant is given.

    Args:
        workload: The workload that the benchmark is about.
        data: Folder of prepared data.
        manifest: Its manifest; ``manifest.classes`` is the order of the columns of probabilities.
        folder: A folder of the contestant's own. It is kept when a run is interrupted and given again to the next run with
            the same data and settings, so that a long training continues.
        say: Shows one line of progress.
        again: Whether to train again, although a model of the same data and settings may exist. It stays true until there
            is a result, also for a run that continues after an interruption: the folder then belongs to the new training.
    """

    workload: Workload
    data: Path
    manifest: Manifest
    folder: Path
    say: Callable[[str], None]
    again: bool = False

    def images(self, split: SplitName) -> LabelledImages:
        """Return files and labels of a split. A contestant should only look at ``train`` and ``val``."""
        records = self.manifest.of_split(split)
        labels = np.array([self.manifest.classes.index(record.label) for record in records], np.int64)
        return LabelledImages([self.data / record.path for record in records], labels)


class Contestant(ABC):
    """Learns the training images of a task and predicts others. One object is used for one task.

    Args:
        task: What to learn.
    """

    name: ClassVar[str]
    """What `--with` calls it."""
    title: ClassVar[str] = ""
    """What tables call it; the name where it is empty."""
    hosted: ClassVar[bool] = False
    """Whether a service computes its predictions: its latency is then that of a round trip."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @abstractmethod
    def fit(self) -> None:
        """Learn from ``self.task.images("train")``; ``val`` may serve to choose settings and to calibrate.

        Raises:
            ConfigError: a setting is wrong. It is raised before anything is created in a service, unless the contestant's
                folder has a record of what was created.
            DataError: the images cannot be used; the same holds for it.
        """

    @abstractmethod
    def predict(self, files: Sequence[Path]) -> Probabilities:
        """Return probabilities (N, C) of image files, in the order of the manifest's classes; rows sum to 1."""

    def settings(self) -> Mapping[str, Any]:
        """Return plain JSON values that the result depends on besides the data; it is reused while they are unchanged."""
        return {}

    def size_bytes(self) -> int | None:
        """Return the bytes of what has to be deployed to predict; None if that is not known."""
        return None

    def usage(self) -> Usage | None:
        """Return what was used of a service that costs money; None for what runs on your own machine."""
        return None

    def training_seconds(self) -> float | None:
        """Return the seconds of the training, if :meth:`fit` took another time: parts were reused, or it was resumed."""
        return None

    def round_trips_ms(self) -> Sequence[float]:
        """Return the milliseconds of each request of :meth:`predict`; empty if a clock around it measures the same.

        A service's limit of requests per second makes a contestant wait, which is not its latency.
        """
        return ()

    def remark(self) -> str:
        """Return what readers of the table should know about this result, in a few words."""
        return ""

    def clean_up(self) -> None:  # noqa: B027 - most made nothing there
        """Remove what the contestant made in a service."""
