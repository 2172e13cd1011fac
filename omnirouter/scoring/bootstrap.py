"""Bootstrap confidence interval of an error rate (Bisani and Ney, ICASSP 2004)."""

import math
from collections.abc import Sequence

import numpy as np

from omnirouter.scoring.wer import ErrorCounts

REPLICAS = 10_000  # as Kaldi's compute-wer-bootci
SEED = 0


def bootstrap_interval(utterances: Sequence[ErrorCounts], replicas: int = REPLICAS) -> tuple[float, float]:
    """Return the 95 % interval, in percent, of the error rate of a test set, by drawing its utterances anew.

    The bounds are the 2.5 and 97.5 percentiles of the replicas' rates, so never below 0, where Kaldi's
    compute-wer-bootci takes mean ± 1.96 standard deviations. Utterances count as independent: speakers are not
    resampled. Seeded: the same counts in the same order give the same interval.
    """
    errors = np.array([counts.errors for counts in utterances], dtype=np.int64)
    units = np.array([counts.ref_units for counts in utterances], dtype=np.int64)
    if not units.sum():
        return math.nan, math.nan
    rates = replica_rates(errors, units, replicas)
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)


def replica_rates(errors: np.ndarray, units: np.ndarray, replicas: int) -> np.ndarray:
    """Return the error rates, in percent, of `replicas` sets drawn with replacement from the utterances."""
    generator = np.random.default_rng(SEED)
    rates = np.empty(replicas)
    for replica in range(replicas):
        drawn = generator.integers(len(errors), size=len(errors))
        rates[replica] = 100.0 * errors[drawn].sum() / max(units[drawn].sum(), 1)  # all drawn may be empty references
    return rates
