"""Greedy decoding of the dev set while training, shared out among the processes."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch

from omnirouter.data.dataset import Batch, FeatureUtterance, ordered_batches
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.data.sampler import bounded_batches
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.decoding.greedy import greedy_decode
from omnirouter.models.ctc import CtcModel
from omnirouter.scoring.wer import ErrorCounts, word_errors
from omnirouter.training.config import TrainingConfig
from omnirouter.training.distributed import gathered, rank, ranks


def dev_errors(
    model: CtcModel, tokenizer: Tokenizer, dev: Sequence[FeatureUtterance], training: TrainingConfig
) -> ErrorCounts:
    """Count the word errors of the dev set, in fp32 and not compiled, as decoding does; the same in all processes."""
    model.eval()
    # Too short for a token: nothing is heard there. The model must run equally often in all processes.
    hypotheses = {utterance.utt_id: "" for utterance in dev}
    audible = [utterance for utterance in dev if utterance.frames >= model.encoder.config.stack_frames]
    mine: dict[str, str] = {}
    with torch.compiler.set_stance("force_eager") if training.compile else nullcontext():
        for part in greedy_decode(model, tokenizer, _share(audible, training.valid_batch_s)):
            mine |= part
    for part in gathered(mine):
        hypotheses |= part
    return word_errors([u.text for u in dev], [hypotheses[u.utt_id] for u in dev])


def _share(utterances: Sequence[FeatureUtterance], max_batch_s: float) -> Iterator[Batch]:
    """Yield this process's batches: of the same utterances, whatever the number of processes, and as many in each.

    A sharded model runs in all processes at once: those left without a last batch repeat the first one.
    """
    order = sorted(utterances, key=lambda utterance: (-utterance.frames, utterance.utt_id))
    frames = [utterance.frames for utterance in order]
    batches = bounded_batches(range(len(order)), frames, int(max_batch_s * FRAMES_PER_S))
    mine = batches[rank() :: ranks()]
    if len(mine) < math.ceil(len(batches) / ranks()):
        mine.append(batches[0])
    # All but the very last batch are full, so they are not cut differently now.
    return ordered_batches([order[i] for batch in mine for i in batch], max_batch_s)
