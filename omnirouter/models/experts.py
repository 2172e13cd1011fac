"""Feed-forward networks: a dense one, and N experts with dropless sorted dispatch.

Names carry shapes: T valid tokens, D model width, F inner width, N experts, K experts a token is sent to.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnirouter.models.router import Routing

ALIGNMENT = 8
"""Values of bf16 in the 16 bytes that the rows of a grouped matrix product have to be a multiple of."""


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
        chosen, order = routing.experts_TK.flatten().sort(stable=True)
        x_sorted = x_TD.index_select(0, order // k)
        dtype = _compute_dtype(x_TD)
        y = self._grouped(x_sorted.to(dtype), chosen) if self._can_group(x_TD, dtype) else self._loop(x_sorted, chosen)
        y = y.index_select(0, torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device)))
        y = y.unflatten(0, (-1, k)) * routing.weights_TK.to(y.dtype).unsqueeze(2)
        return y.squeeze(1) if k == 1 else y.sum(dim=1)

    def _can_group(self, x: Tensor, dtype: torch.dtype) -> bool:
        """Tell whether the grouped kernel takes these tensors: bf16 on a GPU, rows of whole 16 bytes."""
        aligned = all(size % ALIGNMENT == 0 for size in self.inner_weight.shape[1:])
        return x.is_cuda and dtype == torch.bfloat16 and aligned and hasattr(F, "grouped_mm")

    def _loop(self, x_sorted: Tensor, chosen: Tensor) -> Tensor:
        """One matrix product an expert; one without tokens still joins the graph, with zero gradient."""
        counts = torch.bincount(chosen, minlength=len(self.inner_weight)).tolist()
        weights = (self.inner_weight, self.inner_bias, self.outer_weight, self.outer_bias)
        experts = zip(*(weight.unbind(0) for weight in weights), strict=True)
        outputs = []
        for x, (w_inner, b_inner, w_outer, b_outer) in zip(x_sorted.split(counts), experts, strict=True):
            hidden = F.dropout(F.relu(F.linear(x, w_inner, b_inner)), self.dropout, self.training)
            outputs.append(F.linear(hidden, w_outer, b_outer))
        return torch.cat(outputs)

    def _grouped(self, x_sorted: Tensor, chosen: Tensor) -> Tensor:
        """All experts in one matrix product; the host never waits for the counts.

        The kernel knows no bias. The inner one is a column of the weights that meets a one; the outer one comes of a
        product with the choices as one-hot rows, whose gradient, unlike that of gathered rows, is a product too.
        """
        dtype, experts = x_sorted.dtype, torch.arange(len(self.inner_weight), device=chosen.device)
        ends = torch.searchsorted(chosen, experts, right=True).to(torch.int32)
        bias = F.pad(self.inner_bias.unsqueeze(2), (0, ALIGNMENT - 1))
        inner = torch.cat((self.inner_weight, bias), dim=2).to(dtype).transpose(1, 2)
        hidden = F.relu(F.grouped_mm(F.pad(x_sorted, (0, ALIGNMENT), value=1.0), inner, offs=ends))
        hidden = F.dropout(hidden, self.dropout, self.training)
        y = F.grouped_mm(hidden, self.outer_weight.to(dtype).transpose(1, 2), offs=ends)
        return y + (chosen.unsqueeze(1) == experts).to(dtype) @ self.outer_bias.to(dtype)


def _compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of a matrix product with x; the grouped one does not know autocast."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
