"""Which utterances CTC can be trained on."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from omnirouter.data.dataset import FeatureUtterance
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.data.files import atomic_write
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.distributed import is_first
from omnirouter.training.log import LOG


def select_trainable(
    utterances: Sequence[FeatureUtterance], labels: Sequence[list[int]], config: ExperimentConfig, listing: Path
) -> list[int]:
    """Indices of the utterances that can be trained on; a file lists the others with their reasons.

    Of several processes the first one writes it.
    """
    kept: list[int] = []
    with atomic_write(listing) if is_first() else open(os.devnull, "w") as file:
        for i, (utterance, units) in enumerate(zip(utterances, labels, strict=True)):
            reason = _why_dropped(utterance.frames, units, config)
            if reason:
                file.write(f"{utterance.utt_id} {reason}\n")
            else:
                kept.append(i)
    if len(kept) < len(utterances):
        LOG.info(
            "%d of %d training utterances dropped; %s says why", len(utterances) - len(kept), len(utterances), listing
        )
    if not kept:
        raise UserError(f"no training utterance is left; {listing} says why")
    return kept


def _why_dropped(frames: int, labels: list[int], config: ExperimentConfig) -> str:
    length_s, tokens = frames / FRAMES_PER_S, frames // config.model.stack_frames
    repeats = sum(a == b for a, b in itertools.pairwise(labels))
    if not config.batch.min_utterance_s <= length_s <= config.batch.max_utterance_s:
        return f"{length_s} s is outside batch.min_utterance_s … batch.max_utterance_s"
    if tokens < max(1, len(labels) + repeats):  # CTC needs a frame a label and a blank between equal ones
        return f"{tokens} encoder frames are too few for {len(labels)} labels with {repeats} repeats"
    return ""
