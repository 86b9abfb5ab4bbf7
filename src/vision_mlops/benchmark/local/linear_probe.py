"""The contestant ``linear-probe``: a logistic regression on the features of the frozen backbone."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from vision_mlops.benchmark.contestant import Probabilities
from vision_mlops.benchmark.local.backbone_features import FeatureContestant, choose

_STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""Inverse strengths of the regularisation (C of scikit-learn) that are tried, for features of unit variance."""
_ITERATIONS = 500


class LinearProbe(FeatureContestant):
    """Shows how far pretrained features reach with only a linear layer learnt; C is chosen on the val images."""

    name = "linear-probe"
    title = "Linear probe on frozen features"

    tried: ClassVar = {"C": list(_STRENGTHS), "iterations": _ITERATIONS}
    model: Any = None

    def fit(self) -> None:
        """Fit one regression for each C, and keep the best on val."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        found = self.features.training()
        began = time.perf_counter()
        labels = self.task.images("train").labels
        candidates = []
        with warnings.catch_warnings():
            # One that has not converged is a candidate like the others: the val images decide.
            warnings.simplefilter("ignore", ConvergenceWarning)
            for strength in _STRENGTHS:
                regression = LogisticRegression(C=strength, max_iter=_ITERATIONS)
                candidates.append(make_pipeline(StandardScaler(), regression).fit(found.train, labels))
        scores = [candidate.predict_proba(found.val) for candidate in candidates]
        best = choose(scores, self.task.images("val").labels)
        self.model = candidates[best]
        self.seconds = found.seconds + time.perf_counter() - began
        self.task.say(f"C = {_STRENGTHS[best]:g} of {len(_STRENGTHS)} that were tried on val")

    def predict(self, files: Sequence[Path]) -> Probabilities:
        """Return the probabilities of the regression."""
        return self.model.predict_proba(self.features.of(files))  # type: ignore[no-any-return]

    def size_bytes(self) -> int:
        """Return the size of the backbone's graph and of the coefficients with mean and deviation of the features."""
        coefficients = self.model[-1].coef_
        return self.features.graph_bytes + 4 * int(coefficients.size + 2 * coefficients.shape[1])
