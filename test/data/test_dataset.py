"""Batches of features, stored or computed."""

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from omnirouter.data.dataset import (
    Batch,
    Share,
    TrainingData,
    make_batch,
    ordered_batches,
    read_feature_dir,
    training_batches,
)
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import store_fbank
from omnirouter.data.features import feature_stats, load_features
from omnirouter.data.index import open_index
from omnirouter.data.sampler import BatchConfig, BucketSampler, Position
from omnirouter.data.specaugment import SpecAugmentConfig, spec_augment
from omnirouter.data.tokenizer import Tokenizer, train_tokenizer


@pytest.fixture
def feature_dir(tiny_data_dir: Path, tmp_path: Path) -> Path:
    store_fbank(tiny_data_dir, tmp_path / "fbank", 1)
    return tiny_data_dir


def test_make_batch_pads_with_zeros_and_joins_labels() -> None:
    batch = make_batch(["a", "b"], [np.ones((2, 3)), np.ones((4, 3))], [[5, 6], [7]])
    assert batch.features.sum(dim=2).tolist() == [[3, 3, 0, 0], [3, 3, 3, 3]]
    assert (batch.lengths, batch.targets.tolist(), batch.target_lengths) == ([2, 4], [5, 6, 7], [2, 1])


@pytest.fixture
def data_and_sampler(feature_dir: Path) -> tuple[TrainingData, BucketSampler]:
    train_tokenizer(["tone number 0123"], "char", 0, feature_dir / "lang")
    index = open_index(feature_dir, feature_dir / "lang")
    data = TrainingData(index, np.arange(4, dtype=np.int32), SpecAugmentConfig(), np.zeros(80), seed=1)
    return data, BucketSampler(data.frames, BatchConfig(max_batch_s=30, buckets=2), seed=1)


def test_training_batches_do_not_depend_on_workers_or_on_where_they_begin(
    data_and_sampler: tuple[TrainingData, BucketSampler],
) -> None:
    data, sampler = data_and_sampler

    def take(start: Position, count: int, workers: int) -> list[Batch]:
        return list(itertools.islice(training_batches(data, sampler, start, workers), count))

    state = torch.random.get_rng_state()
    whole = take(Position(), 8, workers=0)
    assert torch.equal(state, torch.random.get_rng_state())  # loading does not disturb the training's randomness
    first = take(Position(), 5, workers=0)
    for others in (take(Position(), 8, workers=2), first + take(first[-1].after, 3, workers=1)):
        assert [batch.position for batch in others] == [batch.position for batch in whole]
        assert all(torch.equal(a.features, b.features) for a, b in zip(whole, others, strict=True))
    assert whole[0].position.epoch != whole[2].position.epoch
    assert not torch.equal(whole[0].features, whole[2].features)  # the same utterances with other masks


def test_processes_share_out_the_batches_of_each_step(data_and_sampler: tuple[TrainingData, BucketSampler]) -> None:
    def numbers(share: Share, start: Position, count: int) -> list[tuple[int, Position]]:
        batches = itertools.islice(training_batches(*data_and_sampler, start, 0, share), count)
        return [(batch.position.number, batch.after) for batch in batches]

    # three steps of four batches, two in each epoch, from the stream's beginning and from the second step on
    steps = [Position(4, 1, 2), Position(8, 3, 2), Position(12, 5, 2)]
    first, second = (numbers(Share(rank, 2, 4), Position(), 6) for rank in (0, 1))
    assert first == [(0, steps[0]), (2, steps[0]), (4, steps[1]), (6, steps[1]), (8, steps[2]), (10, steps[2])]
    assert second == [(1, steps[0]), (3, steps[0]), (5, steps[1]), (7, steps[1]), (9, steps[2]), (11, steps[2])]
    assert numbers(Share(0, 2, 4), steps[0], 4) == first[2:]
    assert numbers(Share(0, 1, 4), Position(), 12) == sorted(first + second)


