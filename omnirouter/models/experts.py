"""Feed-forward networks: a dense one, and N experts with dropless sorted dispatch.

Names carry shapes: T valid tokens, D model width, F inner width, N experts, K experts a token is sent to.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
        return self.outer(F.dropout(self.inner(x_TD).relu_(), self.dropout, self.training))


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
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        x_sorted = x_TD.index_select(0, order if k == 1 else order // k)
        x_sorted = x_sorted.to(_compute_dtype(x_TD))
        y = self._grouped(x_sorted, chosen) if self._can_group(x_sorted) else self._loop(x_sorted, chosen)
        y, weights_TK = y.index_select(0, place), routing.weights_TK.to(y.dtype)
        return y * weights_TK if k == 1 else (y.unflatten(0, (-1, k)) * weights_TK.unsqueeze(2)).sum(dim=1)

    def _can_group(self, x_sorted: Tensor) -> bool:
        """Tell whether the grouped kernel takes these tensors: bf16 on a GPU, rows of whole 16 bytes."""
        aligned = all(size % ALIGNMENT == 0 for size in self.inner_weight.shape[1:])
        return x_sorted.is_cuda and x_sorted.dtype == torch.bfloat16 and aligned and hasattr(F, "grouped_mm")

    def _loop(self, x_sorted: Tensor, chosen: Tensor) -> Tensor:
        """One matrix product an expert; one without tokens still joins the graph, with zero gradient."""
        counts = torch.bincount(chosen, minlength=len(self.inner_weight)).tolist()
        parameters = (self.inner_weight, self.inner_bias, self.outer_weight, self.outer_bias)
        w_inner, b_inner, w_outer, b_outer = (parameter.to(x_sorted.dtype) for parameter in parameters)
        dropout = self.dropout if self.training else 0.0
        keep = torch.is_grad_enabled()
        return _SortedExperts.apply(x_sorted, w_inner, b_inner, w_outer, b_outer, counts, dropout, keep)

    def _grouped(self, x_sorted: Tensor, chosen: Tensor) -> Tensor:
        """All experts in one matrix product; the host never waits for the counts.

        The kernel knows no bias. The inner one is a column of the weights that meets a one; the outer one comes of a
        product with the choices as one-hot rows, whose gradient, unlike that of gathered rows, is a product too.
        """
        dtype, experts = x_sorted.dtype, torch.arange(len(self.inner_weight), device=chosen.device)
        ends = torch.searchsorted(chosen, experts, right=True).to(torch.int32)
        bias = F.pad(self.inner_bias.unsqueeze(2), (0, ALIGNMENT - 1))
        inner = torch.cat((self.inner_weight, bias), dim=2).to(dtype).transpose(1, 2)
        hidden = F.grouped_mm(F.pad(x_sorted, (0, ALIGNMENT), value=1.0), inner, offs=ends).relu_()
        hidden = F.dropout(hidden, self.dropout, self.training)
        y = F.grouped_mm(hidden, self.outer_weight.to(dtype).transpose(1, 2), offs=ends)
        return y + (chosen.unsqueeze(1) == experts).to(dtype) @ self.outer_bias.to(dtype)


class _SortedExperts(torch.autograd.Function):
    """Expert j on the j-th of the parts that tokens sorted by expert are cut into: linear, ReLU, dropout, linear.

    Autograd by itself would make each expert's gradients apart and then copy them into those of the stacked weights,
    which at 1000 tokens and 8 experts takes a tenth of the layer's time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *args: Any) -> Tensor:
        """Tokens (T, D) to (T, D); args: weights and biases, tokens of each expert, dropout, whether to keep what
        the backward pass needs: else the experts' hidden values take one another's place, near the processor."""
        *parameters, counts, dropout, keep = args
        w_inner, _, w_outer, _ = parameters
        hidden = x.new_empty(len(x) if keep else max(counts), w_inner.shape[1])
        y = x.new_empty(len(x), w_outer.shape[1])
        hiddens = hidden.split(counts) if keep else [hidden[:count] for count in counts]
        parts = zip(x.split(counts), hiddens, y.split(counts), *parameters, strict=True)
        for x_j, hidden_j, y_j, w_inner_j, b_inner_j, w_outer_j, b_outer_j in parts:
            torch.addmm(b_inner_j, x_j, w_inner_j.T, out=hidden_j).relu_()
            if dropout:
                F.dropout(hidden_j, dropout, inplace=True)
            torch.addmm(b_outer_j, hidden_j, w_outer_j.T, out=y_j)
        if keep:
            ctx.save_for_backward(x, hidden, w_inner, w_outer)
        ctx.counts, ctx.dropout = counts, dropout
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, y_grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of tokens, weights and biases; where ReLU or dropout gave zero, nothing flows back."""
        x, hidden, *weights = ctx.saved_tensors
        x_grad, w_grads = torch.empty_like(x), [torch.empty_like(weight) for weight in weights]
        b_grads = [weight.new_empty(weight.shape[:2]) for weight in weights]
        parts = [tensor.split(ctx.counts) for tensor in (x, hidden, y_grad, x_grad)]
        for j, (x_j, hidden_j, y_grad_j, x_grad_j) in enumerate(zip(*parts, strict=True)):
            torch.mm(y_grad_j.T, hidden_j, out=w_grads[1][j])
            torch.sum(y_grad_j, 0, out=b_grads[1][j])
            hidden_grad = torch.ops.aten.threshold_backward(y_grad_j @ weights[1][j], hidden_j, 0)
            if ctx.dropout:
                hidden_grad *= 1 / (1 - ctx.dropout)
            torch.mm(hidden_grad.T, x_j, out=w_grads[0][j])
            torch.sum(hidden_grad, 0, out=b_grads[0][j])
            torch.mm(hidden_grad, weights[0][j], out=x_grad_j)
        return x_grad, w_grads[0], b_grads[0], w_grads[1], b_grads[1], None, None, None


def _compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of a matrix product with x; what is written into a given tensor does not know autocast."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
