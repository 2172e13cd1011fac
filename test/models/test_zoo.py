"""The paper's models to the last parameter, derived by hand, and FLOPs against torch's own counter."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from omnirouter.data.errors import UserError
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel, parameter_counts
from omnirouter.models.zoo import info_table, model_parts, tokens_of, total
from omnirouter.training.config import load_config

CONF = Path(__file__).parents[2] / "egs/libriheavy/asr1/conf"
LAYERS, FFN, VOCAB = 16, 4096, 8192

# name: (encoder, experts, dim), all parameters, active ones, and what the paper prints, in millions.
# Dense models are printed by their blocks, mixtures of experts with everything.
ZOO = {
    "dense_84m": ("dense", 1, 512, 88_360_448, 88_360_448, 84),
    "dense_140m": ("dense", 1, 768, 145_086_720, 145_086_720, 140),
    "dense_200m": ("dense", 1, 1024, 210_201_600, 210_201_600, 200),
    "switch_2_512": ("switch", 2, 512, 155_559_424, 88_376_832, 156),
    "switch_4_512": ("switch", 4, 512, 289_940_992, 88_393_216, 290),
    "switch_8_512": ("switch", 8, 512, 558_704_128, 88_425_984, 559),
    "omnirouter_2_512": ("omnirouter", 2, 512, 155_544_064, 88_361_472, 156),
    "omnirouter_4_512": ("omnirouter", 4, 512, 289_910_272, 88_362_496, 290),
    "omnirouter_8_512": ("omnirouter", 8, 512, 558_642_688, 88_364_544, 559),
    "switch_2_768": ("switch", 2, 768, 245_852_416, 145_111_296, 246),
    "omnirouter_2_768": ("omnirouter", 2, 768, 245_829_376, 145_088_256, 246),
    "switch_2_1024": ("switch", 2, 1024, 344_534_016, 210_234_368, 345),
    "omnirouter_2_1024": ("omnirouter", 2, 1024, 344_503_296, 210_203_648, 345),
}


def by_hand(encoder: str, experts: int, dim: int) -> dict[str, int]:
    """Parameters of each part."""
    ffn = experts * (dim * FFN + FFN + FFN * dim + dim)
    routers = {"dense": 0, "switch": LAYERS, "omnirouter": 1}[encoder]
    return {
        "input": 320 * dim + dim,
        "attention": LAYERS * 4 * dim * dim,
        "dense FFN": LAYERS * ffn if encoder == "dense" else 0,
        "experts": 0 if encoder == "dense" else LAYERS * ffn,
        "routers": routers * dim * experts,
        "norms": (2 * LAYERS + 1) * 2 * dim,
        "output": dim * VOCAB + VOCAB,
    }


@pytest.mark.parametrize("name", ZOO)
def test_every_model_of_the_paper_has_its_exact_size(name: str) -> None:
    encoder, experts, dim, parameters, active, printed = ZOO[name]
    config = load_config(CONF / f"{name}.yaml").model
    assert (config.encoder, config.dim, config.dim // config.heads) == (encoder, dim, 64)
    assert config.positions == "cape", "as in the published checkpoints"
    parts = model_parts(config, VOCAB, tokens=375)
    hand = by_hand(encoder, experts, dim)
    assert {part.name: part.parameters for part in parts} == hand
    everything = total(parts)
    assert (everything.parameters, everything.active_parameters) == (parameters, active)
    with torch.device("meta"):
        assert parameter_counts(CtcModel(config, VOCAB)) == (parameters, active)
    if encoder == "dense":
        blocks = hand["attention"] + hand["dense FFN"] + hand["norms"] - 2 * dim
        assert blocks / 1e6 == pytest.approx(printed, rel=0.015)
    else:
        assert round(parameters / 1e6) == printed


@pytest.mark.parametrize(
    ("dim", "parameters", "active"), [(768, 447_313_152, 145_089_792), (1024, 613_104_640, 210_205_696)]
)
def test_four_experts_at_the_larger_widths(dim: int, parameters: int, active: int) -> None:
    """447.3 and 613.1 million, which no table of the paper has; a published streaming model of the latter is 0.6B."""
    config = load_config(CONF / f"omnirouter_2_{dim}.yaml", ["model.experts=4"]).model
    parts = model_parts(config, VOCAB, tokens=375)
    assert {part.name: part.parameters for part in parts} == by_hand("omnirouter", 4, dim)
    assert (total(parts).parameters, total(parts).active_parameters) == (parameters, active)


def test_the_zoo_is_complete_and_table_iv_has_the_recipes_names() -> None:
    names = {path.stem for path in CONF.glob("*.yaml")}
    assert names == {*ZOO, "base", "dense", "switch", "omnirouter"}
    for short, name in (("dense", "dense_84m"), ("switch", "switch_8_512"), ("omnirouter", "omnirouter_8_512")):
        assert load_config(CONF / f"{short}.yaml") == load_config(CONF / f"{name}.yaml")


def test_training_is_the_papers() -> None:
    configs = [load_config(CONF / f"{name}.yaml") for name in ZOO]
    assert all(c.optim == configs[0].optim and c.training == configs[0].training for c in configs)
    config = configs[0]
    assert config.batch.max_batch_s * 16 == 7 * 3600
    # V-C's step counts divided by ten.
    assert [10 * n for n in (config.optim.warmup_steps, config.optim.cosine_steps, config.training.max_steps)] == [
        64_000, 60_000, 1_000_000,
    ]  # fmt: skip


SMALL = {"layers": 3, "dim": 32, "heads": 4, "ffn_dim": 64}


@pytest.mark.parametrize(
    "fields",
    [
        {"encoder": "dense"},
        {"encoder": "switch", "experts": 4},
        {"encoder": "omnirouter", "experts": 4},
        {"encoder": "omnirouter", "experts": 4, "top_k": 2, "moe_every": 2},
        {"encoder": "switch", "moe_groups": [[1, 2], [2, 5]], "stack_frames": 2, "n_mels": 40},
    ],
)
def test_flops_are_those_that_torch_counts(fields: dict) -> None:
    config = ModelConfig(**SMALL, **fields)
    model = CtcModel(config, 50).eval()
    # The CPU's fused attention is unknown to torch's counter; the plain form is two products, which it counts.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 200, config.n_mels), [200])
    counts = {part.name: part.flops for part in model_parts(config, 50, 200 // config.stack_frames)}
    assert sum(counts.values()) == counter.get_total_flops()


@pytest.fixture
def dry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a model compute on the meta device, which has shapes without values: no autocast, no counts of tokens."""

    def counts(chosen: Tensor, minlength: int) -> Tensor:
        return torch.tensor([len(chosen) - minlength + 1, *[1] * (minlength - 1)])

    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)
    monkeypatch.setattr(torch, "bincount", counts)


