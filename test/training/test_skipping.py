"""Steps whose loss or gradient is not finite: nothing changes, the utterances are named, and not for ever."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omnirouter.data.dataset import Batch, make_batch, read_feature_dir
from omnirouter.data.errors import UserError
from omnirouter.data.sampler import Position
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.models.ctc import CtcModel
from omnirouter.training import trainer as trainer_module
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.distributed import rank, ranks
from omnirouter.training.experiment import Inputs
from omnirouter.training.step import StepGradient
from omnirouter.training.trainer import Trainer

BROKEN = {2: "2-1", 3: "3-0", 7: "7-2"}
"""Utterances with a feature that is not a number, by the batch that has them."""


def batches(broken: dict[int, str] = BROKEN, empty: int | None = None) -> list[Batch]:
    """Sixteen batches of three utterances; one may be empty."""
    rng, made = np.random.default_rng(0), []
    for number in range(16):
        names = [f"{number}-{i}" for i in range(3)]
        features = [rng.normal(0, 1, (60 + 4 * i, 80)).astype(np.float32) for i in range(3)]
        if number == empty:
            names, features = [], []
        for name, matrix in zip(names, features, strict=True):
            if name == broken.get(number):
                matrix[7, 3] = np.nan
        after = Position(number - number % ranks() + ranks())
        batch = make_batch(names, features, [[1, 2]] * len(names))
        made.append(dataclasses.replace(batch, position=Position(number), after=after))
    return made


@pytest.fixture
def make_trainer(tmp_path: Path, inputs: Inputs, config: ExperimentConfig) -> Callable[..., Trainer]:
    """A function that makes a trainer of `exp`, which goes on where the one before it ended."""

    def make(**fields: Any) -> Trainer:
        model_config = dataclasses.replace(config.model, layer_drop=0.0)
        training = dataclasses.replace(config.training, log_every=2, valid_every=100, **fields)
        ours = dataclasses.replace(config, model=model_config, training=training).for_processes(ranks())
        (tmp_path / "exp/checkpoints").mkdir(parents=True, exist_ok=True)
        torch.manual_seed(1)
        tokenizer = Tokenizer(inputs.lang)
        model = CtcModel(config.model, len(tokenizer.tokens))
        return Trainer(tmp_path / "exp", ours, model, tokenizer, read_feature_dir(inputs.dev)[:2])

    return make


def state(trainer: Trainer) -> list[torch.Tensor]:
    moments = trainer._optimizer.state_dict()["state"]
    return [*trainer._model.state_dict().values(), *(t for values in moments.values() for t in values.values())]


def test_a_step_that_is_not_finite_leaves_weights_and_moments(
    make_trainer: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(trainer_module.LOG, "warning", lambda text, *values: warnings.append(text % values))
    changed: list[bool] = []
    original = Trainer._train_step

    def train_step(self: Trainer, *arguments: Any) -> None:
        before = [tensor.clone() for tensor in state(self)]
        original(self, *arguments)
        after = state(self)
        changed.append(len(before) != len(after) or not all(map(torch.equal, before, after)))

    monkeypatch.setattr(Trainer, "_train_step", train_step)
    trainer = make_trainer(max_steps=6, max_skipped_steps=2)
    trainer.run(iter(batches()))
    assert changed == [True, True, False, False, True, True]
    assert [line.split(";")[:2] for line in warnings] == [
        [f"step {step}: loss or gradient not finite", f" utterances {BROKEN[step]}"] for step in (2, 3)
    ]
    records = [json.loads(line) for line in (tmp_path / "exp/metrics.jsonl").read_text().splitlines()]
    assert [r["skipped_steps"] for r in records if "skipped_steps" in r] == [0, 2, 2]
    assert ["ctc_loss" in r for r in records if "skipped_steps" in r] == [True, False, True]
    trainer = make_trainer(max_steps=12, max_skipped_steps=2)  # the count is in the checkpoint
    with pytest.raises(UserError, match=r"step 7: .*utterances 7-2; 3 steps skipped, .* into .*exp/leave_out"):
        trainer.run(iter(batches()[6:]))


def test_where_only_the_gradient_is_not_finite_all_utterances_are_named(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepGradient, "clip", lambda self: (float("inf"), True))
    with pytest.raises(UserError, match=r"step 0: .*utterances 0-0, 0-1, 0-2; 1 steps skipped"):
        make_trainer(max_skipped_steps=0).run(iter(batches({})))


def test_processes_skip_together_and_name_the_utterances_of_all(
    make_trainer: Callable[..., Trainer], in_processes: Callable[..., list[Any]]
) -> None:
    def work() -> list[torch.Tensor]:
        trainer = make_trainer(max_steps=5, max_skipped_steps=1)
        trainer.run(iter(batches()[rank() :: ranks()]))
        return state(trainer)

    error, _ = in_processes(2, work, code=1)  # batches 2 and 3 are one step, 6 and 7 the second that is skipped
    assert "step 3: loss or gradient not finite; utterances 7-2; 2 steps skipped" in error


def test_a_step_with_a_batch_of_no_utterances_is_passed_over_by_all_processes(
    make_trainer: Callable[..., Trainer], tmp_path: Path, in_processes: Callable[..., list[Any]]
) -> None:
    def work(steps: int = 3, begin: int = 0) -> list[torch.Tensor]:
        trainer = make_trainer(max_steps=steps, max_skipped_steps=0)
        trainer.run(iter(batches({}, empty=4)[begin + rank() :: ranks()]))  # only the first process's third is empty
        return state(trainer)

    def two_then_one() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        return work(steps=2), work(steps=3, begin=4)

    (before, after), (its_before, its_after) = in_processes(2, two_then_one)
    assert all(map(torch.equal, before, after)) and all(map(torch.equal, after, its_after))
    assert all(map(torch.equal, before, its_before)) and before
    records = [json.loads(line) for line in (tmp_path / "exp/metrics.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 3 and [r["skipped_steps"] for r in records if "skipped_steps" in r] == [0]
