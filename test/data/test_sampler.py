"""Batches: every utterance once an epoch, bounded padding, an order that depends on seed and step alone."""

import dataclasses
import itertools
import tracemalloc

import numpy as np
import pytest

from omnirouter.data.errors import UserError
from omnirouter.data.sampler import BatchConfig, BucketSampler, Position, bounded_batches

Batches = list[list[int]]
FRAMES = np.random.default_rng(0).integers(50, 1500, 997)
CONFIG = BatchConfig(max_batch_s=60, buckets=8)


def plain_epoch(frames: np.ndarray, config: BatchConfig, seed: int, epoch: int) -> Batches:
    """An epoch as it was defined first, with a Python list for each batch: trainings depend on this very order."""
    rng = np.random.default_rng((seed, epoch))
    batches: Batches = []
    for bucket in np.array_split(np.argsort(frames, kind="stable"), min(config.buckets, len(frames))):
        longest, first = 0, len(batches)
        for index in map(int, rng.permutation(bucket)):
            longest = max(longest, int(frames[index]))
            if len(batches) == first or (len(batches[-1]) + 1) * longest > config.max_batch_s * 100:
                batches.append([])
                longest = int(frames[index])
            batches[-1].append(index)
    if epoch < config.sortagrad_epochs:
        return sorted(batches, key=lambda batch: int(frames[batch].max()))
    return [batches[i] for i in rng.permutation(len(batches))]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, list])
def test_epochs_are_those_of_the_plain_definition(dtype: type) -> None:
    rng = np.random.default_rng(5)
    for count in (1, 2, 3, 70, 2000, 70_000 if dtype is np.int32 else 300):
        frames = rng.integers(0, 9, count) if count < 100 else rng.integers(0, 1500, count)
        for config in (CONFIG, BatchConfig(max_batch_s=9, max_utterance_s=9, buckets=1, sortagrad_epochs=1)):
            sampler = BucketSampler(frames.tolist() if dtype is list else frames.astype(dtype), config, seed=count)
            for epoch in (0, 1, 0, 3):
                assert list(sampler.epoch(epoch)) == plain_epoch(frames, config, count, epoch)


def test_an_epoch_costs_a_few_bytes_an_utterance_however_many_there_were() -> None:
    frames = np.random.default_rng(0).integers(50, 1500, 200_000).astype(np.int32)
    tracemalloc.start()
    try:
        sampler, held = BucketSampler(frames, BatchConfig(), seed=1), []
        for epoch in range(3):
            next(sampler.batches_from(Position(epoch=epoch)))
            held.append(tracemalloc.get_traced_memory()[0] / len(frames))
    finally:
        tracemalloc.stop()
    assert max(held) < 16 and held[2] < held[0] + 1  # lists of Python numbers would be more than 40


def test_each_epoch_has_every_utterance_once_within_the_bound() -> None:
    sampler = BucketSampler(FRAMES, CONFIG, seed=1)
    for epoch in range(3):
        batches = sampler.epoch(epoch)
        assert sorted(itertools.chain(*batches)) == list(range(997))
        assert max(len(batch) * FRAMES[batch].max() for batch in batches) <= 6000
    assert list(sampler.epoch(0)) != list(sampler.epoch(1))


def test_buckets_keep_padding_low() -> None:
    padded = {}
    for buckets in (1, 20):
        batches = BucketSampler(FRAMES, BatchConfig(max_batch_s=60, buckets=buckets), seed=1).epoch(0)
        padded[buckets] = 1 - FRAMES.sum() / sum(len(batch) * FRAMES[batch].max() for batch in batches)
    assert padded[20] < 0.06 < 0.2 < padded[1]


def test_batches_from_any_position_continue_the_same_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(itertools.islice(BucketSampler(FRAMES, CONFIG, seed=1).batches_from(Position()), 700))
    assert [position.number for position, _ in whole] == list(range(700))
    assert whole[-1][0].epoch >= 2
    assert list(itertools.islice(BucketSampler(FRAMES, CONFIG, seed=2).batches_from(Position()), 9)) != whole[:9]
    gone_through: list[int] = []
    original = BucketSampler.epoch
    monkeypatch.setattr(BucketSampler, "epoch", lambda self, epoch: gone_through.append(epoch) or original(self, epoch))
    ends = [number for number in range(700) if whole[number][0].batch == 0][1:]
    for first in (1, *ends, 250, 699):
        gone_through.clear()
        start = whole[first - 1][0].next()
        assert (
            list(itertools.islice(BucketSampler(FRAMES, CONFIG, seed=1).batches_from(start), 700 - first))
            == (whole[first:])
        )
        assert gone_through[0] == whole[first - 1][0].epoch  # epochs that are over are not gone through again


def test_first_epochs_go_from_short_to_long() -> None:
    sampler = BucketSampler(FRAMES, dataclasses.replace(CONFIG, sortagrad_epochs=2), seed=1)
    for epoch in range(4):
        longest = [int(FRAMES[batch].max()) for batch in sampler.epoch(epoch)]
        assert (longest == sorted(longest)) == (epoch < 2)
        assert sorted(itertools.chain(*sampler.epoch(epoch))) == list(range(997))
    assert list(sampler.epoch(0)) != list(sampler.epoch(1))


def test_bounded_batches_by_hand() -> None:
    # 2 x 30 fits in 60, a third would be 3 x 30; 70 alone is over the bound and stands alone
    assert bounded_batches([0, 1, 2, 3, 4], [30, 20, 10, 70, 10], 60) == [[0, 1], [2], [3], [4]]


def test_an_utterance_may_not_be_longer_than_a_batch() -> None:
    with pytest.raises(UserError, match=r"^batch.max_batch_s: must be at least batch.max_utterance_s, 30, is 10$"):
        BatchConfig(max_batch_s=10, max_utterance_s=30)
    with pytest.raises(UserError, match=r"^batch.max_utterance_s: must be positive, is 0$"):
        BatchConfig(max_utterance_s=0)
    with pytest.raises(UserError, match=r"^batch.buckets: must be at least 1, is 0$"):
        BatchConfig(buckets=0)


def test_no_batch_of_any_epoch_needs_more_than_the_largest_ones() -> None:
    for seed in range(10):
        frames = np.random.default_rng(seed).integers(0, 60, 5 + 30 * seed)
        sampler = BucketSampler(frames, BatchConfig(max_batch_s=2, max_utterance_s=1, buckets=2), seed=seed)
        largest = [frames[batch] for batch in sampler.largest()]
        assert all(len(lengths) * lengths.max() <= 200 for lengths in largest)
        for need in (
            lambda lengths: len(lengths) * lengths.max(),
            lambda lengths: lengths.sum(),
            lambda lengths: len(lengths) * lengths.max() ** 2,
        ):
            assert max(map(need, largest)) >= max(
                need(frames[batch]) for epoch in range(9) for batch in sampler.epoch(epoch)
            )


def test_the_largest_batches_by_hand() -> None:
    # up to 100 frames: 10 of 10 leave nothing empty; 3 of 31 and less have 91 valid frames of 93; 2 of 50, 1 of 60
    frames = [10] * 10 + [30, 30, 31, 40, 50, 60]
    sampler = BucketSampler(frames, BatchConfig(max_batch_s=1, max_utterance_s=1), seed=1)
    assert sampler.largest() == [list(range(10)), [13, 14]]  # the most padded and valid frames; 2 * 50**2 > 60**2
    frames = [9, 9, 33, 33, 33, 40]
    assert BucketSampler(frames, BatchConfig(max_batch_s=1, max_utterance_s=1), 1).largest() == [[2, 3, 4]]
