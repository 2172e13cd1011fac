"""Greedy CTC decoding."""

from collections.abc import Iterable, Iterator

import torch

from omnirouter.data.dataset import Batch
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.models.ctc import BLANK, CtcModel, CtcOutput


def best_path(output: CtcOutput) -> list[list[int]]:
    """Labels of the most probable path of each utterance: repeats merged, then blanks removed."""
    paths = output.log_probs_TV.argmax(dim=1).cpu().split(output.packing.lengths)
    merged = (torch.unique_consecutive(path) for path in paths)
    return [path[path != BLANK].tolist() for path in merged]


@torch.inference_mode()
def greedy_decode(model: CtcModel, tokenizer: Tokenizer, batches: Iterable[Batch]) -> Iterator[dict[str, str]]:
    """Decode batches, giving each one's hypotheses by utterance id; the model must be in eval mode.

    An utterance with fewer frames than one token has an empty hypothesis.
    """
    device = next(model.parameters()).device
    for batch in batches:
        if max(batch.lengths) < model.encoder.config.stack_frames:
            yield {utt_id: "" for utt_id in batch.utt_ids}
            continue
        paths = best_path(model(batch.features.to(device), batch.lengths))
        yield {utt_id: tokenizer.decode(path) for utt_id, path in zip(batch.utt_ids, paths, strict=True)}
