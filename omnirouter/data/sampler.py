"""Batches bounded by padded length, in an order that is a function of the seed and the step alone."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    max_batch_s: float = 100.0
    """Most audio in a batch, padding included: utterances times the longest of them."""
    buckets: int = 10
    """Length buckets of equal size; a batch is drawn from one, so that little is padded."""
    sortagrad_epochs: int = 0
    """In this many first epochs batches go from short to long, which lets CTC find its first alignments sooner
    (SortaGrad, Amodei et al. 2016)."""
    min_utterance_s: float = 0.1
    """Shorter training utterances are left out."""
    max_utterance_s: float = 30.0
    """Longer training utterances are left out."""

    def __post_init__(self) -> None:
        if self.buckets < 1 or not 0 < self.max_utterance_s <= self.max_batch_s:
            raise UserError("batch: buckets must be at least 1, and 0 < max_utterance_s <= max_batch_s")
        if self.sortagrad_epochs < 0:
            raise UserError(f"batch.sortagrad_epochs: must not be negative, is {self.sortagrad_epochs}")


@dataclass(frozen=True)
class Position:
    """A batch's place in the endless sequence; all count from 0, so the first batch's is `Position()`."""

    number: int = 0
    """In the whole sequence."""
    epoch: int = 0
    batch: int = 0
    """In its epoch."""

    def next(self) -> "Position":
        """Where the sequence goes on after this batch: one past the end of an epoch is the beginning of the next."""
        return Position(self.number + 1, self.epoch, self.batch + 1)


class BucketSampler:
    """Endless batches of utterance indices for training; epoch e is the same set of utterances in e's own order."""

    def __init__(self, frames: Sequence[int], config: BatchConfig, seed: int) -> None:
        self._frames = np.asarray(frames)
        self._config, self._seed = config, seed
        self._max_frames = int(config.max_batch_s * FRAMES_PER_S)

    def epoch(self, epoch: int) -> list[list[int]]:
        """All batches of one epoch: shuffled within buckets, cut to the bound, and shuffled as batches."""
        rng = np.random.default_rng((self._seed, epoch))
        by_length = np.argsort(self._frames, kind="stable")
        batches: list[list[int]] = []
        for bucket in np.array_split(by_length, min(self._config.buckets, len(by_length))):
            batches += bounded_batches(rng.permutation(bucket), self._frames, self._max_frames)
        if epoch < self._config.sortagrad_epochs:
            return sorted(batches, key=lambda batch: int(self._frames[batch].max()))
        return [batches[i] for i in rng.permutation(len(batches))]

    def largest(self) -> list[list[int]]:
        """The batches of the first epoch that need most memory: with the most padded frames, and the most frames."""
        batches = self.epoch(0)
        most = (
            max(batches, key=lambda batch: len(batch) * self._frames[batch].max()),
            max(batches, key=lambda batch: self._frames[batch].sum()),
        )
        return [most[0]] if most[0] is most[1] else list(most)

    def batches_from(self, start: Position) -> Iterator[tuple[Position, list[int]]]:
        """Yield batches and their positions for ever; epochs before the first one's are not gone through."""
        number, first = start.number, start.batch
        for epoch in itertools.count(start.epoch):
            for batch, indices in enumerate(self.epoch(epoch)[first:], first):
                yield Position(number, epoch, batch), indices
                number += 1
            first = 0


def bounded_batches(order: Sequence[int], frames: Sequence[int], max_frames: int) -> list[list[int]]:
    """Cut a sequence of utterances into batches of at most max_frames padded frames; a longer one stands alone."""
    batches: list[list[int]] = []
    longest = 0
    for index in map(int, order):
        longest = max(longest, int(frames[index]))
        if not batches or (len(batches[-1]) + 1) * longest > max_frames:
            batches.append([])
            longest = int(frames[index])
        batches[-1].append(index)
    return batches
