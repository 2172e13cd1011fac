"""Agreement between the expert choices of two layers."""

import torch
from torch import Tensor


def contingency(a_T: Tensor, b_T: Tensor, shape: tuple[int, int] | None = None) -> Tensor:
    """Count how often expert i of one layer and j of another take the same token.

    shape: experts of each layer; by default as many as the largest index asks for.
    """
    rows, columns = shape or (int(a_T.max()) + 1, int(b_T.max()) + 1)
    return torch.bincount(a_T * columns + b_T, minlength=rows * columns).view(rows, columns)


def cramers_v(table: Tensor) -> float:
    """Cramér's V of a contingency table, 0 for independence to 1; NaN when either side never varies."""
    counts = table.double()
    counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    if min(counts.shape) < 2:
        return float("nan")
    expected = counts.sum(1, keepdim=True) * counts.sum(0, keepdim=True) / counts.sum()
    chi2 = ((counts - expected) ** 2 / expected).sum()
    return float((chi2 / (counts.sum() * (min(counts.shape) - 1))).sqrt())
