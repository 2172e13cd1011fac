"""Choosing the weights of a language model."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import kaldiio
import numpy as np
import pytest
from torch import Tensor

from omnirouter.data.dataset import FeatureUtterance
from omnirouter.data.errors import UserError
from omnirouter.data.tables import read_table
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.decoding.beam import Search
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel, CtcOutput
from omnirouter.models.packing import Packing
from omnirouter.scoring.tuning import (
    Trial,
    best_trial,
    choose_search,
    edges,
    grid,
    keep_lm,
    notes,
    print_unknown,
    trial_table,
    try_weights,
)
from omnirouter.scoring.wer import ErrorCounts

UNITS = ("<blank>", "▁A", "▁B", "▁C")
ARPA = """\\data\\
ngram 1=6
ngram 2=1

\\1-grams:
-2.0\t<unk>
-99\t<s>\t0
-0.5\t</s>
-0.3\tA\t0
-2.0\tB\t0
-0.6\tC

\\2-grams:
-0.3\t<s> A

\\end\\
"""


def trial(lm_weight: float, word_score: float, errors: int) -> Trial:
    return Trial(lm_weight, word_score, ErrorCounts(ref_units=8, substitutions=errors))


class ReadsProbabilities(CtcModel):
    """Takes the first features of every fourth frame for the units' log-probabilities."""

    def forward(self, features: Tensor, lengths: Sequence[int], with_routing: bool = False) -> CtcOutput:  # noqa: ARG002
        packing = Packing([length // 4 for length in lengths])
        return CtcOutput(packing.pack(features[:, ::4, : len(UNITS)]), packing, features.sum(), {})


def heard(*likely: str) -> np.ndarray:
    """Features of one token a letter: a second letter is what is heard, by 0.6 to 0.4; after each a blank."""
    probs = np.full((2 * len(likely), len(UNITS)), 1e-4)
    probs[1::2, 0] = 1
    for i, letters in enumerate(likely):
        probs[2 * i, ["-ABC".index(letter) for letter in letters]] = [0.4, 0.6] if len(letters) == 2 else [1.0]
    features = np.zeros((4 * len(probs), 80), np.float32)
    features[:, : len(UNITS)] = np.log(probs / probs.sum(1, keepdims=True)).repeat(4, axis=0)
    return features


def test_trials_count_each_utterances_own_errors(tmp_path: Path) -> None:
    """Hypotheses come longest first, transcripts in order of id; one utterance cannot be read."""
    pytest.importorskip("kenlm")
    pytest.importorskip("flashlight.lib.text.decoder")
    (tmp_path / "lm.arpa").write_text(ARPA)
    (tmp_path / "tokens.txt").write_text("".join(f"{unit} {i}\n" for i, unit in enumerate(UNITS)))
    spoken = {"u1": heard("C"), "u2": heard("A", "B", "C"), "u3": heard("AB", "C")}
    kaldiio.save_ark(str(tmp_path / "feats.ark"), spoken, scp=str(tmp_path / "feats.scp"))
    places = read_table(tmp_path / "feats.scp") | {"u4": f"{tmp_path}/none.ark:3"}
    texts = {"u1": "C", "u2": "A B C", "u3": "A C", "u4": "C C C C"}
    utterances = [
        FeatureUtterance(key, place, 8 * len(texts[key].split()), texts[key]) for key, place in places.items()
    ]
    model = ReadsProbabilities(ModelConfig(layers=1, dim=32, heads=2, ffn_dim=32, encoder="dense"), len(UNITS)).eval()
    broken: list[str] = []
    searches = grid(tmp_path / "lm.arpa", [0.0, 1.0], [0.0], beam_size=50)
    trials = try_weights(model, Tokenizer(tmp_path), utterances, searches, 200.0, lambda key, _: broken.append(key))
    assert broken == ["u4"]
    assert [(t.lm_weight, t.errors.errors, t.errors.ref_units) for t in trials] == [(0.0, 1, 6), (1.0, 0, 6)]


def test_a_language_model_that_knows_few_words_or_is_of_no_use_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("kenlm")
    pytest.importorskip("flashlight.lib.text.decoder")
    (tmp_path / "lm.arpa").write_text(ARPA)
    warning = f"warning: {tmp_path}/lm.arpa does not know most words: are they in the case of the transcripts?\n"
    for texts, share, warned in (("A c", "25.0%", ""), ("a c", "50.0%", ""), ("a b c", "60.0%", warning)):
        print_unknown(tmp_path / "lm.arpa", [FeatureUtterance("u", "", 4, text) for text in (texts, "B C")])
        captured = capsys.readouterr()
        assert captured.out == f"{tmp_path}/lm.arpa: {share} of the words of the set unknown to it\n"
        assert captured.err == warned
    trials = [trial(weight, score, 1) for weight in (0.0, 0.5, 1.0) for score in (-1.0, 0.0, 1.0)]
    no_help = "lm_weight 0 is best: this language model does not help"
    at_edge = "at the edge of what was tried: {}; try --lm-weights or --word-scores beyond it"
    assert notes(trial(0.5, 0.0, 1), trials) == []
    assert notes(trial(0.0, 0.0, 1), trials) == [no_help]
    assert notes(trial(0.0, 1.0, 1), trials) == [no_help, at_edge.format("word_score 1")]
    assert notes(trial(1.0, -1.0, 1), trials) == [at_edge.format("lm_weight 1, word_score -1")]
    assert notes(trial(0.0, 0.0, 1), trials[:3]) == []  # no other weight was tried


def test_every_pair_is_tried_once() -> None:
    searches = grid(Path("lm"), [0.0, 0.5], [-1.0, 1.0], beam_size=7)
    assert [(s.lm_weight, s.word_score) for s in searches] == [(0, -1), (0, 1), (0.5, -1), (0.5, 1)]
    assert {(s.lm, s.beam_size) for s in searches} == {(Path("lm"), 7)}


def test_the_fewest_errors_win_and_of_equals_the_smallest_weights() -> None:
    trials = [trial(1.0, 0.0, 2), trial(0.5, 2.0, 2), trial(0.5, -1.0, 2), trial(0.0, 0.0, 3)]
    assert best_trial(trials) == trials[2]
    assert best_trial(trials[::-1]) == trials[2]
    assert best_trial([*trials, trial(1.5, 2.0, 1)]).lm_weight == 1.5


def test_a_best_value_at_the_edge_is_named() -> None:
    trials = [trial(weight, score, 1) for weight in (0.0, 0.5, 1.0) for score in (-1.0, 0.0, 1.0)]
    assert edges(trial(0.5, 0.0, 1), trials) == []
    assert edges(trial(1.0, -1.0, 1), trials) == ["lm_weight 1", "word_score -1"]
    assert edges(trial(0.0, 0.0, 1), trials) == []  # there is no use for a negative weight
    assert edges(trial(0.0, 0.0, 1), [t for t in trials if t.word_score >= 0]) == ["word_score 0"]
    assert edges(trial(0.5, 1.0, 1), trials[3:6]) == ["word_score 1"]


def test_the_table_has_a_row_for_each_weight() -> None:
    lines = trial_table([trial(0.0, -1.0, 4), trial(0.0, 1.5, 2), trial(0.5, -1.0, 1), trial(0.5, 1.5, 0)]).splitlines()
    assert [line.split() for line in lines[1:]] == [["0", "50.00", "25.00"], ["0.5", "12.50", "0.00"]]
    assert lines[0].split()[-2:] == ["-1", "1.5"] and len({len(line) for line in lines}) == 1


def test_the_experiment_keeps_a_copy_of_the_model_with_its_weights_and_beam(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "x.arpa").write_text("model")
    keep_lm(tmp_path / "exp", tmp_path / "x.arpa", trial(0.5, 1.0, 1), 9, Path("data/dev"), [trial(0.5, 1.0, 1)])
    (tmp_path / "x.arpa").unlink()
    search = choose_search(tmp_path / "exp", "lm")
    assert search == Search(9, lm=tmp_path / "exp/lm/ngram", lm_weight=0.5, word_score=1.0)
    assert search.lm.read_text() == "model"
    assert choose_search(tmp_path / "exp", "lm", 9) == search and capsys.readouterr().err == ""
    assert choose_search(tmp_path / "exp", "lm", 20) == dataclasses.replace(search, beam_size=20)
    assert "lm/weights.json was tuned with a beam of 9: with 20," in capsys.readouterr().err


def test_other_searches_have_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_search(tmp_path, "greedy") is None
    assert choose_search(tmp_path, "beam") == Search() and choose_search(tmp_path, "beam", 7) == Search(7)
    assert capsys.readouterr().err == ""


def test_weights_that_are_missing_or_damaged_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lm/weights.json does not exist: python -m omnirouter.bin.tune_lm"):
        choose_search(tmp_path, "lm")
    (tmp_path / "lm").mkdir()
    weights = '{"lm_weight": 1, "word_score": '
    for content in ("{", "[]", '{"lm_weight": 1}', weights + '"x", "beam_size": 9}', weights + "1}"):
        (tmp_path / "lm/weights.json").write_text(content)
        with pytest.raises(UserError, match="no weights of a language model .*--force"):
            choose_search(tmp_path, "lm")