def test_evaluation_batches_hold_every_utterance_once_longest_first(feature_dir: Path) -> None:
    batches = list(ordered_batches(read_feature_dir(feature_dir), max_batch_s=2.6))
    assert [batch.utt_ids for batch in batches] == [["spk1-utt3", "spk1-utt2"], ["spk0-utt1", "spk0-utt0"]]


def test_missing_features_name_the_stage(tiny_data_dir: Path) -> None:
    with pytest.raises(UserError, match="utt2num_frames does not exist; stage 2"):
        read_feature_dir(tiny_data_dir)


def test_a_training_batch_has_the_utterances_that_were_kept(
    data_and_sampler: tuple[TrainingData, BucketSampler], feature_dir: Path
) -> None:
    index = open_index(feature_dir, feature_dir / "lang")
    plain = SpecAugmentConfig(freq_masks=0, time_masks=0)
    data = TrainingData(index, np.array([1, 3], np.int32), plain, np.zeros(80), seed=1)
    assert len(data) == 2 and data.frames.tolist() == [108, 128] and data.audio_h == pytest.approx(2.36 / 3600)
    batch = data[Position(), [1, 0], Position(9)]
    assert batch.utt_ids == ["spk1-utt3", "spk0-utt1"] and batch.after == Position(9)
    for row, utterance in zip(batch.features, (read_feature_dir(feature_dir)[i] for i in (3, 1)), strict=True):
        np.testing.assert_array_equal(row[: utterance.frames], load_features(utterance.place, utterance.utt_id))
    tokens = Tokenizer(feature_dir / "lang")
    assert batch.target_lengths == [13, 13]
    assert tokens.decode(batch.targets[:13].tolist()) == "tone number 3"
    # the augmentation depends on the place among those kept, as it always did
    masked = TrainingData(index, np.array([1, 3], np.int32), SpecAugmentConfig(), np.zeros(80), seed=7)
    wanted = spec_augment(
        batch.features[0].numpy(), SpecAugmentConfig(), np.zeros(80, np.float32), np.random.default_rng((7, 2, 1))
    )
    assert torch.equal(masked[Position(epoch=2), [1], Position()].features[0], torch.from_numpy(wanted))


def test_training_data_can_be_handed_to_another_process(data_and_sampler: tuple[TrainingData, BucketSampler]) -> None:
    data, _ = data_and_sampler
    pickled = pickle.dumps(data)
    assert len(pickled) < 2000  # the index is opened there again, not sent
    key = (Position(epoch=3), [2, 0], Position())
    assert torch.equal(pickle.loads(pickled)[key].features, data[key].features)


def test_features_of_two_widths_are_told_apart(feature_dir: Path) -> None:
    with pytest.raises(UserError, match="utterance a has features of 3 values a frame, b of 4"):
        make_batch(["a", "b"], [np.ones((2, 3)), np.ones((2, 4))], [[], []])
    with pytest.raises(UserError, match=r"have 80 values a frame \(utterance spk0-utt0\), but the model takes 40"):
        read_feature_dir(feature_dir, n_mels=40)
    assert len(read_feature_dir(feature_dir, n_mels=80)) == 4


def test_evaluation_needs_no_transcripts(feature_dir: Path) -> None:
    with_text = read_feature_dir(feature_dir)
    (feature_dir / "text").unlink()
    without = read_feature_dir(feature_dir)
    assert [u.text for u in without] == [""] * 4
    assert [(u.utt_id, u.place, u.frames) for u in without] == [(u.utt_id, u.place, u.frames) for u in with_text]


def test_statistics_are_those_of_all_frames_together() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(5, 3, (n, 4)).astype(np.float32) for n in (10, 200, 33)]
    stats, whole = feature_stats(parts), np.concatenate(parts).astype(np.float64)
    np.testing.assert_allclose(stats.mean, whole.mean(axis=0))
    np.testing.assert_allclose(stats.std, whole.std(axis=0))
    assert stats.frames == 243
