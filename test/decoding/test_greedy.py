"""Greedy CTC decoding."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from omnirouter.data.dataset import make_batch
from omnirouter.data.tokenizer import Tokenizer, train_tokenizer
from omnirouter.decoding.greedy import best_path, greedy_decode
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel, CtcOutput
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


@pytest.mark.parametrize("top_k", [1, 2])
def test_the_text_of_an_utterance_is_the_same_alone_and_in_any_batch(tmp_path: Path, top_k: int) -> None:
    train_tokenizer(["A B C D E F"], "char", 0, tmp_path / "lang")
    tokenizer = Tokenizer(tmp_path / "lang")
    torch.manual_seed(0)
    config = ModelConfig(layers=3, dim=32, heads=2, ffn_dim=64, experts=4, top_k=top_k)
    model = CtcModel(config, len(tokenizer.tokens)).eval()
    rng = np.random.default_rng(0)
    features = {f"utt{n}": rng.normal(0, 2, (n, 80)).astype(np.float32) for n in (90, 3, 201, 4, 0, 57)}

    def decode(*names: str) -> dict[str, str]:
        batch = make_batch(list(names), [features[name] for name in names], [[] for _ in names])
        (texts,) = greedy_decode(model, tokenizer, [batch])
        return texts

    alone = {name: decode(name)[name] for name in features}
    assert len(set(alone.values()) - {""}) == 3 and alone["utt3"] == alone["utt0"] == ""  # no token, no text
    assert decode(*features) == alone
    assert decode("utt57", "utt0") == {"utt57": alone["utt57"], "utt0": ""}
