"""What training takes of its data: which utterances CTC cannot be trained on, and the statistics of the others."""

import itertools
import re
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import torch
import torch.distributed as dist

from omnirouter.data.dataset import TrainingData, load_row, read_feature_dir
from omnirouter.data.errors import UserError
from omnirouter.data.features import FeatureConfig, FeatureStats, feature_stats
from omnirouter.data.index import Index, open_index
from omnirouter.data.sampler import BatchConfig, BucketSampler, Position
from omnirouter.data.specaugment import spec_augment
from omnirouter.data.streams import read_values
from omnirouter.data.tables import write_table
from omnirouter.data.tokenizer import train_tokenizer
from omnirouter.training import selection
from omnirouter.training.config import ExperimentConfig, TrainingConfig
from omnirouter.training.experiment import Inputs
from omnirouter.training.run import train
from omnirouter.training.selection import (
    add_drawn_stats,
    check_units,
    dev_stats,
    open_stats,
    open_training_data,
    select_trainable,
)

CONFIG = ExperimentConfig(batch=BatchConfig(min_utterance_s=0.05, max_utterance_s=20, max_batch_s=20))


def select(
    cases: list[tuple[str, int, str]], folder: Path, config: ExperimentConfig = CONFIG, token_type: str = "char"
) -> list[int]:
    """Rows that are kept of utterances of an id, frames and a transcript."""
    folder.mkdir()
    for name, column in (("utt2num_frames", 1), ("text", 2)):
        write_table(folder / name, {case[0]: str(case[column]) for case in cases})
    write_table(folder / "feats.scp", {key: f"{key}.ark:0" for key, *_ in cases})
    train_tokenizer(["ABC"] * 9, token_type, 8, folder / "lang")
    return select_trainable(open_index(folder, folder / "lang"), config, folder / "dropped").tolist()


@pytest.mark.parametrize("block", [1 << 20, 4, 1])
def test_impossible_utterances_are_listed_with_their_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(selection, "BLOCK", block)
    cases = [
        ("fits", 12, "ABC"),  # 3 tokens of 4 frames for 3 labels
        ("long", 2001, "A"),
        ("one-short", 11, "ABC"),
        ("repeats", 16, "AABB"),  # needs 4 + 2 tokens, has 4
        ("repeats-fit", 24, "AABB"),
        ("short", 4, "A"),
    ]
    assert select(cases, tmp_path / "data") == [0, 4]
    assert (tmp_path / "data/dropped").read_text().splitlines() == [
        "long 20.01 s is outside batch.min_utterance_s … batch.max_utterance_s",
        "one-short 2 encoder frames are too few for 3 labels with 0 repeats",
        "repeats 4 encoder frames are too few for 4 labels with 2 repeats",
        "short 0.04 s is outside batch.min_utterance_s … batch.max_utterance_s",
    ]


def test_an_utterance_without_labels_needs_an_encoder_frame_all_the_same(tmp_path: Path) -> None:
    config, mark = ExperimentConfig(batch=BatchConfig(min_utterance_s=0)), "▁"  # sentencepiece's own, for a space
    assert select([("a", 4, mark), ("b", 3, mark), ("c", 0, mark)], tmp_path / "data", config, "bpe") == [0]
    assert (tmp_path / "data/dropped").read_text().splitlines() == [
        "b 0 encoder frames are too few for 0 labels with 0 repeats",
        "c 0 encoder frames are too few for 0 labels with 0 repeats",
    ]


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training utterance is left"):
        select([("a", 4, "AB")], tmp_path / "data")


@pytest.mark.parametrize(("known", "unknown", "refused"), [(99, 1, False), (98, 2, True), (100, 0, False)])
def test_transcripts_that_the_units_cannot_write_are_refused_above_a_share(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, known: int, unknown: int, refused: bool
) -> None:
    texts = {"a": "B" * (known - 1), "b": "A" + "é" * unknown}
    for name, rows in (
        ("text", texts),
        ("utt2num_frames", {"a": "9", "b": "9"}),
        ("feats.scp", {"a": "x:0", "b": "x:9"}),
    ):
        write_table(tmp_path / name, rows)
    train_tokenizer("AB", "char", 0, tmp_path / "lang")
    index = open_index(tmp_path, tmp_path / "lang")
    found = (
        rf"data/text: {unknown} of its 100 labels \({unknown}.00%\) are <unk>, .*; in utterance b, for one, {unknown}"
    )
    if refused:
        with pytest.raises(UserError, match=rf"^{found} of 3; more than 1% is refused: .* --stage 3"):
            check_units(index, Path("data/text"), Path("data/lang_char"))
    else:
        check_units(index, Path("data/text"), Path("data/lang_char"))
        assert bool(re.search(found, caplog.text)) == bool(unknown)


