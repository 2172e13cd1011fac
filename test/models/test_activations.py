"""The estimate of a batch's activations against the bytes that autograd saves, counted storage by storage."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from omnirouter.models.activations import activation_bytes, activation_lines
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel, ctc_losses

VOCAB, LENGTHS = 400, [1200, 1196, 1180, 1196]
TOKENS = sum(length // 4 for length in LENGTHS)
TOLERANCE = 0.05
CONFIG = ModelConfig(
    encoder="dense", layers=3, dim=64, heads=4, ffn_dim=256, experts=4, dropout=0.0, attention_dropout=0.0
)


def saved_bytes(config: ModelConfig, bf16: bool, recompute: bool = False) -> int:
    """Bytes of all storages that autograd saves in a forward pass with CTC and balance loss, parameters left out."""
    torch.manual_seed(0)
    model, storages = CtcModel(config, VOCAB), {}
    of_model = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in of_model:
            storages[storage.data_ptr()] = storage  # held, so that no other one comes to lie there
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = model(torch.randn(len(LENGTHS), max(LENGTHS), 80), LENGTHS, recompute=recompute)
        ctc_losses(output, torch.ones(4, dtype=torch.long), [1] * 4)
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("changes", [{}, {"encoder": "omnirouter"}, {"encoder": "switch", "top_k": 2, "moe_every": 2}])
def test_the_estimate_is_what_autograd_saves(changes: dict[str, Any], bf16: bool) -> None:
    config = dataclasses.replace(CONFIG, **changes)
    assert activation_bytes(config, VOCAB, TOKENS, bf16) == pytest.approx(saved_bytes(config, bf16), rel=TOLERANCE)


@pytest.mark.parametrize("bf16", [False, True])
def test_dropout_keeps_masks_and_what_it_makes(monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    def as_on_a_gpu(x: Tensor, p: float, training: bool, inplace: bool = False) -> Tensor:
        return torch.native_dropout(x, p, training)[0]  # a mask of bytes; the CPU's has the values' own size

    monkeypatch.setattr(F, "dropout", as_on_a_gpu)
    config = dataclasses.replace(CONFIG, dropout=0.1)
    assert activation_bytes(config, VOCAB, TOKENS, bf16) == pytest.approx(saved_bytes(config, bf16), rel=TOLERANCE)
    assert activation_bytes(config, VOCAB, TOKENS, bf16) > 1.2 * activation_bytes(CONFIG, VOCAB, TOKENS, bf16)


@pytest.mark.parametrize("encoder", ["dense", "omnirouter"])
def test_checkpointing_keeps_the_blocks_inputs_and_one_block(encoder: str) -> None:
    config = dataclasses.replace(CONFIG, encoder=encoder)
    fewer = dataclasses.replace(config, layers=2)
    one_block = saved_bytes(config, False) - saved_bytes(fewer, False)
    # The block's own input is among those that are kept.
    wanted = saved_bytes(config, False, recompute=True) + one_block - 4 * config.dim * TOKENS
    assert activation_bytes(config, VOCAB, TOKENS, False, recompute=True) == pytest.approx(wanted, rel=TOLERANCE)


def test_the_lines_say_that_they_are_an_estimate() -> None:
    lines = activation_lines(CONFIG, VOCAB, 1575.0, True)
    whole, least = (activation_bytes(CONFIG, VOCAB, 39375, True, recompute) / 2**30 for recompute in (False, True))
    assert "estimated" in lines and "1575 s in bf16" in lines and least < whole
    assert f": {whole:.1f} GiB, or\n{least:.1f} GiB with training.activation_checkpointing=true" in lines
