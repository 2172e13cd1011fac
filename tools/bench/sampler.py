"""The batch sampler on a training set of Libriheavy's size."""

import itertools
import time

from bench.report import Report, Target
from bench.settings import Settings
from bench.synthetic import LENGTHS, librispeech_frames
from bench.timing import Spread, spread
from omnirouter.data.sampler import BatchConfig, BucketSampler, Position

UTTERANCES, QUICK_UTTERANCES = 11_000_000, 100_000
BATCH_S = 1575.0
BATCHES = 500
FIRST_BATCH_S = 30.0
REPEATS = 3


def run(settings: Settings) -> list[Report]:
    """Time the first batch, and the batches after it."""
    utterances = QUICK_UTTERANCES if settings.quick else UTTERANCES
    frames = librispeech_frames(utterances)
    config = BatchConfig(max_batch_s=BATCH_S)
    measured = [_measure(frames, config, seed) for seed in range(min(REPEATS, settings.repeats))]
    first, following = (spread(times) for times in zip(*measured, strict=True))
    row = [
        f"{utterances:,d}",
        f"{BATCH_S:g}",
        str(first),
        str(Spread(*(1e6 * value for value in vars(following).values()))),
    ]
    header = ["utterances", "batch s", "first batch s", "a further batch µs"]
    note = f"{LENGTHS} From making the sampler to its first batch, then each of {BATCHES}; medians [10 %, 90 %]."
    target = Target(f"seconds to the first batch of {utterances:,d} utterances", first.median, FIRST_BATCH_S)
    return [Report("Batch sampler", header, [row], [target], [note])]


def _measure(frames: object, config: BatchConfig, seed: int) -> tuple[float, float]:
    """Seconds to the first batch, and of each that follows."""
    started = time.perf_counter()
    batches = BucketSampler(frames, config, seed).batches_from(Position())
    next(batches)
    first = time.perf_counter()
    number = sum(1 for _ in itertools.islice(batches, BATCHES))
    return first - started, (time.perf_counter() - first) / number
