"""Matched experts and agreement between layers."""

import itertools

import numpy as np
import pytest
from scipy.stats.contingency import association

from omnirouter.analysis import paper
from omnirouter.analysis.assignments import Assignments, make_assignments
from omnirouter.analysis.matching import best_match, layer_table, matched_experts, v_matrix


def assign(*layers: list[int], experts: int = 3) -> Assignments:
    return make_assignments({"a": np.array(layers)}, range(1, len(layers) + 1), [experts] * len(layers), 0.04)


def test_the_papers_tables_have_the_known_agreement() -> None:
    assert paper.CRAMERS_V == pytest.approx({"switch": 0.458, "omnirouter": 0.830}, abs=0.0005)
    for encoder, table in paper.TABLES.items():
        assert paper.CRAMERS_V[encoder] == pytest.approx(association(table, method="cramer"))
        # As printed, the experts stand in an order that no other one beats.
        assert best_match(table).tolist() == [0, 1, 2, 3]


def test_agreement_of_all_pairs_is_scipys() -> None:
    rng = np.random.default_rng(0)
    below = rng.integers(3, size=300)
    above = np.where(rng.random(300) < 0.5, below, rng.integers(3, size=300))
    matrix = v_matrix(assign(below, above, np.zeros(300, int)))
    table = [[np.sum((below == i) & (above == j)) for j in range(3)] for i in range(3)]
    assert matrix[0, 1] == matrix[1, 0] == pytest.approx(association(np.array(table), method="cramer"))
    assert matrix[0, 0] == pytest.approx(1) and np.isnan(matrix[2]).all()


def test_the_best_match_keeps_most_tokens() -> None:
    table = np.array([[0, 9, 5], [8, 7, 0], [1, 9, 0]])
    names = best_match(table)
    kept = sum(table[name, j] for j, name in enumerate(names))
    assert kept == max(sum(table[p[j], j] for j in range(3)) for p in itertools.permutations(range(3))) == 22
    assert names.tolist() == [1, 2, 0]
    assert best_match(np.array([[0, 5, 0, 1], [0, 0, 7, 0]])).tolist() == [2, 0, 1, 3]  # two experts left over
    assert best_match(np.array([[0, 5], [9, 0], [1, 1]])).tolist() == [1, 0]


def test_experts_of_unused_numbers_are_counted() -> None:
    assert layer_table(assign([0, 0, 1], [2, 2, 0]), 0, 1).tolist() == [[0, 0, 2], [1, 0, 0], [0, 0, 0]]


def test_layers_are_matched_upwards_but_not_under_one_router() -> None:
    layers = [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 2]]
    assert matched_experts(assign(*layers), [0, 1, 2]).tolist() == [[0, 1, 2, 0]] * 3
    assert matched_experts(assign(*layers), [0, 0, 0]).tolist() == layers
    # The third layer shares the router of the second, so that it gets the names matched there: 1, 2, 0 are 0, 1, 2.
    assert matched_experts(assign(*layers), [0, 1, 1]).tolist() == [[0, 1, 2, 0], [0, 1, 2, 0], [1, 2, 0, 1]]


def test_a_layer_is_matched_with_the_one_below_not_with_the_lowest() -> None:
    """Layer 3 has 5 of 8 tokens as layer 2, which has 5 as layer 1, but only 2 as layer 1: all names are best kept."""
    layers = [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 0, 0], [1, 1, 0, 1, 0, 1, 0, 0]]
    assert matched_experts(assign(*layers, experts=2), [0, 1, 2]).tolist() == layers


def test_the_next_layer_may_have_more_experts() -> None:
    experts = {"a": np.array([[0, 1, 0, 1, 0], [3, 2, 3, 2, 1]])}
    assignments = make_assignments(experts, [1, 2], [2, 4], 0.04)
    assert matched_experts(assignments, [0, 1]).tolist() == [[0, 1, 0, 1, 0], [0, 1, 0, 1, 3]]
