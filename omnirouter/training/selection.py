"""What training takes of its data directory: the utterances that CTC can be trained on, and their statistics."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from omnirouter.data.dataset import TrainingData, features_of
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.data.features import FeatureStats, feature_stats
from omnirouter.data.files import write_if_changed
from omnirouter.data.index import Index, open_index
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.experiment import Inputs
from omnirouter.training.log import LOG

BLOCK = 1 << 20  # rows that are looked at together


def open_training_data(exp: Path, config: ExperimentConfig, inputs: Inputs) -> tuple[TrainingData, FeatureStats]:
    """Return an experiment's training data and feature statistics; the index of the data is built if need be."""
    index = open_index(inputs.train, exp / "lang", inputs.allow_pipes)
    kept = select_trainable(index, config, exp / "dropped_utts")
    stats = open_stats(index, kept, config)
    return TrainingData(index, kept, config.specaugment, stats.mean, config.training.seed), stats


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


def open_stats(index: Index, kept: np.ndarray, config: ExperimentConfig) -> FeatureStats:
    """Return the feature statistics of the rows to train on; computed once, then kept beside the index."""
    rows = _sample(index, kept, config)
    path = index.folder / f"stats_{hashlib.sha256(rows.tobytes()).hexdigest()[:16]}.json"
    if not path.exists():
        LOG.info("taking the features' mean and deviation from %d utterances", len(rows))
        feature_stats(features_of(index, rows, config.training.workers)).save(path)
    return FeatureStats.load(path)


def _sample(index: Index, kept: np.ndarray, config: ExperimentConfig) -> np.ndarray:
    """All rows in order, or as many, drawn by the seed, as have the hours that the configuration asks for."""
    wanted_frames = config.features.stats_h * 3600 * FRAMES_PER_S
    if index.frames[kept].sum(dtype=np.int64) <= wanted_frames:
        return kept
    drawn = np.random.default_rng((config.training.seed, 0)).permutation(kept)
    enough = int(np.searchsorted(np.cumsum(index.frames[drawn], dtype=np.int64), wanted_frames)) + 1
    return np.sort(drawn[:enough])
