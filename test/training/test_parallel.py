"""Replicas and shards: what a process holds of them, and when."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributed.tensor import DTensor

from omnirouter.data.dataset import Batch, make_batch
from omnirouter.data.sampler import Position
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel
from omnirouter.training.config import ExperimentConfig, TrainingConfig
from omnirouter.training.distributed import rank
from omnirouter.training.experiment import Inputs
from omnirouter.training.parallel import load_moments, whole
from omnirouter.training.run import train
from omnirouter.training.step import StepGradient, make_optimizer

CPU = torch.device("cpu")
InProcesses = Callable[..., list[Any]]
SHARDED = ExperimentConfig(
    model=ModelConfig(layers=3, dim=32, heads=2, ffn_dim=48, experts=4, dropout=0.0, attention_dropout=0.0),
    training=TrainingConfig(batches_per_step=2, distributed="fsdp"),
)


def batch(number: int) -> Batch:
    rng = np.random.default_rng(number)
    features = [rng.normal(0, 1, (length, 80)).astype(np.float32) for length in (60, 41)]
    made = make_batch([f"{number}-a", f"{number}-b"], features, [[1, 2], [3]])
    return dataclasses.replace(made, position=Position(number))


def sharded(config: ExperimentConfig = SHARDED) -> tuple[CtcModel, StepGradient]:
    torch.manual_seed(1)
    model = CtcModel(config.model, 12)
    return model, StepGradient(model, config)


def local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def test_a_sharded_gradient_does_not_remember_the_one_before_an_evaluation(in_processes: InProcesses) -> None:
    def work() -> list[float]:
        (model, step), norms = sharded(), []
        for _ in range(3):
            step.compute([batch(rank())], 4)
            norms.append(step.clip()[0])
            model.eval()
            with torch.inference_mode():
                model(batch(0).features, batch(0).lengths)
        return norms

    for norms in in_processes(2, work):
        assert norms == pytest.approx([norms[0]] * 3, rel=1e-5)


def test_recomputing_changes_no_bit_of_a_sharded_gradient(in_processes: InProcesses) -> None:
    def gradient(on: bool) -> tuple[list[torch.Tensor], int]:
        model, training = ModelConfig(layers=3, dim=32, heads=2, ffn_dim=48, experts=4), SHARDED.training  # dropout too
        training = dataclasses.replace(training, activation_checkpointing=on)
        (model, step), begun = sharded(ExperimentConfig(model=model, training=training)), []
        for block in model.encoder.blocks:
            block.attention.register_forward_pre_hook(lambda *_: begun.append(1))
        step.compute([batch(rank())], 4, {1})  # without the second block
        return [local(p.grad) for p in model.parameters() if p.grad is not None], len(begun)

    for (stored, once), (recomputed, twice) in in_processes(2, lambda: (gradient(False), gradient(True))):
        assert len(stored) == len(recomputed) and all(map(torch.equal, stored, recomputed))
        assert (once, twice) == (2, 4)


@pytest.mark.parametrize(
    "training",
    [{"distributed": "ddp", "activation_checkpointing": True}, {"distributed": "fsdp", "precision": "bf16"}],
)
def test_the_gradient_of_compiled_blocks_is_that_of_blocks_as_they_are(
    in_processes: InProcesses, traced: list[int], training: dict[str, Any]
) -> None:
    def gradient(compile: bool) -> torch.Tensor:
        fields = dataclasses.replace(SHARDED.training, **training, compile=compile)
        model, step = sharded(dataclasses.replace(SHARDED, training=fields))
        step.compute([batch(rank())], 4)
        return torch.cat([local(parameter.grad).flatten() for parameter in model.parameters()])

    for plain, before, compiled, after in in_processes(
        2, lambda: (gradient(False), len(traced), gradient(True), len(traced))
    ):
        assert before == 0 < after
        assert F.cosine_similarity(compiled, plain, dim=0) > 0.999
        if "precision" not in training:
            torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)


def test_each_process_keeps_its_share_of_loaded_moments_alone(in_processes: InProcesses, tmp_path: Path) -> None:
    def work() -> tuple[int, int]:
        model, step = sharded()
        optimizer = make_optimizer(model, SHARDED.optim)
        step.compute([batch(rank())], 4)
        optimizer.step()
        state = whole(optimizer.state_dict())
        if rank() == 0:
            torch.save(state, tmp_path / "o.pt")
        torch.distributed.barrier()
        state = torch.load(tmp_path / "o.pt", mmap=True)
        load_moments(optimizer, state)
        mine = [value for values in optimizer.state.values() for value in values.values()]
        held = sum(local(value).untyped_storage().nbytes() for value in mine)
        return held, sum(value.nbytes for values in state["state"].values() for value in values.values())

    for held, everything in in_processes(2, work):
        assert 0.45 * everything < held < 0.55 * everything


@pytest.mark.parametrize(("distributed", "times"), [("ddp", 1), ("fsdp", 0)])
def test_a_model_to_be_sharded_is_not_brought_to_the_device_whole(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, in_processes: InProcesses, distributed: str, times: int
) -> None:
    training = dataclasses.replace(config.training, distributed=distributed, max_steps=1)

    def work() -> int:
        moved: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CtcModel, "to", lambda self, device: moved.append(1) or self)
            train(tmp_path / "exp/a", dataclasses.replace(config, training=training), inputs, CPU)
        return len(moved)

    assert in_processes(2, work) == [times] * 2
