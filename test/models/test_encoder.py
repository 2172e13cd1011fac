"""The encoder as a whole: padding, sharing, sizes, gradients."""

import dataclasses

import pytest
import torch

from omnirouter.data.errors import UserError
from omnirouter.models.config import LayerPlan, ModelConfig, routing_plan
from omnirouter.models.ctc import CtcModel, ctc_loss, parameter_counts
from omnirouter.models.encoder import Encoder
from omnirouter.models.packing import Packing
from omnirouter.models.router import z_loss

SMALL = {"layers": 3, "dim": 32, "heads": 4, "ffn_dim": 64, "experts": 4, "dropout": 0.0, "attention_dropout": 0.0}


@pytest.mark.parametrize(("encoder", "top_k"), [("dense", 1), ("switch", 1), ("omnirouter", 1), ("omnirouter", 2)])
@pytest.mark.parametrize("lengths", [[50, 201, 7, 120, 4], [50, 3, 201, 120, 0]])  # 3 and 0 frames are 0 tokens
def test_an_utterance_alone_equals_the_same_in_any_batch(encoder: str, top_k: int, lengths: list[int]) -> None:
    torch.manual_seed(1)
    model = CtcModel(ModelConfig(encoder=encoder, top_k=top_k, **SMALL), 20).eval()
    features = [torch.randn(length, 80) for length in lengths]
    padded = torch.full((5, 201, 80), 1e3)  # what stands in the padding must not matter
    for row, matrix in zip(padded, features, strict=True):
        row[: len(matrix)] = matrix
    together = model(padded, lengths).log_probs_TV.split([length // 4 for length in lengths])
    for matrix, mine in zip(features, together, strict=True):
        if len(matrix) < 4:
            assert len(mine) == 0
            continue
        alone = model(matrix.unsqueeze(0), [len(matrix)]).log_probs_TV
        torch.testing.assert_close(mine, alone, rtol=0, atol=1e-4)


def test_balance_loss_and_statistics_do_not_see_padding() -> None:
    torch.manual_seed(1)
    encoder = Encoder(ModelConfig(encoder="omnirouter", **SMALL)).eval()
    x = torch.randn(1, 40, 80)
    alone = encoder(x, [40], with_routing=True)
    wider = torch.cat((x, torch.randn(1, 400, 80)), dim=1)
    padded = encoder(torch.cat((wider, wider)), [40, 40], with_routing=True)  # the same tokens twice
    torch.testing.assert_close(padded.balance_loss, alone.balance_loss)
    assert [len(routing.probs_TN) for routing in padded.routing.values()] == [20, 20, 20]


@pytest.mark.parametrize("encoder", ["switch", "omnirouter"])
def test_ctc_alone_gives_every_router_a_gradient_with_one_expert_a_token(encoder: str) -> None:
    torch.manual_seed(1)
    model = CtcModel(ModelConfig(encoder=encoder, top_k=1, **SMALL), 20)
    ctc_loss(model(torch.randn(2, 80, 80), [80, 60]), torch.arange(1, 9), [5, 3]).backward()
    assert len(model.encoder.routers) == {"switch": 3, "omnirouter": 1}[encoder]
    for router in model.encoder.routers:
        assert router.weight.grad.abs().max() > 1e-6


def test_a_shared_router_is_one_parameter_under_one_name() -> None:
    names = [name for name in CtcModel(ModelConfig(**SMALL), 9).state_dict() if "router" in name]
    assert names == ["encoder.routers.0.weight"]


def test_groups_and_sparse_layers() -> None:
    omni = ModelConfig(encoder="omnirouter", layers=4, moe_groups=[[2, 2], [2, 4]], dim=32, heads=4, ffn_dim=8)
    assert routing_plan(omni) == [LayerPlan(2, 0), LayerPlan(2, 0), LayerPlan(4, 1), LayerPlan(4, 1)]
    switch = ModelConfig(encoder="switch", layers=4, moe_groups=[[2, 2], [2, 4]], dim=32, heads=4, ffn_dim=8)
    assert routing_plan(switch) == [LayerPlan(2, 0), LayerPlan(2, 1), LayerPlan(4, 2), LayerPlan(4, 3)]
    second = ModelConfig(encoder="omnirouter", layers=4, moe_every=2, experts=3, dim=32, heads=4, ffn_dim=8)
    assert routing_plan(second) == [LayerPlan(), LayerPlan(3, 0), LayerPlan(), LayerPlan(3, 0)]
    encoder = Encoder(omni)
    assert [router.weight.shape for router in encoder.routers] == [(32, 2), (32, 4)]
    output = encoder(torch.randn(1, 40, 80), [40], with_routing=True)
    assert [routing.probs_TN.shape[1] for routing in output.routing.values()] == [2, 2, 4, 4]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"encoder": "moe"}, "encoder"),
        ({"balance": "none"}, "balance"),
        ({"heads": 5}, "heads"),
        ({"layers": 4, "moe_groups": [[2, 2]]}, "moe_groups"),
        ({"moe_groups": [[16]]}, "moe_groups"),
        ({"experts": 2, "top_k": 3}, "top_k"),
        ({"dropout": 1.0}, "dropout"),
        ({"router_jitter": 1.0}, "router_jitter"),
        ({"positions": "learned"}, "positions"),
        ({"cape_global_shift_s": -1.0}, "cape_global_shift_s"),
        ({"cape_local_shift_s": -0.1}, "cape_local_shift_s"),
        ({"cape_max_scale": 0.9}, "cape_max_scale"),
        ({"cape_rate_rad_per_s": 0.0}, "cape_rate_rad_per_s"),
    ],
)
def test_impossible_configurations_are_refused_by_name(fields: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        ModelConfig(**fields)


def test_blocks_that_are_left_out_have_no_part_in_the_result() -> None:
    torch.manual_seed(1)
    encoder, shorter = Encoder(ModelConfig(**SMALL)), Encoder(ModelConfig(**{**SMALL, "layers": 2}))
    shorter.load_state_dict(
        {
            name.replace("blocks.2", "blocks.1"): tensor
            for name, tensor in encoder.state_dict().items()
            if "blocks.1" not in name
        }
    )
    x = torch.randn(1, 40, 80)
    without, wanted = encoder(x, [40], True, left_out={1}), shorter(x, [40], True)
    assert torch.equal(without.x_TD, wanted.x_TD) and torch.equal(without.balance_loss, wanted.balance_loss)
    assert without.routing.keys() == {0, 2}


@pytest.mark.parametrize("encoder", ["dense", "switch", "omnirouter"])
def test_computing_a_block_again_changes_no_bit_of_the_gradient(encoder: str) -> None:
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(1)
        config = ModelConfig(encoder=encoder, positions="cape", router_jitter=0.1, **{**SMALL, "dropout": 0.3})
        model = CtcModel(dataclasses.replace(config, attention_dropout=0.3), 20)
        output = model(torch.randn(2, 80, 80), [80, 60], True, recompute=recompute)
        loss = ctc_loss(output, torch.arange(1, 9), [5, 3]) + output.balance_loss + z_loss(output.routing.values())
        loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(kept, again) for kept, again in zip(*gradients, strict=True))