def test_training_refuses_the_units_of_another_form_of_the_text(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig
) -> None:
    text = inputs.train / "text"
    text.write_text(text.read_text().lower())
    with pytest.raises(
        UserError, match=rf"{text}: \d+ of its \d+ labels .* are <unk>, for which {inputs.lang} has no unit"
    ):
        train(tmp_path / "exp/a", config, inputs, torch.device("cpu"))


@pytest.mark.parametrize("restart", [False, True])
def test_units_learned_from_other_transcripts_are_refused_before_anything_is_made_or_deleted(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, restart: bool
) -> None:
    exp, other = tmp_path / "exp/a", tmp_path / "dev/text"
    train_tokenizer(read_values(other), "bpe", 15, inputs.lang, other)
    bound = replace(inputs, lang_text=inputs.train / "text")
    if restart:
        (exp / "checkpoints").mkdir(parents=True)
        (exp / "model.pt").write_text("precious")
    with pytest.raises(UserError, match=f"lang was learned from {other}, not from {inputs.train}/text"):
        train(exp, config, bound, torch.device("cpu"), restart)
    assert (exp / "model.pt").exists() == exp.exists() == restart


def test_augmentation_depends_on_the_training_s_seed_and_fills_with_the_feature_mean(
    tmp_path: Path, inputs: Inputs
) -> None:
    config = replace(CONFIG, training=TrainingConfig(seed=7))
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/lang").symlink_to(inputs.lang)
    data, _ = open_training_data(tmp_path / "exp", config, inputs)
    batch = data[Position(epoch=3), list(range(60)), Position(epoch=4)]
    matrices = [kaldiio.load_mat(f"{inputs.train}/utt{i:03d}.ark:7") for i in range(60)]
    mean = np.concatenate(matrices).mean(axis=0, dtype=np.float64).astype(np.float32)
    assert np.abs(mean).min() > 1e-3
    for i, (matrix, features) in enumerate(zip(matrices, batch.features.numpy(), strict=True)):
        wanted = spec_augment(matrix, config.specaugment, mean, np.random.default_rng((7, 3, i)))
        assert (wanted != matrix).any()
        np.testing.assert_allclose(features[: len(matrix)], wanted, atol=1e-5)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The rows of which features are loaded for statistics, each time that they are computed."""
    taken: list[list[int]] = []

    def features_of(index: Index, rows: np.ndarray, workers: int, on_broken: Callable) -> list[np.ndarray]:
        taken.append(rows.tolist())
        return [load_row(index, row) for row in rows]

    monkeypatch.setattr(selection, "features_of", features_of)
    return taken


def test_statistics_are_of_all_frames_or_of_a_drawn_part_and_computed_once(
    inputs: Inputs, taken: list[list[int]]
) -> None:
    index, rows = open_index(inputs.train, inputs.lang), np.arange(60, dtype=np.int32)
    for _, (stats_h, kept) in itertools.product(range(2), ((20, rows), (20, rows[5:50]), (15 / 3600, rows))):
        stats = open_stats(index, kept, ExperimentConfig(features=FeatureConfig(stats_h=stats_h)))
        again = feature_stats(load_row(index, row) for row in taken[-1])
        if stats_h == 20 and len(kept) == 60:
            whole = stats
    assert taken[:2] == [list(range(60)), list(range(5, 50))] and len(taken) == 3  # not again the second time
    drawn = [int(index.frames[row]) for row in taken[2]]
    assert sorted(set(taken[2])) == taken[2] and sum(drawn) >= 1500 > sum(drawn) - max(drawn)
    np.testing.assert_array_equal(stats.mean, again.mean)  # to the last bit, though read from a file
    np.testing.assert_array_equal(stats.std, again.std)
    assert stats.frames == sum(drawn) and not np.array_equal(stats.mean, whole.mean)


def test_dev_statistics_are_of_all_frames_or_of_a_drawn_part_the_same_each_time(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = read_feature_dir(inputs.train)  # 60 utterances
    assert dev_stats(dev).frames == sum(utt.frames for utt in dev)
    monkeypatch.setattr(selection, "DEV_STATS_H", 5 / 3600)
    longest = max(utt.frames for utt in dev)
    first, *again = (dev_stats(dev) for _ in range(4))
    assert 500 <= first.frames < 500 + longest
    assert all(np.array_equal(stats.mean, first.mean) for stats in again)
    lengths = [utt.frames for utt in dev]
    assert first.frames not in np.cumsum(lengths)  # not merely those that come first


def test_other_rows_of_a_small_set_have_statistics_of_their_own(inputs: Inputs) -> None:
    index, rows = open_index(inputs.train, inputs.lang), np.arange(60, dtype=np.int32)
    for kept in (rows[:30], rows[30:]):
        wanted = feature_stats(load_row(index, row) for row in kept)
        np.testing.assert_array_equal(open_stats(index, kept, CONFIG).mean, wanted.mean)


def test_a_drawn_part_is_the_same_for_any_seed_and_bounds_and_is_taken_with_the_index(
    tmp_path: Path, inputs: Inputs, taken: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is computed before the index takes its place: what follows has it, the first training included."""
    there: list[int] = []
    monkeypatch.setattr(selection, "check_units", lambda *_: there.append(len(taken)))  # comes after the index
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/lang").symlink_to(inputs.lang)
    means = []
    for seed, longest_s in ((1, 20.0), (2, 20.0), (1, 0.9), (3, 0.8)):
        config = ExperimentConfig(
            batch=BatchConfig(max_utterance_s=longest_s),
            features=FeatureConfig(stats_h=9 / 3600),
            training=TrainingConfig(seed=seed),
        )
        data, stats = open_training_data(tmp_path / "exp", config, inputs)
        means.append(stats.mean)
        assert len(taken) == 1 and stats.frames >= 900
    assert there == [1] * 4
    assert len(data) < 60 and all(np.array_equal(mean, means[0]) for mean in means)
    assert len(list(open_index(inputs.train, inputs.lang).folder.glob("stats_*.json"))) == 1


