"""The largest batches tried before training, and memory that runs out: nothing changes, and it says what to lower."""

import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from omnirouter.data.errors import UserError
from omnirouter.training import run as run_module
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.distributed import rank
from omnirouter.training.experiment import Inputs
from omnirouter.training.run import train
from omnirouter.training.step import StepGradient
from omnirouter.training.trainer import Trainer

CPU = torch.device("cpu")


def metrics_of(exp: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "time"} for record in records]


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def weights_of(exp: Path) -> dict[str, torch.Tensor]:
    return torch.load(exp / "model.pt", weights_only=True)


def test_the_rehearsal_of_the_largest_batch_changes_nothing(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsed: list[int] = []
    original = Trainer.rehearse

    def rehearse(self: Trainer, batch: Any) -> None:
        state, before = torch.random.get_rng_state(), {k: v.clone() for k, v in self._model.state_dict().items()}
        original(self, batch)
        rehearsed.append(len(batch.lengths) * max(batch.lengths))
        assert torch.equal(state, torch.random.get_rng_state())
        assert all(torch.equal(before[name], tensor) for name, tensor in self._model.state_dict().items())
        assert all(parameter.grad is None for parameter in self._model.parameters())
        assert not self._optimizer.state and self.step == 0

    monkeypatch.setattr(Trainer, "rehearse", rehearse)
    train(tmp_path / "exp/with", config, inputs, CPU)
    assert rehearsed and max(rehearsed) <= 800
    monkeypatch.setattr(Trainer, "rehearse", lambda self, batch: None)
    train(tmp_path / "exp/without", config, inputs, CPU)
    assert metrics_of(tmp_path / "exp/with") == metrics_of(tmp_path / "exp/without")
    mine, wanted = weights_of(tmp_path / "exp/with"), weights_of(tmp_path / "exp/without")
    assert all(torch.equal(mine[name], wanted[name]) for name in wanted)


def test_all_of_the_largest_batches_are_rehearsed(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsed: list[list[str]] = []
    monkeypatch.setattr(run_module.BucketSampler, "largest", lambda self: [[3], [1, 2], [5]])
    monkeypatch.setattr(Trainer, "rehearse", lambda self, batch: rehearsed.append(batch.utt_ids))
    train(tmp_path / "exp/a", config, inputs, CPU)
    assert rehearsed == [["utt003"], ["utt001", "utt002"], ["utt005"]]


def test_a_largest_batch_of_which_nothing_may_be_read_is_not_rehearsed(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsed: list[list[str]] = []
    original = Trainer.rehearse
    monkeypatch.setattr(run_module.BucketSampler, "largest", lambda self: [[3], [1, 2], [5]])
    monkeypatch.setattr(Trainer, "rehearse", lambda self, b: rehearsed.append(b.utt_ids) or original(self, b))
    (tmp_path / "exp/a").mkdir(parents=True)
    (tmp_path / "exp/a/leave_out").write_text("utt001\nutt002\n")
    train(tmp_path / "exp/a", short, inputs, CPU)
    assert rehearsed == [["utt003"], ["utt005"]] and (tmp_path / "exp/a/model.pt").exists()


def test_a_training_that_goes_on_is_rehearsed_with_its_own_moments(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer._train_step
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", lambda self, *args: step(self, *args) or self.step == 7 and terminate())
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "exp/a", config, inputs, CPU)
    rehearsed: list[tuple[int, int]] = []
    original, empty, made = Trainer.rehearse, torch.empty_like, []
    monkeypatch.setattr(torch, "empty_like", lambda *args, **options: made.append(1) or empty(*args, **options))

    def rehearse(self: Trainer, batch: Any) -> None:
        before, moments = len(made), [t.clone() for s in self._optimizer.state.values() for t in s.values()]
        original(self, batch)
        rehearsed.append((self.step, len(made) - before))
        assert all(map(torch.equal, moments, (t for s in self._optimizer.state.values() for t in s.values())))

    monkeypatch.setattr(Trainer, "rehearse", rehearse)
    other = dataclasses.replace(config, training=dataclasses.replace(config.training, activation_checkpointing=True))
    train(tmp_path / "exp/a", other, inputs, CPU)
    train(tmp_path / "exp/new", config, inputs, CPU)
    again, first = ([n for step, n in rehearsed if step == at] for at in (7, 0))
    parameters = sum(1 for name in weights_of(tmp_path / "exp/a") if not name.startswith("feature_"))
    assert again and max(again) < parameters <= min(first) - parameters


def test_memory_that_ends_in_a_validation_says_what_to_lower_and_training_goes_on(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    training = dataclasses.replace(config.training, checkpoint_every_s=1e-9)  # so that there is one to go on from
    with monkeypatch.context() as patch:
        patch.setattr("omnirouter.training.trainer.dev_errors", fail)
        with pytest.raises(UserError, match="in a validation; lower training.valid_batch_s, now 200; .* goes on"):
            train(tmp_path / "exp/a", dataclasses.replace(config, training=training), inputs, CPU)
    smaller = dataclasses.replace(config, training=dataclasses.replace(training, valid_batch_s=10.0))
    train(tmp_path / "exp/a", smaller, inputs, CPU)
    assert "resuming after step 3" in (tmp_path / "exp/a/train.log").read_text()


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_too_large_a_batch_is_found_before_the_first_step(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("omnirouter.training.step.ctc_losses", fail)
    with pytest.raises(UserError, match="out of memory .* lower batch.max_batch_s, now 8, or set training") as told:
        train(tmp_path / "exp/a", config, inputs, CPU)
    assert "activation_checkpointing=true or training.precision=bf16" in str(told.value) and "fsdp" not in str(
        told.value
    )
    assert not (tmp_path / "exp/a/metrics.jsonl").read_text()
    error.args = ("something else",)
    if type(error) is RuntimeError:
        with pytest.raises(RuntimeError, match="something else"):
            train(tmp_path / "exp/a", config, inputs, CPU)


@pytest.mark.parametrize(("batches_per_step", "kept"), [(1, 1), (2, 2), (5, 2)])
def test_the_rehearsal_has_a_gradient_to_keep_where_steps_have_several_batches(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch, batches_per_step: int,
    kept: int,
) -> None:  # fmt: skip
    computed: list[int] = []
    original = StepGradient.compute

    def compute(self: StepGradient, batches: list, *arguments: Any, **options: Any) -> Any:
        computed.append(len(batches))
        return original(self, batches, *arguments, **options)

    monkeypatch.setattr(StepGradient, "compute", compute)
    training = dataclasses.replace(config.training, batches_per_step=batches_per_step, max_steps=1)
    train(tmp_path / "exp/a", dataclasses.replace(config, training=training), inputs, CPU)
    assert computed[-1] == batches_per_step and set(computed[:-1]) == {kept}


def train_without_memory(exp: Path, inputs: Inputs, config: ExperimentConfig) -> None:
    """Train where the memory of process 1 does not suffice."""

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.MonkeyPatch.context() as patch:
        if rank() == 1:
            patch.setattr("omnirouter.training.step.ctc_losses", fail)
        train(exp, config, inputs, CPU)


def test_memory_that_does_not_suffice_in_one_process_ends_all_with_what_to_lower(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, in_processes: Callable[..., list[Any]]
) -> None:
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, precision="bf16"))
    error, _ = in_processes(2, lambda: train_without_memory(tmp_path / "exp/a", inputs, config), code=1)
    assert "lower batch.max_batch_s, now 8, or set training.activation_checkpointing=true" in error
    assert "training.distributed=fsdp" in error and "precision" not in error


def test_a_sharded_training_whose_memory_ends_in_one_process_ends_with_what_to_lower(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, in_processes: Callable[..., list[Any]]
) -> None:
    """The other one waits for its share, until the connection ends."""
    training = dataclasses.replace(config.training, distributed="fsdp", activation_checkpointing=True)
    config = dataclasses.replace(config, training=training)
    waiting, failed = in_processes(2, lambda: train_without_memory(tmp_path / "exp/a", inputs, config), code=1)
    assert "out of memory on cpu at the largest batch" in failed
    assert "lower batch.max_batch_s, now 8, or set training.precision=bf16" in failed
    assert waiting.startswith("RuntimeError")
