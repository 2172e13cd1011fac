"""Bootstrap confidence interval of an error rate (Bisani and Ney, ICASSP 2004)."""

import math
from collections.abc import Sequence

import numpy as np

from omnirouter.scoring.wer import ErrorCounts

CONFIDENCE = 0.95
"""Of every interval."""
REPLICAS = 10_000  # as Kaldi's compute-wer-bootci
SEED = 0
CHUNK = 1000
"""Replicas drawn at a time, which bounds the memory."""


def bootstrap_interval(
    utterances: Sequence[ErrorCounts], groups: Sequence[str] | None = None, replicas: int = REPLICAS
) -> tuple[float, float]:
    """Return the 95 % interval, in percent, of the error rate of a test set; see `rate_interval`."""
    counts_U2 = np.array([(counts.errors, counts.ref_units) for counts in utterances], dtype=np.int64).reshape(-1, 2)
    return rate_interval(*counts_U2.T, groups, replicas)


def rate_interval(
    errors_U: np.ndarray, units_U: np.ndarray, groups: Sequence[str] | None = None, replicas: int = REPLICAS
) -> tuple[float, float]:
    """Return the 95 % interval, in percent, of errors / reference units, by drawing utterances anew.

    errors_U: of each utterance, or their means over several recognisers. With `groups`, a name for each utterance such
    as its speaker's, whole groups are drawn: their utterances need not be independent. The bounds are the 2.5 and 97.5
    percentiles of the replicas' rates, so never below 0, where Kaldi's compute-wer-bootci takes mean ± 1.96 standard
    deviations. Not a number without a reference word, or for one group. Seeded: the same counts give the same interval.
    """
    counts_U2 = np.stack([errors_U, units_U], axis=1)
    if groups is not None:
        counts_U2 = sums_by_group(counts_U2, groups)
    if not counts_U2[:, 1].sum() or (groups is not None and len(counts_U2) < 2):
        return math.nan, math.nan
    sums_R2 = replica_sums(counts_U2, replicas)
    return percentiles(100.0 * sums_R2[:, 0] / np.maximum(sums_R2[:, 1], 1))  # all drawn may be empty references


def replica_sums(values_UC: np.ndarray, replicas: int = REPLICAS) -> np.ndarray:
    """Return, replicas × C, the columns' sums over as many rows as there are, drawn from them with replacement.

    Equal rows are drawn together: how often each distinct one is drawn has a multinomial distribution.
    """
    generator = np.random.default_rng(SEED)
    distinct_KC, counts_K = np.unique(values_UC, axis=0, return_counts=True)
    shares_K = counts_K / len(values_UC)
    sizes = [min(CHUNK, replicas - start) for start in range(0, replicas, CHUNK)]
    return np.concatenate([generator.multinomial(len(values_UC), shares_K, size) @ distinct_KC for size in sizes])


def sums_by_group(values_UC: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Return the columns' sums over the rows of each group, groups in the order of their names."""
    names, place_U = np.unique(np.asarray(groups), return_inverse=True)
    sums_GC = np.zeros((len(names), values_UC.shape[1]), values_UC.dtype)
    np.add.at(sums_GC, place_U, values_UC)
    return sums_GC


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """Return the bounds of the middle 95 % of the values."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
