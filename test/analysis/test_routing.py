"""Routing statistics against hand-computed values and the paper's own tables."""

import math

import pytest
import torch

from omnirouter.analysis.routing import analyse_routing, contingency, cramers_v
from omnirouter.data.dataset import Batch
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel

SWITCH = [[102, 26, 16, 0], [38, 33, 36, 8], [4, 34, 49, 32], [3, 62, 1, 58]]  # Fig. 4 of the paper
OMNI = [[127, 1, 3, 0], [0, 109, 3, 0], [0, 0, 107, 26], [4, 0, 44, 78]]


@pytest.mark.parametrize(("table", "wanted"), [(SWITCH, 0.458), (OMNI, 0.830)])
def test_cramers_v_of_the_papers_tables(table: list[list[int]], wanted: float) -> None:
    assert cramers_v(torch.tensor(table)) == pytest.approx(wanted, abs=5e-4)


def test_cramers_v_at_its_ends() -> None:
    assert cramers_v(torch.tensor([[0, 9, 0], [5, 0, 0], [0, 0, 2]])) == pytest.approx(1)
    assert cramers_v(torch.tensor([[2, 4], [3, 6]])) == pytest.approx(0)
    assert cramers_v(torch.tensor([[2, 4, 0], [3, 6, 0]])) == pytest.approx(0)  # an unused expert does not count
    assert math.isnan(cramers_v(torch.tensor([[2, 4]])))


def test_contingency_by_hand() -> None:
    table = contingency(torch.tensor([0, 0, 1, 2]), torch.tensor([1, 1, 0, 1]))
    assert table.tolist() == [[0, 2], [1, 0], [0, 1]]


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