@pytest.mark.parametrize("name", ZOO)
def test_every_model_of_the_paper_runs_at_its_size_on_its_batch(name: str, dry: None) -> None:
    """Dry, without values: the forward pass has the stated FLOPs, the backward pass twice those above the features."""
    config, utterances = load_config(CONF / f"{name}.yaml"), 105
    assert utterances * 15 == config.batch.max_batch_s
    with torch.device("meta"):
        model, features = CtcModel(config.model, VOCAB), torch.empty(utterances, 1500, 80)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = model(features, [1500] * utterances)
        assert output.log_probs_TV.shape == (utterances * 375, VOCAB)
        stated = {part.name: utterances * part.flops for part in model_parts(config.model, VOCAB, tokens=375)}
        assert counter.get_total_flops() == sum(stated.values())
        (output.log_probs_TV.sum() + output.balance_loss).backward()
    assert counter.get_total_flops() == 3 * sum(stated.values()) - stated["input"]
    assert all(parameter.grad.shape == parameter.shape for parameter in model.parameters())


def test_flops_of_an_utterance_by_hand() -> None:
    config = ModelConfig(encoder="omnirouter", layers=2, dim=4, heads=2, ffn_dim=8, experts=3, moe_every=2)
    flops = {part.name: part.flops for part in model_parts(config, 10, tokens=5)}
    # Products of a token: 320·4 in; 4 of 4·4, scores and values 5·4 each, in 2 layers; 2 of 4·8; router 4·3; out 4·10.
    assert flops == {
        "input": 5 * 2 * 1280, "attention": 5 * 2 * 2 * (64 + 40), "dense FFN": 5 * 2 * 64, "experts": 5 * 2 * 64,
        "routers": 5 * 2 * 12, "norms": 0, "output": 5 * 2 * 40,
    }  # fmt: skip


def test_active_parameters_of_unequal_groups() -> None:
    config = ModelConfig(**SMALL, moe_groups=[[1, 2], [2, 4]], top_k=2)
    experts = next(part for part in model_parts(config, 50, 10) if part.name == "experts")
    ffn = 2 * 32 * 64 + 64 + 32
    assert (experts.parameters, experts.active_parameters) == (10 * ffn, 6 * ffn)
    assert experts.training_bytes == 16 * 10 * ffn  # weight, gradient and two moments of 4 bytes


def test_impossible_questions_are_refused() -> None:
    config = ModelConfig(**SMALL)
    assert tokens_of(config, 0.04) == 1 and tokens_of(config, 15.0) == 375
    for seconds in (0.03, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="utterance of"):
            tokens_of(config, seconds)
    with pytest.raises(UserError, match="vocabulary of 1"):
        info_table(config, 1, 15.0)
