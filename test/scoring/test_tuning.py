"""Choosing the weights of a language model."""

import dataclasses
from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.decoding.beam import Search
from omnirouter.scoring.tuning import Trial, best_trial, choose_search, edges, grid, keep_lm, trial_table
from omnirouter.scoring.wer import ErrorCounts


def trial(lm_weight: float, word_score: float, errors: int) -> Trial:
    return Trial(lm_weight, word_score, ErrorCounts(ref_units=8, substitutions=errors))


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
