"""What a model gives for a set, batch by batch, and the log-probabilities of each utterance."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from omnirouter.data.dataset import Batch
from omnirouter.models.ctc import CtcModel, CtcOutput


@torch.inference_mode()
def outputs(model: CtcModel, batches: Iterable[Batch]) -> Iterator[tuple[Batch, CtcOutput | None]]:
    """Run a model, which must be in eval mode, over batches; None where no utterance is as long as one token."""
    device = next(model.parameters()).device
    for batch in batches:
        if max(batch.lengths) < model.encoder.config.stack_frames:
            yield batch, None
        else:
            yield batch, model(batch.features.to(device), batch.lengths)


def utterance_log_probs(model: CtcModel, batches: Iterable[Batch]) -> Iterator[tuple[str, Tensor]]:
    """Yield each utterance's id and log-probabilities (T, V), on the CPU; T is 0 where it is shorter than a token."""
    for batch, output in outputs(model, batches):
        if output is None:
            nothing = torch.zeros(0, model.output.out_features)
            yield from ((utt_id, nothing) for utt_id in batch.utt_ids)
        else:
            parts = output.log_probs_TV.cpu().split(output.packing.lengths)
            yield from zip(batch.utt_ids, parts, strict=True)
