import random

import jiwer
import pytest

from omnirouter.scoring.wer import (
    ErrorCounts,
    character_units,
    count,
    pairs,
    total,
    unit_cost_operations,
    utterance_errors,
    word_errors,
)


def random_texts(count: int, seed: int) -> list[str]:
    """Texts of 0 to 12 words of few types, so that equally good alignments abound."""
    generator = random.Random(seed)
    return [" ".join(generator.choices(["a", "b", "ab", "c'd", "é"], k=generator.randint(0, 12))) for _ in range(count)]


def character_errors(refs, hyps):
    return total(utterance_errors(map(character_units, refs), map(character_units, hyps)))


def table_of_costs(ref, hyp):
    """Edit distance by the whole table, the slow and obvious way."""
    cost = {(i, 0): i for i in range(len(ref) + 1)} | {(0, j): j for j in range(len(hyp) + 1)}
    for i in range(1, len(ref) + 1):
        for j in range(1, len(hyp) + 1):
            swap = cost[i - 1, j - 1] + (ref[i - 1] != hyp[j - 1])
            cost[i, j] = min(swap, cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    return cost[len(ref), len(hyp)]


@pytest.mark.parametrize(
    ("ref", "hyp", "insertions", "deletions", "substitutions"),
    [
        ("a b c", "a b c", 0, 0, 0),
        ("a b c", "a c", 0, 1, 0),
        ("a c", "a b c", 1, 0, 0),
        ("a b c", "a x c", 0, 0, 1),
        ("a b c", "", 0, 3, 0),
        ("", "a b", 2, 0, 0),
        ("", "", 0, 0, 0),
        ("A", "a", 0, 0, 1),
        ("the cat sat on the mat", "cat sat on mat mat x", 1, 1, 1),
    ],
)
def test_hand_computed_counts(ref, hyp, insertions, deletions, substitutions):
    counts = word_errors([ref], [hyp])
    wrong = int(insertions + deletions + substitutions > 0)
    assert counts == ErrorCounts(len(ref.split()), insertions, deletions, substitutions, 1, wrong)


@pytest.mark.parametrize("units", [str.split, character_units])
def test_errors_equal_those_of_the_whole_table(units):
    refs, hyps = random_texts(300, seed=1), random_texts(300, seed=2)
    for ref, hyp in zip(map(units, refs), map(units, hyps), strict=True):
        counts = total(utterance_errors([ref], [hyp]))
        assert counts.errors == table_of_costs(ref, hyp)
        assert counts.insertions - counts.deletions == len(hyp) - len(ref)
        assert counts.correct + counts.substitutions + counts.insertions == len(hyp)


def test_counts_equal_jiwers():
    refs = [ref or "a" for ref in random_texts(500, seed=3)]
    hyps = random_texts(500, seed=4)
    words, characters = jiwer.process_words(refs, hyps), jiwer.process_characters(refs, hyps)
    for ours, theirs in ((word_errors(refs, hyps), words), (character_errors(refs, hyps), characters)):
        edits = (theirs.insertions, theirs.deletions, theirs.substitutions)
        assert (ours.insertions, ours.deletions, ours.substitutions) == edits
        assert ours.correct == theirs.hits
    assert word_errors(refs, hyps).percent == pytest.approx(100 * words.wer)
    assert character_errors(refs, hyps).percent == pytest.approx(100 * characters.cer)


def test_alignment_spells_both_sides_and_agrees_with_the_counts():
    for ref, hyp in zip(random_texts(300, seed=5), random_texts(300, seed=6), strict=True):
        ref, hyp = ref.split(), hyp.split()
        aligned = pairs(ref, hyp, *unit_cost_operations([ref], [hyp]))
        assert [a for a, _ in aligned if a is not None] == ref
        assert [b for _, b in aligned if b is not None] == hyp
        counts = total(utterance_errors([ref], [hyp]))
        assert sum(a is None for a, _ in aligned) == counts.insertions
        assert sum(b is None for _, b in aligned) == counts.deletions
        assert sum(a == b for a, b in aligned) == counts.correct


def test_a_space_is_one_character_however_wide():
    assert character_errors(["a  b\t c "], ["a b c"]) == ErrorCounts(5, 0, 0, 0, 1, 0)
    assert character_errors(["a b"], ["ab"]).deletions == 1


def test_a_rate_is_over_all_words_not_a_mean_of_rates():
    counts = word_errors(["a", "a b c d e f g h i"], ["b", "a b c d e f g h i"])
    assert counts.percent == 10.0
    assert (counts.utterances, counts.wrong_utterances) == (2, 1)


def test_kaldis_line():
    counts = ErrorCounts(ref_units=2360, insertions=10, deletions=20, substitutions=93)
    assert str(counts) == "%WER 5.21 [ 123 / 2360, 10 ins, 20 del, 93 sub ]"
    assert str(ErrorCounts()) == "%WER nan [ 0 / 0, 0 ins, 0 del, 0 sub ]"


def test_operations_and_their_pairs():
    assert unit_cost_operations(["a b c".split(), []], ["a x".split(), ["y"]]) == ["CSD", "I"]
    assert pairs(["a", "b"], ["a", "y"], "CID") == [("a", "a"), (None, "y"), ("b", None)]
    assert count("CIDS") == ErrorCounts(3, 1, 1, 1, 1, 1)


def test_lists_of_unequal_length_are_refused():
    with pytest.raises(ValueError):
        word_errors(["a", "b"], ["a"])
