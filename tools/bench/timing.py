"""Timing of contenders in turn, so that whatever else the machine does meets them alike."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

LOW, HIGH = 0.1, 0.9
"""Quantiles that a spread reaches from and to."""
LEAST_ROUNDS, ENOUGH_S = 5, 40.0
"""Slow contenders stop after so many seconds, though not before so many rounds."""


@dataclass(frozen=True)
class Spread:
    """A median, and between which values most repeats lie."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def spread(values: Sequence[float]) -> Spread:
    """Median and quantiles LOW and HIGH of the repeats."""
    low, median, high = np.quantile(values, (LOW, 0.5, HIGH))
    return Spread(float(median), float(low), float(high))


def ratio(times_s: Sequence[float], base_s: Sequence[float]) -> Spread:
    """Spread of the repeats' ratios, each of two times taken in the same round."""
    return spread([mine / its for mine, its in zip(times_s, base_s, strict=True)])


def interleaved(
    contenders: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds that each contender takes, one value a round; each round begins with another one.

    One untimed call of each comes first. On a GPU the clock stops when its work is done. At most `repeats` rounds, and
    no more than LEAST_ROUNDS of them once ENOUGH_S have passed.
    """
    names = list(contenders)
    times_s: dict[str, list[float]] = {name: [] for name in names}
    for contend in contenders.values():
        contend()
    gc.collect()
    gc.disable()
    try:
        for turn in range(repeats):
            if turn >= LEAST_ROUNDS and sum(map(sum, times_s.values())) > ENOUGH_S:
                break
            first = turn % len(names)
            for name in names[first:] + names[:first]:
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
