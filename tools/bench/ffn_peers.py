"""The mixture of experts of others, each with the weights of ours, so that all compute the same function.

Names carry shapes: T tokens, D model width, F inner width, N experts. Each maps packed tokens (T, D) to (T, D), router
included, top-1. Hugging Face's experts have no biases, and that of torch's grouped product none either: ours are set
to zero by the benchmark.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnirouter.models.experts import Experts, FeedForward
from omnirouter.models.router import Router


class Ours(nn.Module):
    """The toolkit's own layer."""

    def __init__(self, router: Router, experts: Experts) -> None:
        super().__init__()
        self.router, self.experts = router, experts

    def forward(self, x_TD: Tensor) -> Tensor:
        return self.experts(x_TD, self.router(x_TD))

    def gradients(self) -> list[Tensor]:
        """Gradients of router (D, N), inner (N, F, D) and outer weights (N, D, F)."""
        return [p.grad for p in (self.router.weight, self.experts.inner_weight, self.experts.outer_weight)]


class Undispatched(nn.Module):
    """As many dense networks as experts, each on as many tokens in a row as its expert gets.

    What is left of a mixture's cost where routing, sorting and gathering cost nothing: the products' smaller sizes and
    the weights' number. It computes what the others do for tokens in the order of their experts, less the scaling.
    """

    def __init__(self, router: Router, experts: Experts, x_TD: Tensor) -> None:
        super().__init__()
        chosen = router(x_TD).experts_TK.flatten()
        self.counts = torch.bincount(chosen, minlength=len(experts.inner_weight)).tolist()
        self.experts = _apart(experts)

    def forward(self, x_TD: Tensor) -> Tensor:
        return torch.cat([expert(x_jD) for expert, x_jD in zip(self.experts, x_TD.split(self.counts), strict=True)])


class MaskedLoop(nn.Module):
    """Experts one after the other, each on the tokens that a boolean mask picks; wenet's way."""

    def __init__(self, router: Router, experts: Experts) -> None:
        super().__init__()
        self.router = Router(experts.inner_weight.shape[2], len(experts.inner_weight), top_k=1)
        self.experts = _apart(experts)
        with torch.no_grad():
            self.router.weight.copy_(router.weight)

    def forward(self, x_TD: Tensor) -> Tensor:
        routing = self.router(x_TD)
        y = torch.zeros_like(x_TD)
        for j, expert in enumerate(self.experts):
            token, choice = torch.where(routing.experts_TK == j)
            y[token] += (expert(x_TD[token]) * routing.weights_TK[token, choice].unsqueeze(1)).to(y.dtype)
        return y

    def gradients(self) -> list[Tensor]:
        """As of `Ours`."""
        inner = torch.stack([expert.inner.weight.grad for expert in self.experts])
        return [self.router.weight.grad, inner, torch.stack([expert.outer.weight.grad for expert in self.experts])]


class OneHot(nn.Module):
    """Dispatch and combine by products with one-hot tensors, each expert padded to a capacity; GShard's way.

    Tokens come in groups, as there; the capacity is the least that drops none of these tokens.
    """

    GROUP = 1024
    """Most tokens of a group; they share them out evenly."""

    def __init__(self, router: Router, experts: Experts, x_TD: Tensor) -> None:
        super().__init__()
        self.router = Router(*router.weight.shape, top_k=1)
        weights = (experts.inner_weight, experts.inner_bias, experts.outer_weight, experts.outer_bias)
        self.weights = nn.ParameterList(weight.detach().clone() for weight in weights)
        self.router.load_state_dict(router.state_dict())
        self.group = next(size for size in range(self.GROUP, 0, -1) if len(x_TD) % size == 0)
        chosen = router(x_TD).experts_TK.view(-1, self.group)
        self.capacity = max(int(torch.bincount(group).max()) for group in chosen)

    def forward(self, x_TD: Tensor) -> Tensor:
        w_inner, b_inner, w_outer, b_outer = self.weights
        routing = self.router(x_TD)
        x_GSD = x_TD.unflatten(0, (-1, self.group))
        one_hot = F.one_hot(routing.experts_TK.view(-1, self.group), len(w_inner))
        place = (one_hot.cumsum(1) * one_hot - 1).clamp(min=-1)
        dispatch_GSNC = (place.unsqueeze(3) == torch.arange(self.capacity, device=x_TD.device)).to(x_TD.dtype)
        combine_GSNC = dispatch_GSNC * routing.weights_TK.view(-1, self.group, 1, 1)
        x = torch.einsum("gsnc,gsd->ngcd", dispatch_GSNC, x_GSD).flatten(1, 2)
        hidden = F.relu(torch.einsum("ntd,nfd->ntf", x, w_inner) + b_inner.unsqueeze(1))
        y = torch.einsum("ntf,ndf->ntd", hidden, w_outer) + b_outer.unsqueeze(1)
        return torch.einsum("gsnc,ngcd->gsd", combine_GSNC, y.unflatten(1, (-1, self.capacity))).flatten(0, 1)

    def gradients(self) -> list[Tensor]:
        """As of `Ours`."""
        return [self.router.weight.grad, self.weights[0].grad, self.weights[2].grad]


