"""What a GPU does otherwise than a CPU: NCCL, page-locked batches, compiled bf16 steps; skipped where there is none."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from omnirouter.data.dataset import Batch, make_batch
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel
from omnirouter.training import distributed, parallel
from omnirouter.training.config import ExperimentConfig, TrainingConfig
from omnirouter.training.distributed import process_group
from omnirouter.training.experiment import Inputs
from omnirouter.training.parallel import whole
from omnirouter.training.pinning import pinned
from omnirouter.training.run import train
from omnirouter.training.step import StepGradient

CPU = torch.device("cpu")


@pytest.fixture
def gpu() -> torch.device:
    """The first GPU."""
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA GPU")
    return torch.device("cuda", 0)


def make(lengths: list[int]) -> Batch:
    rng = np.random.default_rng(0)
    features = [rng.normal(0, 1, (length, 80)).astype(np.float32) for length in lengths]
    return make_batch([str(i) for i in range(len(lengths))], features, [[1, 2]] * len(lengths))


def gradients(device: torch.device, lengths: tuple[list[int], ...], **training: object) -> list[Tensor]:
    """The whole gradients of some steps of a small model, each as one vector on the CPU."""
    model_config = ModelConfig(
        encoder="omnirouter", layers=2, dim=32, heads=2, ffn_dim=48, experts=3, dropout=0.0, attention_dropout=0.0
    )
    config = ExperimentConfig(model=model_config, training=TrainingConfig(batches_per_step=1, **training))
    torch.manual_seed(1)
    model = CtcModel(model_config, 12)
    step, found = StepGradient(model, config, device), []
    for batch in map(make, lengths):
        step.compute([batch], len(batch.utt_ids))
        found.append(torch.cat([whole(parameter.grad).flatten().cpu() for parameter in model.parameters()]))
    return found


def exchange(device: torch.device, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one process believe that torchrun has started it, and that its model is to be replicated or sharded."""
    lengths = ([44, 90, 61], [90, 90])
    wanted = gradients(CPU, lengths)
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("GROUP_WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "rendezvous", lambda *_, **__: iter([(dist.HashStore(), 0, 1)]))
    told = [2, 1] if how == "fsdp" else [2, 2]  # whether there are several, and how many are to share
    monkeypatch.setattr(parallel, "ranks", lambda: told.pop(0) if told else 1)
    with process_group(device):
        for values in (torch.arange(3.0), torch.arange(3.0, device=device)):  # gloo's, and NCCL's
            dist.all_reduce(values)
            assert values.tolist() == [0, 1, 2]
        for mine, its in zip(gradients(device, lengths, distributed=how), wanted, strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-4)
    assert not told


def compile_in_bf16(device: torch.device) -> None:
    """Compiled bf16 steps of ragged, equal and single utterances come near those of fp32 on the CPU."""
    lengths = ([44, 90, 61], [90, 90], [70], [33, 57, 120, 80])
    compiled = gradients(device, lengths, compile=True, precision="bf16")
    for mine, its in zip(compiled, gradients(CPU, lengths), strict=True):
        assert F.cosine_similarity(mine, its, dim=0) > 0.98


def train_in_bf16(device: torch.device, exp: Path, inputs: Inputs, config: ExperimentConfig) -> None:
    """A training with all that a GPU has runs to its end, and learns."""
    training = dataclasses.replace(config.training, precision="bf16", workers=1, max_steps=60, log_every=20)
    train(exp, dataclasses.replace(config, training=training), inputs, device)
    records = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    losses = [record["ctc_loss"] for record in records if "ctc_loss" in record]
    assert len(losses) == 3 and losses[-1] < 0.7 * losses[0]
    weights = torch.load(exp / "model.pt", weights_only=True)
    assert all(tensor.device == CPU and tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_gradients_exchanged_by_nccl_are_those_of_the_cpu(
    gpu: torch.device, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange(gpu, how, monkeypatch)


def test_page_locked_batches_reach_the_gpu(gpu: torch.device) -> None:
    batches = [make([40 + i, 50]) for i in range(5)] + [make([])]
    arrived = list(pinned(iter(batches), gpu, 2))
    assert all(batch.features.is_pinned() and batch.targets.is_pinned() for batch in arrived[:5])
    for batch, other in zip(arrived, batches, strict=True):
        assert torch.equal(batch.features.to(gpu, non_blocking=True).cpu(), other.features)
        assert batch.utt_ids == other.utt_ids and torch.equal(batch.targets, other.targets)


def test_compiled_bf16_steps_come_near_fp32(gpu: torch.device, fresh: None) -> None:
    compile_in_bf16(gpu)


def test_a_training_in_bf16_learns(gpu: torch.device, tmp_path: Path, inputs: Inputs, config: ExperimentConfig) -> None:
    train_in_bf16(gpu, tmp_path / "exp/a", inputs, config)
