"""The sorted dispatch against a slow one-hot reference, and the initialisation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from omnirouter.models.experts import Experts, FeedForward
from omnirouter.models.router import Routing


def reference(experts: Experts, x: Tensor, routing: Routing) -> Tensor:
    """Eq. 2 as written: every expert runs on every token, a one-hot gate keeps the chosen ones."""
    gate = torch.zeros_like(routing.probs_TN)
    for k in range(routing.experts_TK.shape[1]):
        gate = gate + F.one_hot(routing.experts_TK[:, k], gate.shape[1]) * routing.weights_TK[:, k : k + 1]
    hidden = torch.relu(torch.einsum("td,nfd->ntf", x, experts.inner_weight) + experts.inner_bias[:, None])
    y = torch.einsum("ntf,ndf->ntd", hidden, experts.outer_weight) + experts.outer_bias[:, None]
    return torch.einsum("ntd,tn->td", y, gate)


def random_routing(tokens: int, logits: Tensor, k: int) -> Routing:
    probs = (torch.randn(tokens, len(logits)) + logits).softmax(1).requires_grad_()
    weights, chosen = probs.topk(k, dim=1)
    return Routing(probs, chosen, weights)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("tokens", [1, 7, 300])
@pytest.mark.parametrize("skew", [[0.0, 0, 0, 0], [8.0, 0, 0, 0], [0.0, 0, -99, -99]], ids=["even", "skewed", "empty"])
def test_dispatch_equals_one_hot_reference(k: int, tokens: int, skew: list[float]) -> None:
    torch.manual_seed(0)
    experts = Experts(16, 24, 4, dropout=0.0)
    x = torch.randn(tokens, 16, requires_grad=True)
    routing = random_routing(tokens, torch.tensor(skew), k)
    wanted, got = reference(experts, x, routing), experts(x, routing)
    torch.testing.assert_close(got, wanted)
    with torch.no_grad():  # hidden values are not kept
        assert torch.equal(experts(x, routing), got)
    inputs = [x, routing.probs_TN, *experts.parameters()]
    direction = torch.randn_like(wanted)
    for mine, its in zip(
        torch.autograd.grad(got, inputs, direction, retain_graph=True),
        torch.autograd.grad(wanted, inputs, direction),
        strict=True,
    ):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


def bf16_errors(device: str, k: int, skew: list[float]) -> list[float]:
    """Errors of output and gradients in bf16 on a device, relative to the reference in fp32 on the CPU."""
    torch.manual_seed(0)
    experts, x = Experts(64, 128, 4, dropout=0.0), torch.randn(300, 64, requires_grad=True)
    routing, direction = random_routing(300, torch.tensor(skew), k), torch.randn(300, 64)
    wanted = reference(experts, x, routing)
    gradients = torch.autograd.grad(wanted, [x, routing.probs_TN, *experts.parameters()], direction)
    its, its_x = copy.deepcopy(experts).to(device), x.detach().to(device).requires_grad_()
    probs, chosen = routing.probs_TN.detach().to(device).requires_grad_(), routing.experts_TK.to(device)
    with torch.autocast(device, torch.bfloat16):
        got = its(its_x, Routing(probs, chosen, probs.gather(1, chosen)))
    its_gradients = torch.autograd.grad(got, [its_x, probs, *its.parameters()], direction.to(device, got.dtype))
    pairs = zip((got, *its_gradients), (wanted, *gradients), strict=True)
    with torch.no_grad():
        return [float((mine.float().cpu() - other).norm() / other.norm()) for mine, other in pairs]


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("skew", [[0.0, 0, 0, 0], [0.0, 0, -99, -99]], ids=["even", "empty"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_bf16_comes_near_the_reference_on_a_gpu_by_the_grouped_kernel(
    monkeypatch: pytest.MonkeyPatch, device: str, k: int, skew: list[float]
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA GPU")
    grouped, original = [], getattr(F, "grouped_mm", None)
    monkeypatch.setattr(F, "grouped_mm", lambda *a, **o: grouped.append(1) or original(*a, **o), raising=False)
    output, *gradients = bf16_errors(device, k, skew)
    assert output < 0.02 and max(gradients) < 0.1  # which hidden units ReLU lets through differs at some places
    assert bool(grouped) == (device == "cuda" and original is not None)


def plain(experts: Experts, x: Tensor, routing: Routing) -> Tensor:
    """Top-1 experts one after the other, differentiated by autograd."""
    y = torch.zeros_like(x)
    for j in range(len(experts.inner_weight)):
        tokens = (routing.experts_TK[:, 0] == j).nonzero().squeeze(1)
        hidden = F.relu(F.linear(x[tokens], experts.inner_weight[j], experts.inner_bias[j]))
        hidden = F.dropout(hidden, experts.dropout, experts.training)
        y = y.index_copy(0, tokens, F.linear(hidden, experts.outer_weight[j], experts.outer_bias[j]))
    return y * routing.weights_TK


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_and_gradients_are_those_of_plain_layers(dropout: float) -> None:
    torch.manual_seed(0)
    experts = Experts(16, 24, 4, dropout)
    x = torch.randn(300, 16, requires_grad=True)
    routing = random_routing(300, torch.tensor([2.0, 0, 0, -99]), 1)
    inputs, direction = [x, routing.probs_TN, *experts.parameters()], torch.randn(300, 16)
    values, gradients = [], []
    for run in (plain, Experts.__call__):
        torch.manual_seed(1)
        values.append(run(experts, x, routing))
        gradients.append(torch.autograd.grad(values[-1], inputs, direction, retain_graph=True))
    assert torch.equal(*values)
    for its, mine in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, its)
    if dropout:
        assert not torch.equal(values[0], experts(x, routing))
        assert torch.equal(plain(experts.eval(), x, routing), experts(x, routing))


def test_under_autocast_experts_compute_in_bf16_and_gradients_are_fp32() -> None:
    torch.manual_seed(0)
    experts = Experts(16, 24, 4, 0.0)
    x, routing = torch.randn(50, 16), random_routing(50, torch.zeros(4), 1)
    with torch.autocast("cpu", torch.bfloat16):
        half = experts(x, routing)
    assert half.dtype == torch.bfloat16
    half.float().sum().backward(retain_graph=True)
    halves = [parameter.grad.clone() for parameter in experts.parameters()]
    experts.zero_grad()
    experts(x, routing).sum().backward()
    for parameter, its in zip(experts.parameters(), halves, strict=True):
        assert its.dtype == torch.float32
        torch.testing.assert_close(its, parameter.grad, rtol=0.05, atol=0.05)


@pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="this torch has no grouped_mm")
@pytest.mark.parametrize("skew", [[0.0, 0, 0, 0], [8.0, 0, 0, 0], [0.0, 0, -99, -99]], ids=["even", "skewed", "empty"])
@pytest.mark.parametrize("k", [1, 2])
def test_grouped_dispatch_equals_the_loop(monkeypatch: pytest.MonkeyPatch, k: int, skew: list[float]) -> None:
    torch.manual_seed(0)
    experts = Experts(16, 24, 4, dropout=0.0)
    x = torch.randn(300, 16, requires_grad=True)
    routing = random_routing(300, torch.tensor(skew), k)
    direction = torch.randn(300, 16)
    inputs = [x, routing.probs_TN, *experts.parameters()]
    wanted = experts(x, routing)
    monkeypatch.setattr(Experts, "_can_group", lambda *_: True)  # on a GPU it is for bf16 alone; the CPU's takes fp32
    monkeypatch.setattr(Experts, "_loop", None)
    got = experts(x, routing)
    torch.testing.assert_close(got, wanted)
    gradients = [torch.autograd.grad(y, inputs, direction, retain_graph=True) for y in (got, wanted)]
    for mine, its in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = experts(x, routing)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), wanted, rtol=0.02, atol=0.02)


def test_empty_expert_has_a_zero_gradient_not_none() -> None:
    experts = Experts(8, 8, 3, dropout=0.0)
    probs = torch.tensor([[0.8, 0.1, 0.1]] * 5)
    experts(
        torch.randn(5, 8), Routing(probs, probs.argmax(1, keepdim=True), probs.amax(1, keepdim=True))
    ).sum().backward()
    for parameter in experts.parameters():
        assert parameter.grad is not None
        assert parameter.grad[0].abs().sum() > 0
        assert parameter.grad[1:].abs().sum() == 0


def test_each_expert_is_initialised_as_linear() -> None:
    torch.manual_seed(0)
    experts, dense = Experts(64, 256, 8, 0.0), FeedForward(64, 256, 0.0)
    # nn.Linear is uniform within ±1/sqrt(fan-in): 1/8 for the inner weights, 1/16 for the outer.
    for weight, linear, bound in (
        (experts.inner_weight, dense.inner, 1 / 8),
        (experts.outer_weight, dense.outer, 1 / 16),
    ):
        for expert in weight.detach():
            assert 0.99 * bound < expert.abs().max() <= bound
            assert expert.std() == pytest.approx(bound / 3**0.5, rel=0.05)
            assert expert.std() == pytest.approx(linear.weight.std().item(), rel=0.05)
    for bias, bound in ((experts.inner_bias.detach(), 1 / 8), (experts.outer_bias.detach(), 1 / 16)):
        assert 0.9 * bound < bias.abs().max() <= bound
        assert bias.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert not torch.equal(experts.inner_weight[0], experts.inner_weight[1])


def test_one_expert_with_probability_one_is_the_dense_network() -> None:
    torch.manual_seed(0)
    experts, dense = Experts(16, 32, 1, 0.0), FeedForward(16, 32, 0.0)
    with torch.no_grad():
        dense.inner.weight.copy_(experts.inner_weight[0])
        dense.inner.bias.copy_(experts.inner_bias[0])
        dense.outer.weight.copy_(experts.outer_weight[0])
        dense.outer.bias.copy_(experts.outer_bias[0])
    x, ones = torch.randn(9, 16), torch.ones(9, 1)
    torch.testing.assert_close(experts(x, Routing(ones, torch.zeros(9, 1, dtype=torch.long), ones)), dense(x))
