"""Paired comparison: by hand, against scipy, and on made-up recognisers whose difference is known."""

import math

import numpy as np
import pytest
import scipy.stats

from omnirouter.scoring.paired import matched_pairs, over_seeds, paired_bootstrap


def recognisers(utterances: int, rate_A: float, rate_B: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors of two recognisers and words of each utterance; hard utterances are hard for both."""
    generator = np.random.default_rng(seed)
    words = generator.integers(1, 20, size=utterances)
    hardness = generator.gamma(2.0, 0.5, size=utterances)
    a, b = (generator.binomial(words, np.clip(rate * hardness, 0, 1)) for rate in (rate_A, rate_B))
    return a, b, words


def test_two_utterances_by_hand() -> None:
    # Of two draws: twice the first (A -1 of 1), both (0 of 2), twice the second (A +1 of 1), with 1/4, 1/2, 1/4.
    found = paired_bootstrap(np.array([0, 1]), np.array([1, 0]), np.array([1, 1]))
    assert (found.points, found.low, found.high) == (0.0, -100.0, 100.0)
    assert found.probability == pytest.approx(0.5, abs=0.02)


def test_always_better_is_certain() -> None:
    found = paired_bootstrap(np.array([1, 2, 3]), np.array([2, 3, 4]), np.array([10, 10, 10]))
    assert (found.points, found.low, found.high, found.probability) == pytest.approx((-10, -10, -10, 1.0))


def test_a_draw_is_half() -> None:
    errors = np.array([1, 0, 2])
    assert paired_bootstrap(errors, errors, np.array([3, 3, 3])).probability == 0.5


def test_interval_as_scipys() -> None:
    a, b, words = recognisers(400, 0.10, 0.12, seed=1)

    def points(x: np.ndarray, y: np.ndarray, w: np.ndarray, axis: int = -1) -> np.ndarray:
        return 100 * (x - y).sum(axis=axis) / w.sum(axis=axis)

    wanted = scipy.stats.bootstrap(
        (a, b, words), points, paired=True, n_resamples=9999, method="percentile", rng=np.random.default_rng(2)
    )
    found = paired_bootstrap(a, b, words)
    assert found.points == pytest.approx(points(a, b, words))
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval), abs=0.1)
    assert found.probability == pytest.approx(np.mean(wanted.bootstrap_distribution < 0), abs=0.02)


def test_the_interval_holds_the_true_difference_19_times_in_20() -> None:
    held = 0
    for seed in range(200):
        found = paired_bootstrap(*recognisers(150, 0.10, 0.13, seed))
        held += found.low <= -3.0 <= found.high
    assert 0.90 <= held / 200 <= 0.99


def test_by_speaker_by_hand_and_wider() -> None:
    a, b, words = np.array([0, 0, 2, 2]), np.array([1, 1, 1, 1]), np.array([2, 2, 2, 2])
    speakers = ["x", "x", "y", "y"]
    found = paired_bootstrap(a, b, words, speakers)  # -50 and +50 points: their extremes, each of probability 1/4
    assert (found.points, found.low, found.high) == (0.0, -50.0, 50.0)
    assert all(math.isnan(value) for value in vars(paired_bootstrap(a, b, words, ["x"] * 4)).values())


def test_matched_pairs_by_hand() -> None:
    # differences 1, 0, 2, 1: mean 1, s.d. sqrt(2/3), so t = 1 / (0.8165 / 2) = 2.449 at 3 degrees of freedom
    statistic, p = matched_pairs(np.array([1, 2, 3, 4]), np.array([0, 2, 1, 3]))
    assert statistic == pytest.approx(2.449, abs=1e-3)
    assert p == pytest.approx(2 * scipy.stats.t.sf(2.4495, 3), abs=1e-4)


def test_matched_pairs_as_scipys() -> None:
    a, b, _ = recognisers(300, 0.10, 0.11, seed=6)
    assert matched_pairs(a, b) == pytest.approx(tuple(scipy.stats.ttest_rel(a, b)))


def test_matched_pairs_as_a_permutation_test() -> None:
    a, b, _ = recognisers(300, 0.10, 0.103, seed=3)
    wanted = scipy.stats.permutation_test(
        (a, b),
        lambda x, y, axis: (x - y).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        rng=np.random.default_rng(4),
    )
    statistic, p = matched_pairs(a, b)
    assert 0.001 < p < 0.5 and p == pytest.approx(wanted.pvalue, abs=0.02)
    assert (statistic > 0) == (a.sum() > b.sum())


def test_no_difference_is_not_significant() -> None:
    assert matched_pairs(np.array([1, 2]), np.array([1, 2])) == (0.0, 1.0)
    assert matched_pairs(np.array([1]), np.array([0])) == (0.0, 1.0)
    assert matched_pairs(np.array([1, 2]), np.array([2, 3])) == (-math.inf, 0.0)


def test_one_in_twenty_equal_recognisers_differs_at_p_of_a_twentieth() -> None:
    ps = [matched_pairs(*recognisers(200, 0.1, 0.1, seed)[:2])[1] for seed in range(400)]
    assert 0.02 <= np.mean(np.array(ps) < 0.05) <= 0.09


def test_over_seeds_by_hand() -> None:
    # means 11 and 14, variances 2 and 2, two each: error sqrt(2), two degrees of freedom, whose 97.5 % point is 4.303
    low, high, p = over_seeds([10.0, 12.0], [13.0, 15.0])
    assert (low, high) == pytest.approx((-3 - 4.303 * math.sqrt(2), -3 + 4.303 * math.sqrt(2)), abs=1e-3)
    assert p == pytest.approx(2 * scipy.stats.t.sf(3 / math.sqrt(2), 2), abs=1e-6)
    assert all(map(math.isnan, over_seeds([1.0, 1.0], [2.0, 2.0])))
