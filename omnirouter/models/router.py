"""The router of a mixture of experts, its load-balancing loss and its z-loss.

Names carry shapes: T valid tokens, D model width, N experts, K experts a token is sent to.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
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
    logits_TN: Tensor | None = None
    """What the softmax was taken of, fp32; None where probabilities were not made by a router."""


class Router(nn.Module):
    """One bias-free D × N matrix (eq. 1); shared by several layers it is W^shared of eq. 6."""

    def __init__(self, dim: int, experts: int, top_k: int, jitter: float = 0.0) -> None:
        super().__init__()
        self.top_k, self.jitter = top_k, jitter
        self.weight = nn.Parameter(torch.empty(dim, experts).uniform_(-(dim**-0.5), dim**-0.5))

    def forward(self, x_TD: Tensor) -> Routing:
        """Route tokens (T, D); always in fp32, also under autocast.

        Softmax comes before top-k, so the weight of a single chosen expert depends on W and CTC alone trains it.
        In training each input is first multiplied by noise within 1 ± jitter; the experts see it without.
        """
        with torch.autocast(x_TD.device.type, enabled=False):
            x_TD = x_TD.float()
            if self.training and self.jitter:
                x_TD = x_TD * torch.empty_like(x_TD).uniform_(1 - self.jitter, 1 + self.jitter)
            # On a CPU a product with a matrix of few columns takes twice as long, and a softmax over rows of few values
            # six times: so the matrix is given as rows, and the softmax taken over columns.
            logits = F.linear(x_TD, self.weight.float().T.contiguous())
            probs = logits.T.contiguous().softmax(dim=0).T
        # On a CPU one maximum takes a third of topk's time.
        weights, experts = probs.max(dim=1, keepdim=True) if self.top_k == 1 else probs.topk(self.top_k, dim=1)
        return Routing(probs, experts, weights, logits)


def expert_load(routing: Routing) -> Tensor:
    """Share of the K·T assignments that each expert gets (eq. 3 for K = 1): (N,), sums to 1."""
    chosen = routing.experts_TK.flatten()
    experts = torch.arange(routing.probs_TN.shape[1], device=chosen.device)
    counts = (chosen.unsqueeze(1) == experts).sum(dim=0)  # bincount would make the host wait for a GPU
    return counts / max(len(chosen), 1)


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


def z_loss(routings: Iterable[Routing]) -> Tensor:
    """Sum over layers of the mean over tokens of log²(Σ_j exp logit_j), which keeps logits small (Zoph et al. 2022).

    Without layers it is 0. The routings must be those of a router, not made from probabilities.
    """
    logits = [routing.logits_TN for routing in routings]
    return sum((layer.logsumexp(dim=1).square().mean() for layer in logits), torch.zeros(()))
