"""What training takes of its data directory: the utterances that CTC can be trained on, and their statistics."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from omnirouter.data.dataset import FeatureUtterance, TrainingData, features_of
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.data.features import FeatureStats, feature_stats, load_features
from omnirouter.data.files import alone, write_if_changed
from omnirouter.data.index import Index, open_index
from omnirouter.data.jobs import available_cores
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.experiment import Inputs
from omnirouter.training.log import LOG
from omnirouter.training.skipping import LEAVE_OUT, Unreadable, left_out_rows, read_left_out

FRAMES_PER_H = 3600 * FRAMES_PER_S
BLOCK = 1 << 20  # rows that are looked at together
DEV_STATS_H = 1.0  # each start takes them, from audio where features are not stored: some two seconds
MOST_UNKNOWN = 0.01  # share of labels; units learned from the training transcripts themselves leave none


def open_training_data(
    exp: Path,
    config: ExperimentConfig,
    inputs: Inputs,
    listed: Path | None = None,
    begun_with: FeatureStats | None = None,
) -> tuple[TrainingData, FeatureStats]:
    """Return an experiment's training data and their feature statistics; the index of the data is built if need be.

    listed: the user's list of utterances to leave out, if not the experiment directory's.
    begun_with: statistics that a training has begun with: they stay those of its augmentation, whatever they are now.
    """
    listed = listed or exp / LEAVE_OUT
    left_out = read_left_out(listed)
    index = open_index(
        inputs.train, exp / "lang", inputs.allow_pipes, lambda built: add_drawn_stats(built, config, left_out)
    )
    check_units(index, inputs.train / "text", inputs.lang)
    kept = select_trainable(index, config, exp / "dropped_utts")
    stats, rows = open_stats(index, kept, config, left_out), left_out_rows(listed, index)
    fill = (begun_with or stats).mean
    return TrainingData(index, kept, config.specaugment, fill, config.training.seed, rows), stats


def check_units(index: Index, text: Path, lang: Path) -> None:
    """Warn of transcripts that the units of a language directory cannot write; UserError where they are many.

    text: the transcripts' table, for the message, as `lang` is.
    """
    unknown = int(index.unknown.sum(dtype=np.int64))
    if not unknown:
        return
    row, share = int(index.unknown.argmax()), unknown / index.label_total
    found = (
        f"{text}: {unknown} of its {index.label_total} labels ({share:.2%}) are <unk>, for which {lang} has no unit; "
        f"in utterance {index.utt_id(row)}, for one, {index.unknown[row]} of {index.label_count(row)}"
    )
    if share > MOST_UNKNOWN:
        raise UserError(f"{found}; more than {MOST_UNKNOWN:.0%} is refused: learn units from this text with --stage 3")
    LOG.warning("%s", found)


def select_trainable(index: Index, config: ExperimentConfig, listing: Path) -> np.ndarray:
    """Rows of the utterances that can be trained on, int32 (n,); a file lists the others with their reasons."""
    kept, dropped = [], []
    for start in range(0, len(index), BLOCK):
        good = _is_trainable(index, slice(start, start + BLOCK), config)
        kept.append((start + np.flatnonzero(good)).astype(np.int32))
        dropped += _dropped(index, start + np.flatnonzero(~good), config)
    write_if_changed(listing, "".join(dropped))
    rows = np.concatenate(kept)
    if len(rows) < len(index):
        LOG.info("%d of %d training utterances dropped; %s says why", len(index) - len(rows), len(index), listing)
    if not len(rows):
        raise UserError(f"no training utterance is left; {listing} says why")
    return rows


def _is_trainable(index: Index, part: slice, config: ExperimentConfig) -> np.ndarray:
    frames, least = index.frames[part], np.maximum(1, index.least_tokens[part])
    length_s, tokens = frames / FRAMES_PER_S, frames // config.model.stack_frames
    long_enough = config.batch.min_utterance_s <= length_s
    return long_enough & (length_s <= config.batch.max_utterance_s) & (tokens >= least)


def _dropped(index: Index, rows: np.ndarray, config: ExperimentConfig) -> Iterator[str]:
    """Lines that say why each row cannot be trained on."""
    for row in rows.tolist():
        frames, labels = int(index.frames[row]), index.label_count(row)
        length_s, tokens = frames / FRAMES_PER_S, frames // config.model.stack_frames
        if not config.batch.min_utterance_s <= length_s <= config.batch.max_utterance_s:
            reason = f"{length_s} s is outside batch.min_utterance_s … batch.max_utterance_s"
        else:  # CTC needs a frame a label and a blank between equal ones
            repeats = int(index.least_tokens[row]) - labels
            reason = f"{tokens} encoder frames are too few for {labels} labels with {repeats} repeats"
        yield f"{index.utt_id(row)} {reason}\n"


def open_stats(
    index: Index, kept: np.ndarray, config: ExperimentConfig, left_out: Collection[str] = ()
) -> FeatureStats:
    """Return the feature statistics of the rows to train on, or of a drawn part of the set if they have more hours.

    They are computed once, without what cannot be read, then kept beside the index, for all experiments.
    left_out: utterances that this one leaves out, which may be unreadable: they do not count among those.
    """
    stats_h = config.features.stats_h
    rows = kept if _frames(index.frames[kept]) <= stats_h * FRAMES_PER_H else draw_rows(index, stats_h)
    return _stats_of(index, rows, config, left_out)


def add_drawn_stats(index: Index, config: ExperimentConfig, left_out: Collection[str] = ()) -> None:
    """Compute the statistics of a drawn part with an index, if the set has more hours: a training then has them.

    left_out: as for `open_stats`.
    """
    stats_h = config.features.stats_h
    if _frames(index.frames) > stats_h * FRAMES_PER_H:
        _stats_of(index, draw_rows(index, stats_h), config, left_out)


def dev_stats(dev: Sequence[FeatureUtterance]) -> FeatureStats:
    """Return the feature statistics of a dev set, or of a drawn part of it if it has more than DEV_STATS_H hours.

    By them another start knows whether its error counts can be ranked with those before.
    """
    drawn = [dev[i] for i in np.random.default_rng(0).permutation(len(dev))]
    enough = int(np.searchsorted(np.cumsum([u.frames for u in drawn]), DEV_STATS_H * FRAMES_PER_H)) + 1
    return feature_stats(load_features(u.place, u.utt_id, u.frames) for u in drawn[:enough])


def draw_rows(index: Index, stats_h: float) -> np.ndarray:
    """Draw as many rows of all as have so many hours, int32 (n,) in order: the same ones in every training."""
    drawn = np.random.default_rng(0).permutation(np.arange(len(index), dtype=np.int32))
    enough = int(np.searchsorted(np.cumsum(index.frames[drawn], dtype=np.int64), stats_h * FRAMES_PER_H)) + 1
    return np.sort(drawn[:enough])


def _stats_of(index: Index, rows: np.ndarray, config: ExperimentConfig, left_out: Collection[str]) -> FeatureStats:
    path = index.folder / f"stats_{hashlib.sha256(rows.tobytes()).hexdigest()[:16]}.json"
    if not path.exists():
        with alone(index.folder / ".stats.lock"):  # of several processes one computes, on all cores
            most = int(config.training.max_unreadable_share * len(rows))
            _compute_stats(index, rows, path, Unreadable(most, left_out))
    return FeatureStats.load(path)


def _compute_stats(index: Index, rows: np.ndarray, path: Path, unreadable: Unreadable) -> None:
    def note(utt_id: str, reason: str) -> None:
        if message := unreadable.add({utt_id: reason}):
            raise UserError(message)

    if not path.exists():
        LOG.info("taking the features' mean and deviation from %d utterances", len(rows))
        feature_stats(features_of(index, rows, min(available_cores(), len(rows)), note)).save(path)


def _frames(frames: np.ndarray) -> int:
    return int(frames.sum(dtype=np.int64))
