"""Temperature scaling: one number that makes the probabilities as sure as they are right (Guo et al., 2017)."""

from __future__ import annotations

import torch
from torch import Tensor


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Temperature that minimises the negative log-likelihood of (N, C) logits and (N,) labels, within 0.05 to 20.

    The likelihood is unimodal in the temperature's logarithm, so a golden-section search over it finds the minimum.
    """
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        scaled = logits / torch.tensor(log_temperature).exp()
        return float(torch.nn.functional.cross_entropy(scaled, labels))

    low, high = torch.tensor([0.05, 20.0]).log().tolist()
    ratio = (5**0.5 - 1) / 2
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return float(torch.tensor((low + high) / 2).exp())
