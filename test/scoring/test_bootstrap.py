import math

import numpy as np
import pytest
import scipy.stats

from omnirouter.scoring.bootstrap import bootstrap_interval, rate_interval
from omnirouter.scoring.wer import ErrorCounts


def utterance(words: int, errors: int) -> ErrorCounts:
    return ErrorCounts(ref_units=words, substitutions=errors, utterances=1)


def test_equal_utterances_leave_no_doubt():
    assert bootstrap_interval([utterance(20, 3)] * 50) == (15.0, 15.0)


def test_two_utterances_by_hand():
    # A replica is two draws of {0 of 1, 1 of 1}: rates 0, 50, 100 with probabilities 1/4, 1/2, 1/4.
    assert bootstrap_interval([utterance(1, 0), utterance(1, 1)]) == (0.0, 100.0)


def test_independent_word_errors_give_the_binomial_interval():
    # One word an utterance, 200 wrong of 1000: standard error sqrt(0.2 * 0.8 / 1000) = 1.265 %, 1.96 of them 2.479 %.
    low, high = bootstrap_interval([utterance(1, int(i < 200)) for i in range(1000)])
    assert low == pytest.approx(20 - 2.479, abs=0.15)
    assert high == pytest.approx(20 + 2.479, abs=0.15)


def test_long_utterances_weigh_more():
    # Linearised variance of a ratio of sums: sum((errors - rate * words)^2) / (sum of words)^2.
    generator = np.random.default_rng(7)
    words = generator.integers(1, 40, size=2000)
    errors = generator.binomial(words, 0.1)
    rate = errors.sum() / words.sum()
    expected = 196 * math.sqrt(((errors - rate * words) ** 2).sum()) / words.sum()
    low, high = bootstrap_interval([utterance(int(w), int(e)) for w, e in zip(words, errors, strict=True)])
    assert (high - low) / 2 == pytest.approx(expected, rel=0.05)
    assert (high + low) / 2 == pytest.approx(100 * rate, abs=0.1 * expected)


def test_the_interval_holds_the_true_rate_19_times_in_20():
    generator = np.random.default_rng(8)
    held = 0
    for _ in range(300):
        errors = generator.binomial(10, 0.2, size=100)
        low, high = bootstrap_interval([utterance(10, int(e)) for e in errors], replicas=400)
        held += low <= 20.0 <= high
    assert 0.90 <= held / 300 <= 0.98


def test_whole_groups_are_drawn():
    # two groups, 1 of 4 wrong and 3 of 4: of two draws both are of the one, or one of each
    utterances = [utterance(2, 1), utterance(1, 1), utterance(2, 0), utterance(3, 2)]
    assert bootstrap_interval(utterances, ["a", "b", "a", "b"]) == (25.0, 75.0)


def test_alike_utterances_of_a_speaker_widen_the_interval():
    generator = np.random.default_rng(9)
    speakers = [f"s{i // 50:02}" for i in range(1000)]
    rates = np.repeat(generator.uniform(0.05, 0.35, size=20), 50)
    utterances = [utterance(10, int(e)) for e in generator.binomial(10, rates)]
    by_speaker, by_utterance = bootstrap_interval(utterances, speakers), bootstrap_interval(utterances)
    # the mean of 20 speakers' rates, each by 50 utterances
    means = [np.mean([utterances[i].percent for i in range(s, s + 50)]) for s in range(0, 1000, 50)]
    expected = 2 * 1.96 * np.std(means) / math.sqrt(20)
    assert by_speaker[1] - by_speaker[0] == pytest.approx(expected, rel=0.1)
    assert by_utterance[1] - by_utterance[0] < expected / 2


def test_one_speaker_gives_no_interval():
    assert all(map(math.isnan, bootstrap_interval([utterance(1, 0), utterance(1, 1)], ["a", "a"])))


def test_interval_as_scipys():
    generator = np.random.default_rng(10)
    words = generator.integers(1, 30, size=500)
    errors = generator.binomial(words, 0.15)

    def rate(w, e):
        return 100 * e.sum(axis=-1) / w.sum(axis=-1)

    wanted = scipy.stats.bootstrap(
        (words, errors), rate, paired=True, n_resamples=9999, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    ours = bootstrap_interval([utterance(int(w), int(e)) for w, e in zip(words, errors, strict=True)])
    assert ours == pytest.approx((wanted.low, wanted.high), abs=0.1)


def test_it_is_seeded():
    utterances = [utterance(10, i % 4) for i in range(100)]
    assert bootstrap_interval(utterances) == bootstrap_interval(utterances)


def test_means_over_recognisers_are_drawn_by_utterance():
    # of two draws of {0.5 of 1, 1.5 of 1}
    assert rate_interval(np.array([0.5, 1.5]), np.array([1, 1])) == (50.0, 150.0)


def test_without_a_reference_word_there_is_no_rate():
    assert all(map(math.isnan, bootstrap_interval([utterance(0, 0)])))
    assert bootstrap_interval([utterance(0, 0), utterance(1, 0)]) == (0.0, 0.0)
