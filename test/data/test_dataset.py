"""Batches of stored features."""

from pathlib import Path

import numpy as np
import pytest
import torch

from omnirouter.data.dataset import TrainingData, make_batch, ordered_batches, read_feature_dir, training_batches
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import store_fbank
from omnirouter.data.features import feature_stats
from omnirouter.data.sampler import BatchConfig, BucketSampler
from omnirouter.data.specaugment import SpecAugmentConfig


@pytest.fixture
def feature_dir(tiny_data_dir: Path, tmp_path: Path) -> Path:
    store_fbank(tiny_data_dir, tmp_path / "fbank", 1)
    return tiny_data_dir


def test_make_batch_pads_with_zeros_and_joins_labels() -> None:
    batch = make_batch(["a", "b"], [np.ones((2, 3)), np.ones((4, 3))], [[5, 6], [7]])
    assert batch.features.sum(dim=2).tolist() == [[3, 3, 0, 0], [3, 3, 3, 3]]
    assert (batch.lengths, batch.targets.tolist(), batch.target_lengths) == ([2, 4], [5, 6, 7], [2, 1])


def test_training_batches_do_not_depend_on_workers_or_on_where_they_begin(feature_dir: Path) -> None:
    utterances = read_feature_dir(feature_dir)
    sampler = BucketSampler([u.frames for u in utterances], BatchConfig(max_batch_s=30, buckets=2), seed=1)
    data = TrainingData(utterances, [[1], [2], [3], [4]], SpecAugmentConfig(), np.zeros(80), seed=1)

    def take(first: int, count: int, workers: int) -> list[torch.Tensor]:
        batches = training_batches(data, sampler, first, workers)
        return [next(batches).features for _ in range(count)]

    state = torch.random.get_rng_state()
    whole = take(0, 8, workers=0)
    assert torch.equal(state, torch.random.get_rng_state())  # loading does not disturb the training's randomness
    for others in (take(0, 8, workers=2), take(0, 5, workers=0) + take(5, 3, workers=1)):
        assert all(map(torch.equal, whole, others))
    assert not torch.equal(whole[0], whole[2])  # the same utterances in the next epoch, with other masks


def test_evaluation_batches_hold_every_utterance_once_longest_first(feature_dir: Path) -> None:
    batches = list(ordered_batches(read_feature_dir(feature_dir), max_batch_s=2.6))
    assert [batch.utt_ids for batch in batches] == [["spk1-utt3", "spk1-utt2"], ["spk0-utt1", "spk0-utt0"]]


def test_missing_features_name_the_stage(tiny_data_dir: Path) -> None:
    with pytest.raises(UserError, match="feats.scp does not exist; stage 2"):
        read_feature_dir(tiny_data_dir)


def test_statistics_are_those_of_all_frames_together() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(5, 3, (n, 4)).astype(np.float32) for n in (10, 200, 33)]
    stats, whole = feature_stats(parts), np.concatenate(parts).astype(np.float64)
    np.testing.assert_allclose(stats.mean, whole.mean(axis=0))
    np.testing.assert_allclose(stats.std, whole.std(axis=0))
    assert stats.frames == 243