def test_of_a_small_set_no_part_is_drawn_with_the_index(inputs: Inputs, taken: list[list[int]]) -> None:
    add_drawn_stats(open_index(inputs.train, inputs.lang), CONFIG)
    assert not taken


def test_of_several_processes_one_computes_the_statistics(inputs: Inputs, in_processes: Callable[..., list]) -> None:
    open_index(inputs.train, inputs.lang)
    computed: list[int] = []

    def slow(matrices: Iterable[np.ndarray]) -> FeatureStats:
        computed.append(1)
        time.sleep(0.5)
        return feature_stats(matrices)

    def work() -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(selection, "feature_stats", slow)
            dist.barrier()
            open_stats(open_index(inputs.train, inputs.lang), np.arange(60, dtype=np.int32), CONFIG)
        return len(computed)

    assert sum(in_processes(2, work)) == 1


def test_a_large_set_adds_bytes_to_a_training_not_objects(tmp_path: Path) -> None:
    """Of what begins a training, the statistics alone are left out: they load features."""
    count, data_dir = 200_000, tmp_path / "data"
    data_dir.mkdir()
    formats = {
        "feats.scp": lambda i: f"fbank/feats.{i % 4}.ark:{i * 1000}",
        "utt2num_frames": lambda i: str(1 + i * 7919 % 2100),
        "text": lambda i: f"A BC {'CAB' * (i % 5)}",
    }
    for name, value in formats.items():
        (data_dir / name).write_text("".join(f"utt{i:06d} {value(i).strip()}\n" for i in range(count)))
    train_tokenizer("ABC", "char", 0, tmp_path / "lang")
    open_index(data_dir, tmp_path / "lang")
    tracemalloc.start()
    try:
        index = open_index(data_dir, tmp_path / "lang")
        kept = select_trainable(index, CONFIG, tmp_path / "dropped")
        data = TrainingData(index, kept, CONFIG.specaugment, np.zeros(80), 1)
        sampler = BucketSampler(data.frames, CONFIG.batch, 1)
        position, indices = next(sampler.batches_from(Position(9, 1, 5000)))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert (position, len(data)) == (Position(9, 1, 5000), len(kept)) and 0.9 * count < len(kept) < count
    assert held / count < 32  # a dictionary's entry for each, or a list's number, would be more


def test_dev_features_of_another_width_are_refused_before_the_first_step(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig
) -> None:
    kaldiio.save_ark(str(tmp_path / "dev/utt000.ark"), {"utt000": np.zeros((50, 40), np.float32)})
    message = f"{tmp_path}/dev: its features have 40 values a frame .utterance utt000., but the model takes 80"
    with pytest.raises(UserError, match=message):
        train(tmp_path / "exp/a", config, inputs, torch.device("cpu"))
    assert not list((tmp_path / "exp/a/checkpoints").iterdir())


def test_hours_of_statistics_must_be_positive() -> None:
    with pytest.raises(UserError, match="features.stats_h: must be positive, is 0"):
        FeatureConfig(stats_h=0)
