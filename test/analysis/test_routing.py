"""Routing statistics of a set."""

import pytest
import torch

from omnirouter.analysis.routing import analyse_routing
from omnirouter.data.dataset import Batch
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel


def test_figures_of_a_set_do_not_depend_on_its_batches() -> None:
    torch.manual_seed(0)
    model = CtcModel(ModelConfig(layers=3, dim=32, heads=2, ffn_dim=32, moe_every=2, encoder="switch"), 5).eval()
    features = torch.randn(4, 80, 80)
    lengths = [80, 60, 33, 20]
    together = [Batch(list("abcd"), features, lengths, torch.zeros(0), [0] * 4)]
    apart = [
        Batch([name], features[i : i + 1, :n], [n], torch.zeros(0), [0])
        for i, (name, n) in enumerate(zip("abcd", lengths, strict=True))
    ]
    (one,), (other,) = analyse_routing(model, together), analyse_routing(model, apart)
    assert one.layer == other.layer == 2 and one.cramers_v is None
    assert one.load == other.load and sum(one.load) == pytest.approx(1)
    assert (one.entropy, one.top1_prob) == pytest.approx((other.entropy, other.top1_prob), rel=1e-5)
    assert analyse_routing(CtcModel(ModelConfig(layers=1, dim=32, heads=2, encoder="dense"), 5), together) == []
