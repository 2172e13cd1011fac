"""Feed-forward networks: a dense one, and N experts with dropless sorted dispatch.

Names carry shapes: T valid tokens, D model width, F inner width, N experts, K experts a token is sent to.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnirouter.models.router import Routing


class FeedForward(nn.Module):
    """Linear, ReLU, linear, with biases."""

    def __init__(self, dim: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.inner = nn.Linear(dim, ffn_dim)
        self.outer = nn.Linear(ffn_dim, dim)

    def forward(self, x_TD: Tensor) -> Tensor:
        """Map packed tokens (T, D) to (T, D)."""
        return self.outer(F.dropout(F.relu(self.inner(x_TD)), self.dropout, self.training))


class Experts(nn.Module):
    """N feed-forward networks as stacked parameters; each token visits the experts of its routing, none is dropped."""

    def __init__(self, dim: int, ffn_dim: int, experts: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        # Initialised expert by expert as nn.Linear would be: torch takes a stacked (N, F, D) tensor's fan-in for F·D.
        inner = [nn.Linear(dim, ffn_dim) for _ in range(experts)]
        outer = [nn.Linear(ffn_dim, dim) for _ in range(experts)]
        self.inner_weight = nn.Parameter(torch.stack([linear.weight.detach() for linear in inner]))
        self.inner_bias = nn.Parameter(torch.stack([linear.bias.detach() for linear in inner]))
        self.outer_weight = nn.Parameter(torch.stack([linear.weight.detach() for linear in outer]))
        self.outer_bias = nn.Parameter(torch.stack([linear.bias.detach() for linear in outer]))

    def forward(self, x_TD: Tensor, routing: Routing) -> Tensor:
        """Sum of the chosen experts' outputs, each scaled by its probability (eq. 2): (T, D)."""
        k = routing.experts_TK.shape[1]
        chosen = routing.experts_TK.flatten()
        order = chosen.argsort(stable=True)
        counts = torch.bincount(chosen, minlength=len(self.inner_weight)).tolist()
        y = self._run(x_TD.index_select(0, order // k), counts)
        y = y.index_select(0, torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device)))
        weights = routing.weights_TK.to(y.dtype)
        return (y.unflatten(0, (-1, k)) * weights.unsqueeze(2)).sum(dim=1)

    def _run(self, x_sorted: Tensor, counts: list[int]) -> Tensor:
        """Apply expert j to its counts[j] tokens; one without tokens still joins the graph, with zero gradient."""
        weights = (self.inner_weight, self.inner_bias, self.outer_weight, self.outer_bias)
        experts = zip(*(weight.unbind(0) for weight in weights), strict=True)
        outputs = []
        for x, (w_inner, b_inner, w_outer, b_outer) in zip(x_sorted.split(counts), experts, strict=True):
            hidden = F.dropout(F.relu(F.linear(x, w_inner, b_inner)), self.dropout, self.training)
            outputs.append(F.linear(hidden, w_outer, b_outer))
        return torch.cat(outputs)
