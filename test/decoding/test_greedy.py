"""Greedy CTC decoding."""

import itertools

import torch

from omnirouter.decoding.greedy import best_path
from omnirouter.models.ctc import CtcOutput
from omnirouter.models.packing import Packing


def output_of(paths: list[list[int]]) -> CtcOutput:
    joined = torch.tensor(list(itertools.chain(*paths)))
    return CtcOutput(
        torch.nn.functional.one_hot(joined, 5).float(), Packing([len(p) for p in paths]), torch.zeros(()), {}
    )


def test_repeats_are_merged_before_blanks_are_removed() -> None:
    assert best_path(output_of([[0, 1, 1, 0, 1, 2, 2], [3, 3], [0, 0, 0]])) == [[1, 1, 2], [3], []]


def test_utterances_do_not_run_into_each_other() -> None:
    assert best_path(output_of([[0, 2], [2, 2, 1]])) == [[2], [2, 1]]


def test_against_a_plain_loop() -> None:
    torch.manual_seed(0)
    paths = [torch.randint(0, 3, (n,)).tolist() for n in (1, 5, 40, 17)]
    wanted = [[label for label, _ in itertools.groupby(path) if label] for path in paths]
    assert best_path(output_of(paths)) == wanted
