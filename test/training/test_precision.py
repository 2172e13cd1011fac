"""bf16 where it may be, fp32 where it must be; compiled blocks that compute the same and are compiled once."""

import dataclasses
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from omnirouter.data.dataset import Batch, make_batch
from omnirouter.data.sampler import Position
from omnirouter.models.attention import SelfAttention
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel
from omnirouter.models.packing import Packing
from omnirouter.training.config import ExperimentConfig, TrainingConfig
from omnirouter.training.experiment import Inputs
from omnirouter.training.run import train
from omnirouter.training.step import StepGradient
from omnirouter.training.trainer import Trainer

CPU = torch.device("cpu")


def experiment(moe_every: int = 1, **training: Any) -> ExperimentConfig:
    model = ModelConfig(
        layers=2, dim=32, heads=2, ffn_dim=48, experts=3, moe_every=moe_every, dropout=0.0, attention_dropout=0.0
    )
    return ExperimentConfig(model=model, training=TrainingConfig(batches_per_step=1, **training))


def make(lengths: list[int]) -> Batch:
    rng = np.random.default_rng(0)
    features = [rng.normal(0, 1, (length, 80)).astype(np.float32) for length in lengths]
    batch = make_batch([str(i) for i in range(len(lengths))], features, [[1, 2]] * len(lengths))
    return dataclasses.replace(batch, position=Position())


class Step:
    """A model and the gradients of its steps."""

    def __init__(self, config: ExperimentConfig) -> None:
        torch.manual_seed(1)
        self.model = CtcModel(config.model, 12)
        self.gradient = StepGradient(self.model, config)

    def __call__(self, lengths: list[int]) -> Tensor:
        """The whole gradient as one vector."""
        self.gradient.compute([make(lengths)], len(lengths))
        return torch.cat([parameter.grad.flatten() for parameter in self.model.parameters()])


def test_bf16_is_for_matrix_products_only() -> None:
    step = Step(experiment(precision="bf16", z_loss_weight=0.1))
    kinds: dict[str, torch.dtype] = {}
    block = step.model.encoder.blocks[0]
    for name, module in (("qkv", block.attention.qkv), ("norm", block.ffn_norm), ("output", step.model.output)):
        module.register_forward_hook(lambda _, __, result, name=name: kinds.update({name: result.dtype}))
    block.ffn.register_forward_hook(lambda _, given, result: kinds.update(probs=given[1].probs_TN.dtype))
    block.ffn.register_forward_hook(lambda _, given, result: kinds.update(logits=given[1].logits_TN.dtype))
    step.model.register_forward_hook(lambda _, __, result: kinds.update(log_probs=result.log_probs_TV.dtype))
    gradient = step([80, 64])
    assert kinds == {
        "qkv": torch.bfloat16, "output": torch.bfloat16,
        "norm": torch.float32, "probs": torch.float32, "logits": torch.float32, "log_probs": torch.float32,
    }  # fmt: skip
    assert gradient.dtype == torch.float32
    wanted = Step(experiment(z_loss_weight=0.1))([80, 64])
    assert not torch.equal(gradient, wanted)
    assert F.cosine_similarity(gradient, wanted, dim=0) > 0.99


def test_losses_are_computed_in_fp32() -> None:
    step = Step(experiment(precision="bf16"))
    [(_, losses)] = step.gradient.compute([make([80, 64])], 2).of_utterances
    assert losses.dtype == torch.float32 and not torch.equal(losses, losses.bfloat16().float())


def test_attention_has_its_softmax_in_fp32_under_bf16() -> None:
    attention, tokens = SelfAttention(8, 1, dropout=0.0), 2042
    with torch.no_grad():
        attention.qkv.weight[:16] = 0  # all keys weigh 1/2042, which in bf16 is 1/2048
        attention.qkv.weight[16:] = torch.eye(8)
        attention.out.weight.copy_(torch.eye(8))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attention(torch.ones(tokens, 8), Packing([tokens])).float(), torch.ones(tokens, 8))
    weights = torch.zeros(1, tokens, dtype=torch.bfloat16).softmax(dim=1)
    assert float(weights @ torch.ones(tokens, dtype=torch.bfloat16)) < 0.999


def test_other_lengths_and_batch_sizes_are_not_compiled_again(traced: list[int]) -> None:
    compiled, plain = (Step(experiment(moe_every=2, compile=compile)) for compile in (True, False))
    for lengths in ([44, 90, 61], [90, 90], [70]):  # padded, not padded, a single utterance
        torch.testing.assert_close(compiled(lengths), plain(lengths), rtol=1e-4, atol=1e-5)
    assert traced
    rng = random.Random(0)
    with torch.compiler.set_stance("fail_on_recompile"):
        for _ in range(20):
            lengths = [rng.randint(20, 200) for _ in range(rng.randint(1, 7))]
            for shape in (lengths, [lengths[0]] * 3):
                torch.testing.assert_close(compiled(shape), plain(shape), rtol=1e-4, atol=1e-5)
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()


def test_a_compiled_training_is_gone_on_with_bit_for_bit(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch, traced: list[int]
) -> None:
    training = dataclasses.replace(config.training, compile=True, max_steps=4, valid_every=2, log_every=1)
    config, train_step = dataclasses.replace(config, training=training), Trainer._train_step

    def killed(self: Trainer, *arguments: Any) -> None:
        if self.step == 3:
            raise RuntimeError("killed")
        train_step(self, *arguments)

    train(tmp_path / "whole", config, inputs, CPU)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            train(tmp_path / "resumed", config, inputs, CPU)
    train(tmp_path / "resumed", config, inputs, CPU)
    assert traced
    whole, resumed = (torch.load(tmp_path / exp / "model.pt", weights_only=True) for exp in ("whole", "resumed"))
    assert whole.keys() == CtcModel(config.model, 12).state_dict().keys()  # as they would be if not compiled
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile has no C++ compiler here")
@pytest.mark.parametrize("training", [{}, {"activation_checkpointing": True, "precision": "bf16"}])
def test_compiled_blocks_compute_the_same(fresh: None, training: dict[str, Any]) -> None:
    compiled = Step(experiment(compile=True, **training))([44, 90, 61])
    wanted = Step(experiment(**training))([44, 90, 61])
    if training:
        assert F.cosine_similarity(compiled, wanted, dim=0) > 0.99
    else:
        torch.testing.assert_close(compiled, wanted, rtol=1e-4, atol=1e-5)
