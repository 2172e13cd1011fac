"""Random routing: who is sent elsewhere, where to, and what scales the output."""

from pathlib import Path

import kaldiio
import numpy as np
import pytest
import torch
from torch import Tensor

from omnirouter.analysis import random_routing
from omnirouter.analysis.random_routing import RandomRouting, Rerouted, measure
from omnirouter.data.dataset import Batch, FeatureUtterance
from omnirouter.data.errors import UserError
from omnirouter.data.tables import read_table
from omnirouter.data.tokenizer import Tokenizer, train_tokenizer
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel
from omnirouter.models.router import Routing

LAYERS, EXPERTS = 3, 4


@pytest.fixture
def model() -> CtcModel:
    torch.manual_seed(0)
    config = ModelConfig(layers=LAYERS, dim=32, heads=2, ffn_dim=32, encoder="switch", experts=EXPERTS)
    return CtcModel(config, 6).eval()


def make_batch(*tokens: int) -> Batch:
    features = torch.randn(len(tokens), 4 * max(tokens), 80, generator=torch.Generator().manual_seed(1))
    return Batch([f"u{i}" for i in range(len(tokens))], features, [4 * n for n in tokens], torch.zeros(0), [])


def used(model: CtcModel, batch: Batch, options: RandomRouting) -> tuple[list[Routing], list[Routing], Tensor]:
    """What the routers say and what the experts get, by layer, and the model's output."""
    got: list[Routing] = []
    with Rerouted(model, options) as rerouted:
        spies = [b.ffn.register_forward_pre_hook(lambda _, args: got.append(args[1])) for b in model.encoder.blocks]
        [drawn] = rerouted.draws_for([batch])
        output = model(drawn.features, drawn.lengths, with_routing=True)
        for spy in spies:
            spy.remove()
    assert rerouted.tokens == sum(len(routing.experts_TK) for routing in got)
    same = sum(int((a.experts_TK == b.experts_TK).sum()) for a, b in zip(got, output.routing.values(), strict=True))
    assert rerouted.changed == rerouted.tokens - same
    return list(output.routing.values()), got, output.log_probs_TV


@torch.inference_mode()
def test_a_share_of_0_and_a_closed_context_change_no_bit(model: CtcModel) -> None:
    batch = make_batch(30, 20)
    plain = model(batch.features, batch.lengths).log_probs_TV
    assert torch.equal(used(model, batch, RandomRouting(0.0))[2], plain)
    assert not torch.equal(used(model, batch, RandomRouting(1.0))[2], plain)
    assert torch.equal(model(batch.features, batch.lengths).log_probs_TV, plain)


@torch.inference_mode()
def test_all_tokens_are_drawn_uniformly_with_or_without_their_own_expert(model: CtcModel) -> None:
    batch = make_batch(2000)
    for may_keep, own in ((True, 1 / EXPERTS), (False, 0.0)):
        routers, experts, _ = used(model, batch, RandomRouting(1.0, may_keep=may_keep))
        for said, got in zip(routers, experts, strict=True):
            step = (got.experts_TK - said.experts_TK).flatten() % EXPERTS
            shares = torch.bincount(step, minlength=EXPERTS) / 2000
            expected = [own] + [(1 - own) / (EXPERTS - 1)] * (EXPERTS - 1)
            assert shares.tolist() == pytest.approx(expected, abs=0.04) and (own or shares[0] == 0)


@torch.inference_mode()
def test_the_share_is_counted_and_smaller_shares_lie_within_larger_ones(model: CtcModel) -> None:
    batch = make_batch(1500, 500)
    before: set[int] = set()
    for share in (0.1, 0.3, 0.7, 1.0):
        routers, experts, _ = used(model, batch, RandomRouting(share, may_keep=False))
        changed = {
            i for i, (a, b) in enumerate(zip(routers[0].experts_TK, experts[0].experts_TK, strict=True)) if a != b
        }
        assert len(changed) / 2000 == pytest.approx(share, abs=0.03) and before <= changed
        before = changed
    assert len(before) == 2000


