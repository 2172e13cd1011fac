"""The CTC model: feature normalisation, encoder, output layer and loss."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnirouter.models.config import ModelConfig
from omnirouter.models.encoder import Encoder
from omnirouter.models.packing import Packing
from omnirouter.models.router import Routing

BLANK = 0
"""Token index of the CTC blank."""


@dataclass(frozen=True)
class CtcOutput:
    """What the model gives for one batch of T valid tokens."""

    log_probs_TV: Tensor
    """Packed log-probabilities over the vocabulary, fp32."""
    packing: Packing
    balance_loss: Tensor
    routing: dict[int, Routing]


class CtcModel(nn.Module):
    """Encoder and linear output layer; holds the feature statistics, so its weights are all that decoding needs."""

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(config.n_mels))
        self.register_buffer("feature_std", torch.ones(config.n_mels))
        self.encoder = Encoder(config)
        self.output = nn.Linear(config.dim, vocab_size)

    def forward(
        self,
        features: Tensor,
        lengths: Sequence[int],
        with_routing: bool = False,
        left_out: Collection[int] = (),
        recompute: bool = False,
    ) -> CtcOutput:
        """Score log-mel features (B, frames, n_mels), padded to the longest of `lengths` frames.

        left_out and recompute are the encoder's.
        """
        x = (features - self.feature_mean) / self.feature_std
        encoded = self.encoder(x, lengths, with_routing, left_out, recompute)
        log_probs = self.output(encoded.x_TD).float().log_softmax(dim=1)
        return CtcOutput(log_probs, encoded.packing, encoded.balance_loss, encoded.routing)


def ctc_losses(output: CtcOutput, targets: Tensor, target_lengths: Sequence[int]) -> Tensor:
    """CTC loss of each utterance in fp32, summed over its labels: (B,); targets are the concatenated labels (ΣU,)."""
    log_probs_LBV = output.packing.unpack(output.log_probs_TV).transpose(0, 1)
    return F.ctc_loss(
        log_probs_LBV,
        targets,
        torch.tensor(output.packing.lengths),
        torch.tensor(target_lengths),
        BLANK,
        reduction="none",
    )


def ctc_loss(output: CtcOutput, targets: Tensor, target_lengths: Sequence[int]) -> Tensor:
    """Sum of `ctc_losses` over the batch."""
    return ctc_losses(output, targets, target_lengths).sum()


def parameter_counts(model: CtcModel) -> tuple[int, int]:
    """Count parameters: all, and those active for one token (top_k of a layer's N experts)."""
    total = sum(p.numel() for p in model.parameters())
    idle = 0
    for block, plan in zip(model.encoder.blocks, model.encoder.plan, strict=True):
        if plan.experts:
            idle += (
                sum(p.numel() for p in block.ffn.parameters())
                * (plan.experts - model.encoder.config.top_k)
                // plan.experts
            )
    return total, total - idle
