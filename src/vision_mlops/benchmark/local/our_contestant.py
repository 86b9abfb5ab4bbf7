"""The contestant ``ours``: the workload trained as `mlops train` trains it, or a bundle that was trained that way."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vision_mlops.benchmark.contestant import Contestant, Probabilities, Task
from vision_mlops.config.own_code import references, source_hashes
from vision_mlops.core import paths
from vision_mlops.core.errors import BundleError, MlopsError
from vision_mlops.model.bundle import Bundle, graph_bytes, read_bundle
from vision_mlops.model.predictor import Predictor
from vision_mlops.registry import CHAMPION, open_registry
from vision_mlops.tracking import mlflow_runs
from vision_mlops.training.fit import fit
from vision_mlops.training.mlflow_callback import EpochLines

_LOG = logging.getLogger(__name__)
_SECTIONS = ("model", "training")


class OurModel(Contestant):
    """Fine-tuned by :func:`vision_mlops.training.fit.fit` with the workload's settings."""

    name = "ours"
    title = "Ours, fine-tuned"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.bundle = task.folder / "bundle"
        self._seconds: float | None = None
        self._remark = ""
        self._single: Predictor | None = None
        self._many: Predictor | None = None

    def settings(self) -> Mapping[str, Any]:
        """Return the sections of the workload that decide what is trained, and the project's own code that they name."""
        found = {section: getattr(self.task.workload, section).model_dump(mode="json") for section in _SECTIONS}
        own = source_hashes(references(self.task.workload, _SECTIONS))
        return {**found, **({"own_code": own} if own else {})}

    def fit(self) -> None:
        """Use an existing bundle of these data and settings, or train one."""
        for where, folder, run_id in () if self.task.again else self._candidates():
            self.task.say(f"reusing {where}: it was trained on these data with these settings")
            self.bundle, self._remark = folder, f"reused {where}"
            self._seconds = _recorded_seconds(run_id)
            break
        else:
            lines = EpochLines(self.task.say)
            fitted = fit(
                self.task.workload, self.task.data, self.bundle, overwrite=True, progress=False, callbacks=[lines]
            )
            if fitted is None:
                raise MlopsError("a benchmark runs in one process", "run it without torchrun")
        # One thread as a worker of the server has it, and all cores for many images.
        self._single = Predictor(self.bundle, threads=1)
        self._many = Predictor(self.bundle, verify=False)

    def predict(self, files: Sequence[Path]) -> Probabilities:
        """Return the probabilities of the bundle, which are calibrated."""
        assert self._single is not None
        assert self._many is not None
        if len(files) == 1:
            return self._single.score([self._single.pixels(files[0])]).probabilities
        return self._many.score_files(files)

    def training_seconds(self) -> float | None:
        """Return what the training of a reused bundle recorded."""
        return self._seconds

    def size_bytes(self) -> int:
        """Return the size of the graph, which is all that the server runs."""
        return graph_bytes(self.bundle, read_bundle(self.bundle))

    def remark(self) -> str:
        """Say which bundle was reused."""
        return self._remark

    def _candidates(self) -> Iterator[tuple[str, Path, str]]:
        """Yield bundles of these data and settings with a known training time: the champion, then the last `mlops run`."""
        for where, folder in self._existing():
            try:
                bundle = read_bundle(folder)
            except BundleError:
                continue
            if self._is_equal(bundle) and _recorded_seconds(bundle.run_id) is not None:
                yield where, folder, bundle.run_id

    def _existing(self) -> Iterator[tuple[str, Path]]:
        name = self.task.workload.name
        try:
            registry = open_registry()
            champion = registry.get(f"{name}@{CHAMPION}")
            yield f"the champion {champion.reference}", registry.bundle_path(champion)
        except MlopsError as error:  # there is none, its folder is gone, or a registry in Azure is not reached
            _LOG.debug("no champion: %s", error)
        yield "the bundle of the last `mlops run`", paths.home() / "bundles" / name

    def _is_equal(self, bundle: Bundle) -> bool:
        if bundle.quantization is not None or bundle.data_fingerprint != self.task.manifest.fingerprint:
            return False
        trained: dict[str, object] = {section: bundle.workload.get(section) for section in _SECTIONS}
        if bundle.own_code:
            trained["own_code"] = bundle.own_code
        return json.dumps(trained, sort_keys=True) == json.dumps(dict(self.settings()), sort_keys=True)


def _recorded_seconds(run_id: str) -> float | None:
    """Return how long a training took, by its MLflow run; None if the run is not in this store."""
    run = mlflow_runs.find_run(run_id)
    found = None if run is None else run.data.metrics.get("train_seconds")
    return None if found is None else float(found)
