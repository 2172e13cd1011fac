"""Timing of contenders in turn, so that whatever else the machine does meets them alike."""

import gc
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

LOW, HIGH = 0.1, 0.9
"""Quantiles that a spread reaches from and to."""
CONFIDENCE = 0.99
"""Of the interval of a median. Some hundred comparisons are made at once, so 0.95 would find differences by chance."""
LEAST_ROUNDS, ENOUGH_S = 7, 40.0
"""Slow contenders stop after so many seconds, though not before so many rounds."""


@dataclass(frozen=True)
class Spread:
    """A median, and between which values most repeats lie."""

    median: float
    low: float
    high: float
    median_low: float
    """Ends of the CONFIDENCE interval of the median, by order statistics; few repeats give less than that."""
    median_high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def spread(values: Sequence[float]) -> Spread:
    """Median and quantiles LOW and HIGH of the repeats, and how well the median is known."""
    low, median, high = map(float, np.quantile(values, (LOW, 0.5, HIGH)))
    outside = _outside_the_interval(len(values))
    ordered = sorted(map(float, values))
    return Spread(median, low, high, ordered[outside], ordered[-1 - outside])


def _outside_the_interval(repeats: int) -> int:
    """How many repeats lie below the interval: as many are below the true median as coins show heads."""
    heads, at_most = 0, 1 / 2**repeats
    while at_most <= (1 - CONFIDENCE) / 2:
        heads += 1
        at_most += math.comb(repeats, heads) / 2**repeats
    return max(0, heads - 1)


def ratio(times_s: Sequence[float], base_s: Sequence[float]) -> Spread:
    """Spread of the repeats' ratios, each of two times taken in the same round."""
    return spread([mine / its for mine, its in zip(times_s, base_s, strict=True)])


def interleaved(
    contenders: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds that each contender takes, one value a round; each round has them in another order.

    The order is drawn anew, always from one seed: what a contender leaves in the caches is not always met by the same.
    One untimed call of each comes first. On a GPU the clock stops when its work is done. At most `repeats` rounds, and
    no more than LEAST_ROUNDS of them once ENOUGH_S have passed.
    """
    names, draw = list(contenders), random.Random(0)
    times_s: dict[str, list[float]] = {name: [] for name in names}
    for contend in contenders.values():
        contend()
    gc.collect()
    gc.disable()
    try:
        for turn in range(repeats):
            if turn >= LEAST_ROUNDS and sum(map(sum, times_s.values())) > ENOUGH_S:
                break
            for name in draw.sample(names, len(names)):
                times_s[name].append(_seconds(contenders[name], device))
    finally:
        gc.enable()
    return times_s


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was told; nothing to wait for on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
