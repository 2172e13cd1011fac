"""The Transformer encoder: dense, Switch or Omni-router, by configuration."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from omnirouter.models.attention import SelfAttention
from omnirouter.models.config import LayerPlan, ModelConfig, routing_plan
from omnirouter.models.experts import Experts, FeedForward
from omnirouter.models.packing import Packing
from omnirouter.models.positions import position_vectors
from omnirouter.models.router import Router, Routing, balance_loss


@dataclass(frozen=True)
class EncoderOutput:
    """What the encoder gives for one batch of T valid tokens."""

    x_TD: Tensor
    """Packed outputs."""
    packing: Packing
    """Which token belongs to which utterance."""
    balance_loss: Tensor
    """Sum of the layers' load-balancing losses over this micro-batch (eq. 5); 0 for a dense encoder."""
    routing: dict[int, Routing]
    """Routing of each MoE layer that ran, by layer index from 0; empty unless asked for."""


class Block(nn.Module):
    """Pre-norm Transformer block. Its router, where it has one, belongs to the encoder and is handed in."""

    def __init__(self, config: ModelConfig, plan: LayerPlan) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attention_norm = nn.LayerNorm(config.dim)
        self.attention = SelfAttention(config.dim, config.heads, config.attention_dropout)
        self.ffn_norm = nn.LayerNorm(config.dim)
        if plan.experts:
            self.ffn: nn.Module = Experts(config.dim, config.ffn_dim, plan.experts, config.dropout)
        else:
            self.ffn = FeedForward(config.dim, config.ffn_dim, config.dropout)

    def forward(self, x_TD: Tensor, packing: Packing, router: Router | None) -> tuple[Tensor, Routing | None]:
        """Return the new residual stream (T, D) and the routing."""
        x_TD = x_TD + self._drop(self.attention(self.attention_norm(x_TD), packing))
        y = self.ffn_norm(x_TD)
        if router is None:
            return x_TD + self._drop(self.ffn(y)), None
        routing = router(y)
        return x_TD + self._drop(self.ffn(y, routing)), routing

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class Encoder(nn.Module):
    """Stacked features to hidden vectors, one a token of `stack_frames` frames.

    The encoder owns the routers, so that a shared one is a single parameter under a single name.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.plan = config, routing_plan(config)
        self.input = nn.Linear(config.n_mels * config.stack_frames, config.dim)
        experts_of = {plan.router: plan.experts for plan in self.plan if plan.experts}
        self.routers = nn.ModuleList(
            Router(config.dim, experts_of[i], config.top_k, config.router_jitter) for i in sorted(experts_of)
        )
        self.blocks = nn.ModuleList(Block(config, plan) for plan in self.plan)
        self.final_norm = nn.LayerNorm(config.dim)

    def forward(
        self,
        features: Tensor,
        lengths: Sequence[int],
        with_routing: bool = False,
        left_out: Collection[int] = (),
        recompute: bool = False,
    ) -> EncoderOutput:
        """Encode normalised features (B, frames, n_mels) of `lengths` frames each.

        An utterance of n frames gives n // stack_frames tokens; at least one utterance must give one.
        left_out: indices of blocks to do without, for layer drop. recompute: keep only the blocks' inputs for the
        backward pass, which computes the rest again, dropout included.
        """
        x_TD, packing = self._embed(features, lengths)
        total = x_TD.new_zeros((), dtype=torch.float32)
        kept: dict[int, Routing] = {}
        for layer, (block, plan) in enumerate(zip(self.blocks, self.plan, strict=True)):
            if layer in left_out:
                continue
            router = self.routers[plan.router] if plan.experts else None
            if recompute:
                x_TD, routing = checkpoint(block, x_TD, packing, router, use_reentrant=False)
            else:
                x_TD, routing = block(x_TD, packing, router)
            if routing is not None:
                total = total + balance_loss(routing, self.config.balance)
                if with_routing:
                    kept[layer] = routing
        return EncoderOutput(self.final_norm(x_TD), packing, total, kept)

    def _embed(self, features: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Packing]:
        stack = self.config.stack_frames
        packing = Packing([length // stack for length in lengths], features.device)
        frames = packing.longest * stack
        x = packing.pack(features[:, :frames].reshape(len(lengths), packing.longest, -1))
        positions = position_vectors(self.config, packing, x.device, self.training)
        return F.dropout(self.input(x) + positions, self.config.dropout, self.training), packing
