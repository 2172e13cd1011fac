"""Whether one recogniser is better than another on the same utterances: paired bootstrap and matched-pairs test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omnirouter.scoring.bootstrap import CONFIDENCE, percentiles, replica_sums, sums_by_group


@dataclass(frozen=True)
class Difference:
    """Error rate of A minus that of B, in points (of percent)."""

    points: float
    low: float
    high: float
    """95 % interval."""
    probability: float
    """That A beats B, that is, has the lower rate."""


def paired_bootstrap(
    errors_AU: np.ndarray, errors_BU: np.ndarray, units_U: np.ndarray, groups: Sequence[str] | None = None
) -> Difference:
    """Draw the utterances anew, the same for both (Bisani and Ney 2004); with `groups`, whole speakers.

    errors_AU, errors_BU: errors of each utterance by A and by B. The probability that A beats B is the share of
    replicas in which it has fewer errors, a draw counting as half. Not a number for one group, or no reference unit.
    """
    values_U3 = np.stack([errors_AU, errors_BU, units_U], axis=1).astype(float)
    if groups is not None:
        values_U3 = sums_by_group(values_U3, groups)
    a, b, units = values_U3.sum(axis=0)
    if not units or (groups is not None and len(values_U3) < 2):
        return Difference(*[math.nan] * 4)
    sums_A, sums_B, sums_units = replica_sums(values_U3).T
    low, high = percentiles(100.0 * (sums_A - sums_B) / np.maximum(sums_units, 1))
    probability = np.mean(sums_A < sums_B) + np.mean(sums_A == sums_B) / 2
    return Difference(float(100.0 * (a - b) / units), low, high, float(probability))


def matched_pairs(errors_AU: np.ndarray, errors_BU: np.ndarray) -> tuple[float, float]:
    """Matched-pairs test of Gillick and Cox (ICASSP 1989), utterances as its segments: statistic, two-sided p-value.

    The statistic is positive where A has more errors. Their normal distribution is replaced by Student's, which it
    nears as utterances are added. NIST's MAPSSWE is the same test on shorter segments, which end where both are right.
    """
    from scipy.stats import t  # slow to import

    differences_U = np.asarray(errors_AU, float) - errors_BU
    mean = float(differences_U.mean())
    if len(differences_U) < 2 or not mean:
        return 0.0, 1.0
    error = float(differences_U.std(ddof=1)) / math.sqrt(len(differences_U))
    statistic = mean / error if error else math.copysign(math.inf, mean)
    return statistic, float(2 * t.sf(abs(statistic), len(differences_U) - 1))


def over_seeds(percents_A: Sequence[float], percents_B: Sequence[float]) -> tuple[float, float, float]:
    """Return the 95 % interval of the mean rate of A minus that of B, each of two or more seeds, and the p-value.

    Welch's t-test: where the difference would fall with other seeds, on the same utterances. Seeds of different models
    are not paired, since equal ones begin with different weights. Not a number where no seed differs from another.
    """
    from scipy.stats import ttest_ind

    if not np.ptp(percents_A) and not np.ptp(percents_B):
        return math.nan, math.nan, math.nan
    result = ttest_ind(percents_A, percents_B, equal_var=False)
    low, high = result.confidence_interval(CONFIDENCE)
    return float(low), float(high), float(result.pvalue)