def test_recomputing_keeps_less(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model, x = CtcModel(ModelConfig(**{**SMALL, "layers": 8}), 20), torch.randn(1, 400, 80)

    def kept_values(recompute: bool) -> int:
        kept = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model(x, [400], recompute=recompute)
        assert output.log_probs_TV.requires_grad
        return sum(tensor.numel() for tensor in kept.values())

    assert kept_values(True) < kept_values(False) / 3


# The paper's sizes: 16 layers, FFN 4096, V = 8192. Printed: 84M dense; 156, 290, 559M with 2, 4, 8 experts at 512.
@pytest.mark.parametrize(("experts", "millions"), [(2, 155.5), (4, 289.9), (8, 558.6)])
def test_parameter_counts_of_the_paper(experts: int, millions: float) -> None:
    with torch.device("meta"):
        moe = CtcModel(ModelConfig(encoder="omnirouter", experts=experts), 8192)
        dense = CtcModel(ModelConfig(encoder="dense"), 8192)
    total, active = parameter_counts(moe)
    assert round(total / 1e6, 1) == millions
    assert active == parameter_counts(dense)[0] + 512 * experts  # all that a token pays more is the router
    assert round(sum(p.numel() for p in dense.encoder.blocks.parameters()) / 1e6, 1) == 84.0


def test_packing_is_undone_by_unpacking() -> None:
    packing = Packing([3, 1, 2])
    x = torch.arange(12.0).view(3, 4, 1)[:, :3]
    packed = packing.pack(x)
    assert packed.flatten().tolist() == [0, 1, 2, 4, 8, 9]
    assert packing.unpack(packed).squeeze(2).tolist() == [[0, 1, 2], [4, 0, 0], [8, 9, 0]]
    assert packing.positions(torch.device("cpu")).tolist() == [0, 1, 2, 0, 0, 1]


def test_jitter_reaches_the_routers_and_leaves_what_the_experts_see() -> None:
    torch.manual_seed(1)
    encoder = Encoder(ModelConfig(router_jitter=0.3, moe_groups=[[1, 2], [2, 4]], **SMALL))
    assert [router.jitter for router in encoder.routers] == [0.3, 0.3]
    # With a router that cannot decide, noise on its input changes nothing at all.
    for router in encoder.routers:
        torch.nn.init.zeros_(router.weight)
    x = torch.randn(1, 40, 80)
    assert torch.equal(encoder.train()(x, [40]).x_TD, encoder.eval()(x, [40]).x_TD)


def test_z_loss_sees_valid_tokens_only_and_trains_the_router() -> None:
    torch.manual_seed(1)
    encoder = Encoder(ModelConfig(encoder="switch", **SMALL)).eval()
    x = torch.randn(1, 40, 80)
    alone = z_loss(encoder(x, [40], with_routing=True).routing.values())
    padded = torch.cat((torch.cat((x, x)), torch.full((2, 400, 80), 1e3)), dim=1)
    twice = z_loss(encoder(padded, [40, 40], with_routing=True).routing.values())
    torch.testing.assert_close(twice, alone)
    assert float(alone.detach()) > 3 * 1.9  # three layers, each of nearly log²(4) = 1.92 for small logits
    alone.backward()
    assert all(router.weight.grad.abs().max() > 0 for router in encoder.routers)
