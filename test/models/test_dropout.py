"""Dropout: where it acts in training, what it does there, and that it rests in evaluation."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnirouter.models.attention import SelfAttention
from omnirouter.models.config import ModelConfig
from omnirouter.models.encoder import Encoder
from omnirouter.models.experts import Experts, FeedForward
from omnirouter.models.packing import Packing
from omnirouter.models.router import Routing

D, F_INNER, P = 8, 40, 0.25


def feed_forward() -> tuple[nn.Module, list[Tensor]]:
    module = FeedForward(D, F_INNER, P)
    return module, [torch.rand(100, D)]


def experts() -> tuple[nn.Module, list]:
    module = Experts(D, F_INNER, 3, P)
    chosen = torch.arange(100).unsqueeze(1) % 3
    return module, [torch.rand(100, D), Routing(torch.full((100, 3), 1 / 3), chosen, torch.ones(100, 1))]


@pytest.mark.parametrize("make", [feed_forward, experts])
def test_hidden_units_are_dropped_and_the_others_scaled(make, monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs = make()
    for name, parameter in module.named_parameters():  # hidden units of 1; the output is their mean
        value = {"inner.weight": 0.0, "inner.bias": 1.0, "outer.weight": 1 / F_INNER, "outer.bias": 0.0}
        nn.init.constant_(parameter, value[name.replace("_", ".")])
    y = module.train()(*inputs)
    kept = (y * F_INNER * (1 - P)).detach()  # how many of a token's hidden units are left
    torch.testing.assert_close(kept, kept.round(), rtol=0, atol=1e-4)
    assert kept[:, 0].mean() == pytest.approx(F_INNER * (1 - P), abs=1) and kept.min() < kept.max()
    torch.testing.assert_close(module.eval()(*inputs), torch.ones(100, D))


def test_attention_drops_keys() -> None:
    torch.manual_seed(0)
    attention, packing = SelfAttention(1, 1, P), Packing([40] * 50)
    nn.init.constant_(attention.qkv.weight, 1.0)
    nn.init.constant_(attention.out.weight, 1.0)
    x = torch.ones(50 * 40, 1)  # alike, so each of the 40 keys has a weight of 1/40
    kept = (attention.train()(x, packing) * 40 * (1 - P)).detach()
    torch.testing.assert_close(kept, kept.round(), rtol=0, atol=1e-3)
    assert kept.mean() == pytest.approx(40 * (1 - P), abs=0.5) and kept.min() < kept.max()
    torch.testing.assert_close(attention.eval()(x, packing), x)


@pytest.mark.parametrize("kind", ["dense", "omnirouter"])
def test_an_encoder_drops_after_the_input_in_each_ffn_and_on_both_branches(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig(encoder=kind, layers=2, dim=D, heads=2, ffn_dim=F_INNER, experts=2, dropout=P, n_mels=4)
    encoder, seen = Encoder(config), []
    original = F.dropout

    def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        seen.append((x.shape[1], len(x), p, training))
        return original(x, p, training, inplace)

    monkeypatch.setattr(F, "dropout", dropout)
    encoder.train()(torch.randn(2, 40, 4), [40, 28])
    tokens = 10 + 7
    # by width: input, then in each layer attention's branch, hidden units (in as many parts as experts), FFN's branch
    for width, times in ((D, 1 + 2 * config.layers), (F_INNER, config.layers)):
        assert sum(count for size, count, *_ in seen if size == width) == times * tokens
    assert {(p, training) for *_, p, training in seen} == {(P, True)}
    seen.clear()
    encoder.eval()(torch.randn(2, 40, 4), [40, 28])
    assert all(p == 0 or not training for *_, p, training in seen)
