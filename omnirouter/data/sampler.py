"""Batches bounded by padded length, in an order that is a function of the seed and the step alone."""

import itertools
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S

BLOCK = 1 << 16  # lengths that are Python numbers at a time


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    max_batch_s: float = 100.0
    """Most audio in a batch, padding included: utterances times the longest of them. The paper's "total of 7 hours"
    does not say whether padding counts, nor whether all GPUs have it together. Here padding counts, since memory goes
    by it, and the 7 hours are those of a step: training.batches_per_step batches, 16 of 1575 s. The other
    readings need no field of their own: for 7 hours on each GPU, batches_per_step is 16 times as large; for 7 hours
    without padding, divide this by 1 - padding_share, which metrics.jsonl has."""
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
        if self.buckets < 1:
            raise UserError(f"batch.buckets: must be at least 1, is {self.buckets}")
        if not self.max_utterance_s > 0:
            raise UserError(f"batch.max_utterance_s: must be positive, is {self.max_utterance_s:g}")
        if not self.max_utterance_s <= self.max_batch_s:
            raise UserError(
                f"batch.max_batch_s: must be at least batch.max_utterance_s, {self.max_utterance_s:g}, "
                f"is {self.max_batch_s:g}"
            )
        if not 0 <= self.min_utterance_s <= self.max_utterance_s:
            raise UserError(
                f"batch.min_utterance_s: must lie in 0 … batch.max_utterance_s, {self.max_utterance_s:g}, "
                f"is {self.min_utterance_s:g}"
            )
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


class EpochBatches(Sequence[list[int]]):
    """The batches of one epoch, held as arrays: a list is made of one when it is asked for."""

    def __init__(self, order: np.ndarray, starts: np.ndarray, sequence: np.ndarray) -> None:
        """order: all utterances (n,); starts: where each batch begins in it, and its end (b + 1,); sequence: (b,)."""
        self._order, self._starts, self._sequence = order, starts, sequence

    def __len__(self) -> int:
        return len(self._sequence)

    def __getitem__(self, at: int) -> list[int]:
        batch = self._sequence[at]
        return self._order[self._starts[batch] : self._starts[batch + 1]].tolist()


class BucketSampler:
    """Endless batches of utterance indices for training; epoch e is the same set of utterances in e's own order.

    Ten million utterances cost 200 MB and some seconds an epoch; only one epoch is held at a time.
    """

    def __init__(self, frames: Sequence[int] | np.ndarray, config: BatchConfig, seed: int) -> None:
        self._frames = np.asarray(frames)
        self._config, self._seed = config, seed
        self._max_frames = int(config.max_batch_s * FRAMES_PER_S)
        narrow = self._frames.astype(np.min_scalar_type(self._frames.max()))  # 16 bits are sorted five times as fast
        self._by_length = np.argsort(narrow, kind="stable").astype(np.int32)
        self._made: tuple[int, EpochBatches] | None = None

    def epoch(self, epoch: int) -> EpochBatches:
        """All batches of one epoch: shuffled within buckets, cut to the bound, and shuffled as batches."""
        if self._made is None or self._made[0] != epoch:
            self._made = None  # before the next takes as much memory
            self._made = epoch, self._make(epoch)
        return self._made[1]

    def _make(self, epoch: int) -> EpochBatches:
        rng = np.random.default_rng((self._seed, epoch))
        order, starts = np.empty_like(self._by_length), array("q")
        end = 0
        for bucket in np.array_split(self._by_length, min(self._config.buckets, len(self._by_length))):
            begin, end = end, end + len(bucket)
            order[begin:end] = rng.permutation(bucket)
            starts.extend(begin + start for start in batch_starts(order[begin:end], self._frames, self._max_frames))
        starts.append(end)
        if epoch < self._config.sortagrad_epochs:
            longest = np.maximum.reduceat(self._frames[order], starts[:-1])
            sequence = np.argsort(longest, kind="stable")
        else:
            sequence = rng.permutation(len(starts) - 1)
        return EpochBatches(order, np.array(starts), sequence)

    def largest(self) -> list[list[int]]:
        """Batches that need as much memory as any batch of any epoch, which differ in what comes together.

        Of all batches of utterances alike in length: with the most padded frames, with the most valid frames, and
        with the most of what attention compares, which goes with the length's square.
        """
        counts = np.bincount(self._frames)
        lengths = np.flatnonzero(counts)
        up_to, total = np.cumsum(counts[lengths]), np.cumsum(counts[lengths] * lengths)
        sizes = np.minimum(self._max_frames // np.maximum(lengths, 1), up_to).clip(min=1)
        left = up_to - sizes  # utterances, shorter ones, that have no place beside the longest of a length
        last = np.searchsorted(up_to, left, side="right")
        valid = total - (total[last] - (up_to[last] - left) * lengths[last])
        most = (int(np.argmax(need)) for need in (sizes * lengths, valid, sizes * lengths**2))
        return [self._by_length[left[at] : up_to[at]].tolist() for at in dict.fromkeys(most)]

    def batches_from(self, start: Position) -> Iterator[tuple[Position, list[int]]]:
        """Yield batches and their positions for ever; epochs before the first one's are not gone through."""
        number, first = start.number, start.batch
        for epoch in itertools.count(start.epoch):
            for batch in range(first, len(self.epoch(epoch))):
                yield Position(number, epoch, batch), self.epoch(epoch)[batch]
                number += 1
            first = 0


def bounded_batches(order: Sequence[int] | np.ndarray, frames: Sequence[int], max_frames: int) -> list[list[int]]:
    """Cut a sequence of utterances into batches of at most max_frames padded frames; a longer one stands alone."""
    starts = [*batch_starts(order, frames, max_frames), len(order)]
    return [list(map(int, order[start:end])) for start, end in itertools.pairwise(starts)]


def batch_starts(order: Sequence[int] | np.ndarray, frames: Sequence[int], max_frames: int) -> Iterator[int]:
    """Yield where in a sequence of utterances each batch of at most max_frames padded frames begins."""
    lengths, count, longest = np.asarray(frames)[np.asarray(order, np.intp)], 0, 0
    for block in range(0, len(lengths), BLOCK):
        for at, length in enumerate(lengths[block : block + BLOCK].tolist(), block):
            count += 1
            if length > longest:  # max() takes longer than all the rest
                longest = length
            if at == 0 or count * longest > max_frames:
                yield at
                count, longest = 1, length
