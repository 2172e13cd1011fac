"""Cramér's V by hand and against the paper's own tables."""

import math

import pytest
import torch

from omnirouter.models.agreement import contingency, cramers_v

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
