"""Mutual information of experts and labels."""

import numpy as np
import pytest

from omnirouter.analysis.assignments import Assignments, make_assignments
from omnirouter.analysis.information import entropy, label_table, measure, mutual_information, preferred, shuffled
from omnirouter.analysis.labels import UNKNOWN, Labels, utterance_labels


def assign(experts_T: np.ndarray, utterances: int, experts: int) -> Assignments:
    parts = np.split(experts_T, utterances)
    return make_assignments({f"u{i:03d}": part[None] for i, part in enumerate(parts)}, [1], [experts], 0.04)


def test_bits_by_hand() -> None:
    assert entropy(np.array([1, 1, 2])) == 1.5 and entropy(np.array([7])) == 0
    assert mutual_information(np.array([[2, 0], [0, 2]])) == pytest.approx(1)
    assert mutual_information(np.array([[1, 1], [2, 2]])) == pytest.approx(0, abs=1e-12)
    # p = 3/8, 1/8: 2 - H(3/8, 1/8, 1/8, 3/8) = 2 - (2·3/8·log2 8/3 + 2·3/8)
    assert mutual_information(np.array([[3, 1], [1, 3]])) == pytest.approx(2 - 0.75 * np.log2(8 / 3) - 0.75)


def test_tokens_of_unknown_label_do_not_count() -> None:
    table = label_table(np.array([0, 1, 1, 2], np.uint8), np.array([1, UNKNOWN, 0, 1]), 3, 2)
    assert table.tolist() == [[0, 1], [1, 0], [0, 1]]


def test_one_that_tells_the_other_is_1_and_chance_is_0() -> None:
    rng = np.random.default_rng(1)
    index_T = rng.integers(4, size=8000)
    for experts_T, low, high in ((index_T % 2, 0.99, 1.001), (rng.integers(2, size=8000), -0.01, 0.01)):
        [found] = measure(assign(experts_T, 40, 2), Labels("x", list("abcd"), index_T))
        assert low < found.normalised < high and found.tokens == 8000
        assert found.expert_bits == pytest.approx(1, abs=0.01) and found.label_bits == pytest.approx(2, abs=0.01)


def test_chance_shows_how_much_few_utterances_tell_of_their_speakers() -> None:
    rng = np.random.default_rng(2)
    # Each utterance sticks to one expert and each has another speaker: the information is high, and all of it chance.
    experts_T, index_T = rng.integers(4, size=30).repeat(50), np.arange(30).repeat(50)
    [found] = measure(assign(experts_T, 30, 4), Labels("speaker", [str(i) for i in range(30)], index_T, index_T))
    assert found.bits > 1.5 and found.chance_bits == pytest.approx(found.bits) and found.normalised == 0


def test_shuffling_keeps_what_hangs_together() -> None:
    rng = np.random.default_rng(3)
    by_utterance = Labels("x", list("abcd"), np.arange(4).repeat(3), np.arange(4).repeat(3))
    rows = shuffled(by_utterance, rng).reshape(4, 3)
    assert sorted(rows[:, 0].tolist()) == [0, 1, 2, 3] and (rows == rows[:, :1]).all()
    index_T = np.arange(12)
    moved = shuffled(Labels("x", [str(i) for i in index_T], index_T), rng)
    assert not np.array_equal(moved, index_T) and set(np.diff(moved).tolist()) <= {1, -11}


def test_accents_by_chance_are_those_of_other_speakers() -> None:
    speaker_U = np.arange(20).repeat(30)  # 20 speakers of 30 utterances of 2 tokens, in four accents
    utterances = {f"u{i:03d}": speaker for i, speaker in enumerate(speaker_U)}
    experts_T = np.random.default_rng(1).integers(4, size=20)[speaker_U].repeat(2)  # they hear the speaker alone
    assignments = assign(experts_T, 600, 4)
    speakers = {utt_id: f"s{speaker:02d}" for utt_id, speaker in utterances.items()}
    accents = {utt_id: "abcd"[speaker % 4] for utt_id, speaker in utterances.items()}
    [by_speaker] = measure(assignments, utterance_labels("accent", accents, assignments, speakers))
    [by_utterance] = measure(assignments, utterance_labels("accent", accents, assignments))
    assert by_utterance.bits > 10 * by_utterance.chance_highest_bits
    assert by_speaker.bits < by_speaker.chance_highest_bits


def test_what_never_varies_tells_nothing() -> None:
    [found] = measure(assign(np.zeros(8, int), 2, 2), Labels("x", ["a", "b"], np.arange(8) % 2))
    assert found.bits == 0 and found.normalised == 0


def test_labels_that_an_expert_prefers_come_by_their_excess() -> None:
    table = np.array([[30, 5, 0], [10, 5, 50]])
    first, second = preferred(table, ["a", "b", "c"], 2)
    assert first == [("a", 0.75), ("b", 0.5)] and second == [("c", 1.0)]