class HuggingFace(nn.Module):
    """`SwitchTransformersSparseMLP` of transformers, with room for every token."""

    def __init__(self, router: Router, experts: Experts) -> None:
        super().__init__()
        from transformers import SwitchTransformersConfig
        from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersSparseMLP

        number, ffn_dim, dim = experts.inner_weight.shape
        config = SwitchTransformersConfig(
            d_model=dim, d_ff=ffn_dim, num_experts=number, expert_capacity=2**31, dropout_rate=0.0,
            router_jitter_noise=0.0, router_bias=False, dense_act_fn="relu",
        )  # fmt: skip
        self.layer = SwitchTransformersSparseMLP(config)
        self._experts = [self.layer.experts[f"expert_{j}"] for j in range(number)]
        with torch.no_grad():
            self.layer.router.classifier.weight.copy_(router.weight.T)
            for expert, inner, outer in zip(self._experts, experts.inner_weight, experts.outer_weight, strict=True):
                expert.wi.weight.copy_(inner)
                expert.wo.weight.copy_(outer)

    def forward(self, x_TD: Tensor) -> Tensor:
        return self.layer(x_TD.unsqueeze(0)).squeeze(0)

    def gradients(self) -> list[Tensor]:
        """As of `Ours`."""
        inner = torch.stack([expert.wi.weight.grad for expert in self._experts])
        outer = torch.stack([expert.wo.weight.grad for expert in self._experts])
        return [self.layer.router.classifier.weight.grad.T, inner, outer]


class GroupedMm(nn.Module):
    """`torch.nn.functional.grouped_mm` and nothing else: tokens sorted by expert, no biases."""

    def __init__(self, router: Router, experts: Experts) -> None:
        super().__init__()
        self.router = Router(*router.weight.shape, top_k=1)
        self.router.load_state_dict(router.state_dict())
        self.inner = nn.Parameter(experts.inner_weight.detach().clone())
        self.outer = nn.Parameter(experts.outer_weight.detach().clone())

    def forward(self, x_TD: Tensor) -> Tensor:
        device = x_TD.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_TD.dtype
        routing = self.router(x_TD)
        chosen, order = routing.experts_TK.squeeze(1).sort()
        experts = torch.arange(len(self.inner), device=x_TD.device)
        ends = torch.searchsorted(chosen, experts, right=True).to(torch.int32)
        x = x_TD.index_select(0, order).to(dtype)
        hidden = F.relu(F.grouped_mm(x, self.inner.to(dtype).transpose(1, 2), offs=ends))
        y = F.grouped_mm(hidden, self.outer.to(dtype).transpose(1, 2), offs=ends)
        return y.new_zeros(y.shape).index_copy(0, order, y) * routing.weights_TK.to(dtype)

    def gradients(self) -> list[Tensor]:
        """As of `Ours`."""
        return [self.router.weight.grad, self.inner.grad, self.outer.grad]


def _apart(experts: Experts) -> nn.ModuleList:
    """The experts as dense networks with weights of their own."""
    _, ffn_dim, dim = experts.inner_weight.shape
    networks = nn.ModuleList(FeedForward(dim, ffn_dim, 0.0) for _ in experts.inner_weight)
    with torch.no_grad():
        for j, network in enumerate(networks):
            network.inner.weight.copy_(experts.inner_weight[j])
            network.inner.bias.copy_(experts.inner_bias[j])
            network.outer.weight.copy_(experts.outer_weight[j])
            network.outer.bias.copy_(experts.outer_bias[j])
    return networks
