"""What clipping says of a gradient that is given to it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.tensor import DTensor

from omnirouter.data.dataset import make_batch
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel
from omnirouter.training.config import ExperimentConfig, OptimConfig, TrainingConfig
from omnirouter.training.distributed import rank
from omnirouter.training.step import StepGradient

MODEL = ModelConfig(layers=2, dim=8, heads=2, ffn_dim=8, experts=2)


def step_of(by: str, bound: float, **training: Any) -> tuple[CtcModel, StepGradient]:
    torch.manual_seed(1)
    model = CtcModel(MODEL, 5)
    optim, training = OptimConfig(clip_by=by, clip_norm=bound), TrainingConfig(batches_per_step=2, **training)
    return model, StepGradient(model, ExperimentConfig(model=MODEL, optim=optim, training=training))


@pytest.mark.parametrize(
    ("by", "bound", "clipped", "after"),
    [
        ("norm", 5.5, False, [3.0, -4.0]),
        ("norm", 4.5, True, [2.7, -3.6]),  # times 4.5/5
        ("norm", 2.5, True, [1.5, -2.0]),
        ("value", 4.5, False, [3.0, -4.0]),  # less than the norm, more than any value
        ("value", 3.5, True, [3.0, -3.5]),
        ("value", 2.5, True, [2.5, -2.5]),
    ],
)
def test_the_norm_before_and_whether_anything_was_beyond_the_bound(
    by: str, bound: float, clipped: bool, after: list[float]
) -> None:
    model, step = step_of(by, bound)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model.output.weight.grad[0, 0], model.encoder.input.bias.grad[1] = 3.0, -4.0
    assert step.clip() == (5.0, clipped)
    values = [model.output.weight.grad[0, 0].item(), model.encoder.input.bias.grad[1].item()]
    assert values == pytest.approx(after)


@pytest.mark.parametrize(("bound", "clipped"), [(3.0, True), (5.0, False)])
@pytest.mark.parametrize("distributed", ["ddp", "fsdp"])
def test_a_value_beyond_the_bound_is_seen_by_all_processes_whoever_has_it(
    in_processes: Callable[..., list[Any]], distributed: str, bound: float, clipped: bool
) -> None:
    def work() -> tuple[float, bool]:
        model, step = step_of("value", bound, distributed=distributed)
        step.compute([make_batch([str(rank())], [np.zeros((9, 80), np.float32)], [[1]])], 2)
        for parameter in model.parameters():
            parameter.grad.zero_()
        part = model.output.bias.grad
        own = part.to_local() if isinstance(part, DTensor) else part
        own[-1] = 4.0 if distributed == "ddp" or rank() == 0 else 1.0
        return step.clip()

    of_processes = in_processes(2, work)
    assert of_processes[0] == of_processes[1] and of_processes[0][1] == clipped
