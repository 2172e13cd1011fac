"""Greedy CTC decoding."""

from collections.abc import Iterable, Iterator

import torch

from omnirouter.data.dataset import Batch
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.decoding.posteriors import outputs
from omnirouter.models.ctc import BLANK, CtcModel, CtcOutput


def best_path(output: CtcOutput) -> list[list[int]]:
    """Labels of the most probable path of each utterance: repeats merged, then blanks removed."""
    paths = output.log_probs_TV.argmax(dim=1).cpu().split(output.packing.lengths)
    merged = (torch.unique_consecutive(path) for path in paths)
    return [path[path != BLANK].tolist() for path in merged]


def greedy_decode(model: CtcModel, tokenizer: Tokenizer, batches: Iterable[Batch]) -> Iterator[dict[str, str]]:
    """Decode batches, giving each one's hypotheses by utterance id; the model must be in eval mode.

    An utterance with fewer frames than one token has an empty hypothesis.
    """
    for batch, output in outputs(model, batches):
        paths = [[]] * len(batch.utt_ids) if output is None else best_path(output)
        yield {utt_id: tokenizer.decode(path) for utt_id, path in zip(batch.utt_ids, paths, strict=True)}