@torch.inference_mode()
def test_draws_are_each_layers_own_or_a_tokens_in_all_layers(model: CtcModel) -> None:
    batch = make_batch(400)
    for draw in ("layer", "token"):
        routers, experts, _ = used(model, batch, RandomRouting(0.5, draw=draw, may_keep=False))
        moved = torch.stack([(a.experts_TK != b.experts_TK)[:, 0] for a, b in zip(routers, experts, strict=True)])
        assert torch.equal(moved[0], moved[1]) == torch.equal(moved[0], moved[2]) == (draw == "token")
        everything = used(model, batch, RandomRouting(1.0, draw=draw))[1]
        same = (everything[0].experts_TK == everything[1].experts_TK).float().mean()
        assert same == 1 if draw == "token" else 0.15 < same < 0.35


@torch.inference_mode()
def test_the_output_is_scaled_by_the_drawn_or_the_original_probability(model: CtcModel) -> None:
    for scale in ("drawn", "original"):
        routers, experts, _ = used(model, make_batch(50), RandomRouting(1.0, scale=scale))
        for said, got in zip(routers, experts, strict=True):
            chosen = got.experts_TK if scale == "drawn" else said.experts_TK
            assert torch.equal(got.weights_TK, said.probs_TN.gather(1, chosen))


@torch.inference_mode()
def test_an_utterances_draws_depend_on_seed_and_id_alone(model: CtcModel) -> None:
    batch = make_batch(20, 30)
    alone = Batch(["u1"], batch.features[1:], [120], torch.zeros(0), [])
    together, other = (used(model, batch, RandomRouting(1.0, seed=seed))[1] for seed in (0, 1))
    for layer, got in enumerate(used(model, alone, RandomRouting(1.0))[1]):
        assert torch.equal(together[layer].experts_TK[20:], got.experts_TK)
        assert not torch.equal(other[layer].experts_TK[20:], got.experts_TK)


def test_points_count_errors_against_the_decoding_without(model: CtcModel, tmp_path: Path) -> None:
    train_tokenizer(["a b c"], "char", 0, tmp_path / "lang")
    rng = np.random.default_rng(0)
    matrices = {f"u{i}": rng.normal(size=(80, 80)).astype(np.float32) for i in range(3)}
    kaldiio.save_ark(str(tmp_path / "feats.ark"), matrices, scp=str(tmp_path / "feats.scp"))
    utterances = [FeatureUtterance(key, at, 80, "a b c") for key, at in read_table(tmp_path / "feats.scp").items()]
    points = measure(model, Tokenizer(tmp_path / "lang"), utterances, [0.0, 0.5], [3, 4], RandomRouting(0.0))
    assert [(point.share, point.seed) for point in points] == [(0.0, 0), (0.5, 3), (0.5, 4)]
    assert points[0].change_percent == points[0].drawn_share == 0 and points[0].words == 9
    for point in points:
        assert point.wer == pytest.approx(100 * point.errors / 9)
        assert point.change_percent == pytest.approx(100 * (point.errors - points[0].errors) / points[0].errors)


def test_errors_are_counted_as_the_headline_says(model: CtcModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whisper's normaliser writes both transcripts and hypotheses as 53."""
    texts, hypotheses = {"u0": "FIVE THREE", "u1": "53"}, {"u0": "53", "u1": "FIVE THREE"}
    monkeypatch.setattr(random_routing, "greedy_decode", lambda *_: [hypotheses])
    utterances = [FeatureUtterance(key, "", 80, text) for key, text in texts.items()]
    for headline, words, errors in (("raw", 3, 4), ("whisper", 2, 0)):
        (point,) = measure(model, None, utterances, [0.0], [0], RandomRouting(0.0), headline)
        assert (point.words, point.errors) == (words, errors)


def test_what_has_no_single_expert_is_refused(model: CtcModel) -> None:
    dense = CtcModel(ModelConfig(layers=1, dim=32, heads=2, encoder="dense"), 5)
    with pytest.raises(UserError, match="dense"):
        measure(dense, None, [], [1.0], [0], RandomRouting(0.0))
    two = CtcModel(ModelConfig(layers=1, dim=32, heads=2, encoder="switch", top_k=2), 5)
    with pytest.raises(UserError, match="top_k"):
        Rerouted(two, RandomRouting(0.5))
