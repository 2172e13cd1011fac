"""Equations 1 to 5 against hand-computed values."""

import math

import pytest
import torch

from omnirouter.models.router import Router, Routing, balance_loss, expert_load, z_loss


def routing_of(probs: list[list[float]], k: int = 1) -> Routing:
    p = torch.tensor(probs)
    weights, experts = p.topk(k, dim=1)
    return Routing(p, experts, weights)


def test_router_is_softmax_over_all_experts_then_top_k() -> None:
    router = Router(2, 3, top_k=2)
    with torch.no_grad():
        router.weight.copy_(torch.tensor([[0.0, math.log(2), math.log(5)], [9.0, 9.0, 9.0]]))
    routing = router(torch.tensor([[1.0, 0.0]]))  # logits 0, log 2, log 5: probabilities 1/8, 2/8, 5/8
    torch.testing.assert_close(routing.probs_TN, torch.tensor([[1 / 8, 2 / 8, 5 / 8]]))
    assert routing.experts_TK.tolist() == [[2, 1]]
    # eq. 2 scales by the probability itself: after top-k nothing is renormalised.
    torch.testing.assert_close(routing.weights_TK, torch.tensor([[5 / 8, 2 / 8]]))
    router.top_k = 1
    routing = router(torch.tensor([[1.0, 0.0]]))
    assert routing.experts_TK.tolist() == [[2]]
    torch.testing.assert_close(routing.weights_TK, torch.tensor([[5 / 8]]))


def test_router_stays_fp32_under_autocast() -> None:
    router = Router(64, 4, top_k=1)
    x = torch.randn(10, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        probs = router(x).probs_TN
    assert probs.dtype == torch.float32
    torch.testing.assert_close(probs, (x @ router.weight).softmax(1))


TOKENS = [[0.7, 0.3], [0.6, 0.4], [0.9, 0.1], [0.2, 0.8]]  # three tokens to expert 0, one to expert 1


def test_load_is_the_share_of_tokens_per_expert() -> None:
    assert expert_load(routing_of(TOKENS)).tolist() == [0.75, 0.25]  # eq. 3


def test_switch_balance_loss_by_hand() -> None:
    # mean probabilities (0.7+0.6+0.9+0.2)/4 = 0.6 and 0.4: 2 (0.75·0.6 + 0.25·0.4) = 1.1
    assert float(balance_loss(routing_of(TOKENS), "switch")) == pytest.approx(1.1)


def test_paper_balance_loss_by_hand() -> None:
    # eq. 4: (0.7+0.6+0.9)/4 = 0.55 and 0.8/4 = 0.2: 2 (0.75·0.55 + 0.25·0.2) = 0.925
    assert float(balance_loss(routing_of(TOKENS), "paper")) == pytest.approx(0.925)


def test_load_and_balance_loss_count_all_k_assignments() -> None:
    routing = routing_of([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]], k=2)  # to experts 0, 1 and 2, 1
    assert expert_load(routing).tolist() == [0.25, 0.5, 0.25]
    # mean probabilities 0.3, 0.3, 0.4: 3 (0.25·0.3 + 0.5·0.3 + 0.25·0.4) = 0.975
    assert float(balance_loss(routing, "switch")) == pytest.approx(0.975)
    # only chosen ones: 0.25, 0.3, 0.3: 3 (0.0625 + 0.15 + 0.075) = 0.8625
    assert float(balance_loss(routing, "paper")) == pytest.approx(0.8625)


@pytest.mark.parametrize(("form", "gain"), [("switch", False), ("paper", True)])
def test_only_the_printed_form_rewards_a_router_that_does_not_decide(form: str, gain: bool) -> None:
    # Both routers are balanced; one decides, the other is nearly uniform.
    decided = balance_loss(routing_of([[0.97, 0.01, 0.01, 0.01], [0.01, 0.97, 0.01, 0.01],
                                       [0.01, 0.01, 0.97, 0.01], [0.01, 0.01, 0.01, 0.97]]), form)  # fmt: skip
    uniform = balance_loss(routing_of([[0.28, 0.24, 0.24, 0.24], [0.24, 0.28, 0.24, 0.24],
                                       [0.24, 0.24, 0.28, 0.24], [0.24, 0.24, 0.24, 0.28]]), form)  # fmt: skip
    assert bool(uniform < decided - 0.1) == gain


def test_jitter_multiplies_the_routers_input_by_uniform_noise_in_training_only() -> None:
    torch.manual_seed(0)
    router = Router(3, 3, top_k=1, jitter=0.25)
    with torch.no_grad():
        router.weight.copy_(torch.eye(3))  # logits are the input as the router sees it
    x = torch.tensor([[2.0, -1.0, 4.0]]).expand(5000, 3)
    noise = router.train()(x).logits_TN / x
    assert 0.75 <= noise.min() < 0.7505 and 1.2495 < noise.max() <= 1.25
    assert noise.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.02)
    assert torch.corrcoef(noise.T).triu(1).abs().max() < 0.05  # each feature has noise of its own
    assert torch.equal(router.eval()(x).logits_TN, x)


def test_jitter_is_drawn_from_the_seeded_generator_and_in_fp32() -> None:
    router, x = Router(8, 2, top_k=1, jitter=0.1), torch.randn(4, 8)
    logits = []
    for autocast in (False, True):
        torch.manual_seed(3)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            logits.append(router(x.bfloat16()).logits_TN)
    assert torch.equal(*logits) and logits[0].dtype == torch.float32


def test_without_jitter_nothing_is_drawn_and_nothing_changes() -> None:
    router, x = Router(8, 2, top_k=1), torch.randn(4, 8)
    before = torch.get_rng_state()
    probs = router.train()(x).probs_TN
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(probs, router.eval()(x).probs_TN)


def test_z_loss_by_hand() -> None:
    def of_logits(logits: list[list[float]]) -> Routing:
        routing, values = routing_of([[1.0, 0.0]]), torch.tensor(logits)
        return Routing(routing.probs_TN, routing.experts_TK, routing.weights_TK, values)

    # Σ exp: 1 + 3 = 4 and e² + e² = 2 e²; the other layer's is 5.
    first, second = of_logits([[0.0, math.log(3)], [2.0, 2.0]]), of_logits([[math.log(2), math.log(3)]])
    wanted = (math.log(4) ** 2 + (2 + math.log(2)) ** 2) / 2 + math.log(5) ** 2
    assert float(z_loss([first, second])) == pytest.approx(wanted)
    assert float(z_loss([])) == 0
