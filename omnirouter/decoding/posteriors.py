"""What a model gives for a set, batch by batch, and the log-probabilities of each utterance."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from omnirouter.data.dataset import Batch
from omnirouter.models.ctc import CtcModel, CtcOutput


@dataclass(frozen=True)
class Posterior:
    """The K most probable labels at each of T frames, so that those of a whole set fit into memory."""

    labels_TK: np.ndarray
    log_probs_TK: np.ndarray
    """fp32."""
    vocab_size: int

    def dense(self) -> np.ndarray:
        """Return log-probabilities fp32 (T, V), -inf for the labels left out."""
        full = np.full((len(self.labels_TK), self.vocab_size), -np.inf, np.float32)
        np.put_along_axis(full, self.labels_TK, self.log_probs_TK, axis=1)
        return full


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


def posteriors(model: CtcModel, batches: Iterable[Batch], labels: int) -> Iterator[tuple[str, Posterior]]:
    """Yield each utterance's id and so many of its most probable labels at each frame."""
    for utt_id, log_probs_TV in utterance_log_probs(model, batches):
        best = log_probs_TV.topk(min(labels, log_probs_TV.shape[1]), dim=1)
        yield utt_id, Posterior(best.indices.numpy(), best.values.numpy(), log_probs_TV.shape[1])
