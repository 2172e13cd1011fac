"""The router of a mixture of experts and its load-balancing loss.

Names carry shapes: T valid tokens, D model width, N experts, K experts a token is sent to.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Routing:
    """One layer's routing decisions for T tokens."""

    probs_TN: Tensor
    """Softmax over all N experts, fp32 (eq. 1)."""
    experts_TK: Tensor
    """Indices of the K experts chosen, most probable first."""
    weights_TK: Tensor
    """Probabilities of the chosen experts, by which their outputs are scaled (eq. 2)."""


class Router(nn.Module):
    """One bias-free D × N matrix (eq. 1); shared by several layers it is W^shared of eq. 6."""

    def __init__(self, dim: int, experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.weight = nn.Parameter(torch.empty(dim, experts).uniform_(-(dim**-0.5), dim**-0.5))

    def forward(self, x_TD: Tensor) -> Routing:
        """Route tokens (T, D); always in fp32, also under autocast.

        Softmax comes before top-k, so the weight of a single chosen expert depends on W and CTC alone trains it.
        """
        with torch.autocast(x_TD.device.type, enabled=False):
            probs = (x_TD.float() @ self.weight.float()).softmax(dim=1)
        weights, experts = probs.topk(self.top_k, dim=1)
        return Routing(probs, experts, weights)


def expert_load(routing: Routing) -> Tensor:
    """Share of the K·T assignments that each expert gets (eq. 3 for K = 1): (N,), sums to 1."""
    experts = routing.experts_TK.flatten()
    return torch.bincount(experts, minlength=routing.probs_TN.shape[1]) / max(experts.numel(), 1)


def balance_loss(routing: Routing, form: str) -> Tensor:
    """Load-balancing loss of one layer over the tokens of a micro-batch, N Σ_j f_j ρ_j (eq. 5).

    form "switch": ρ_j is the mean over all tokens of the probability of expert j (Fedus et al. 2022, eq. 6), which
    pulls towards a balanced load. form "paper": ρ_j sums only the tokens dispatched to j (eq. 4 as printed), which
    also pulls each token's top probability down to 1/N.
    """
    probs = routing.probs_TN
    if form == "paper":
        probs = torch.zeros_like(probs).scatter(1, routing.experts_TK, routing.weights_TK)
    return probs.shape[1] * (expert_load(routing) * probs.mean(dim=0)).sum()
