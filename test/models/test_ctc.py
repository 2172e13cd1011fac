"""The CTC loss against a sum over all alignments."""

import itertools

import pytest
import torch

from omnirouter.models.ctc import BLANK, CtcOutput, ctc_loss
from omnirouter.models.packing import Packing


def collapse(path: tuple[int, ...]) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label != BLANK]


def test_ctc_loss_is_the_sum_over_all_paths() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(7, 3).log_softmax(1)  # utterances of 4 and 3 tokens
    targets = [[1, 2], [2, 2]]
    wanted = 0.0
    for block, target in zip(log_probs.split([4, 3]), targets, strict=True):
        paths = [path for path in itertools.product(range(3), repeat=len(block)) if collapse(path) == target]
        scores = torch.stack([sum(block[t, label] for t, label in enumerate(path)) for path in paths])
        wanted -= float(scores.logsumexp(0))
    output = CtcOutput(log_probs, Packing([4, 3]), torch.zeros(()), {})
    assert float(ctc_loss(output, torch.tensor([1, 2, 2, 2]), [2, 2])) == pytest.approx(wanted, rel=1e-5)
