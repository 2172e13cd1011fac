"""Whole trainings by several processes: equal to that of one, stopped together, resumed, refused together."""

import dataclasses
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from omnirouter.data.errors import UserError
from omnirouter.models.ctc import CtcModel
from omnirouter.training import checkpoint, distributed
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.distributed import check_equal_weights, from_first, rank, ranks
from omnirouter.training.experiment import Inputs
from omnirouter.training.run import train
from omnirouter.training.trainer import Trainer

CPU = torch.device("cpu")
InProcesses = Callable[..., list[Any]]


def changed(config: ExperimentConfig, **fields: Any) -> ExperimentConfig:
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **fields))


@pytest.fixture
def pair(config: ExperimentConfig) -> ExperimentConfig:
    """Two batches a step, so few that a training is quick, with layer drop and all kinds of noise."""
    return changed(config, batches_per_step=2, z_loss_weight=0.1)


def records_of(exp: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "time"} for record in records]


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in numbers(value[key])]
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [] if value is None else [value]


def weights_of(exp: Path) -> dict[str, torch.Tensor]:
    return torch.load(exp / "model.pt", weights_only=True)


def assert_alike(mine: Path, wanted: Path) -> None:
    """Weights and records are equal but for rounding."""
    for name, tensor in weights_of(wanted).items():
        torch.testing.assert_close(
            weights_of(mine)[name], tensor, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n} {m}"
        )
    assert numbers(records_of(mine)) == pytest.approx(numbers(records_of(wanted)), rel=2e-3, abs=1e-4)


def assert_same(mine: Path, wanted: Path) -> None:
    """Weights and records are equal to the last bit."""
    assert records_of(mine) == records_of(wanted)
    weights, others = weights_of(mine), weights_of(wanted)
    assert weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in others)


def stop(patch: pytest.MonkeyPatch, step: int, how: Callable[[], None]) -> None:
    """Let something happen in this process after a step."""
    original = Trainer._train_step

    def train_step(self: Trainer, *arguments: Any) -> None:
        original(self, *arguments)
        if self.step == step:
            how()

    patch.setattr(Trainer, "_train_step", train_step)


def terminated(exp: Path, config: ExperimentConfig, inputs: Inputs, step: int) -> str:
    """Train, with a SIGTERM to the second process alone after a step; returns how it ends."""
    with pytest.MonkeyPatch.context() as patch:
        if rank() == 1:
            stop(patch, step, lambda: signal.raise_signal(signal.SIGTERM))
        try:
            train(exp, config, inputs, CPU)
        except KeyboardInterrupt:
            return "interrupted"
    return "finished"


def test_two_processes_train_as_one_does_and_resume_exactly(
    tmp_path: Path, inputs: Inputs, pair: ExperimentConfig, in_processes: InProcesses
) -> None:
    one, two, resumed = (tmp_path / "exp" / name for name in ("one", "two", "resumed"))
    train(one, pair, inputs, CPU)
    auto = changed(pair, batches_per_step=0)  # as many as there are processes
    in_processes(2, lambda: train(two, auto, inputs, CPU))
    assert_alike(two, one)
    ended = in_processes(2, lambda: terminated(resumed, auto, inputs, 7))
    assert ended == ["interrupted"] * 2
    assert checkpoint.steps(resumed / "checkpoints") == [4, 7] and not (resumed / "model.pt").exists()
    with pytest.raises(UserError, match=r"training.batches_per_step: 2 there, 1 now"):
        train(resumed, changed(pair, batches_per_step=1), inputs, CPU)
    in_processes(2, lambda: train(resumed, auto, inputs, CPU))
    assert_same(resumed, two)


def test_a_sharded_training_is_that_of_replicas_and_shares_its_checkpoints(
    tmp_path: Path, inputs: Inputs, pair: ExperimentConfig, in_processes: InProcesses
) -> None:
    pair = changed(pair, batches_per_step=4)
    replicas, sharded, other, third = (tmp_path / "exp" / name for name in ("ddp", "fsdp", "there", "back"))
    shards = changed(pair, distributed="fsdp")
    in_processes(2, lambda: train(replicas, pair, inputs, CPU))
    in_processes(2, lambda: train(sharded, shards, inputs, CPU))
    assert_alike(sharded, replicas)
    for exp, first, second in ((other, pair, changed(shards, activation_checkpointing=True)), (third, shards, pair)):
        in_processes(2, lambda: terminated(exp, first, inputs, 7))  # noqa: B023
        in_processes(2, lambda: train(exp, second, inputs, CPU))  # noqa: B023
        assert_alike(exp, replicas)
    states = [torch.load(exp / "checkpoints/step_14.pt", weights_only=True) for exp in (replicas, sharded)]
    for mine, its in zip(*(numbers_of_moments(state["optimizer"]) for state in states), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-2, atol=1e-4)


def numbers_of_moments(state: dict[str, Any]) -> list[torch.Tensor]:
    return [values[name] for i, values in sorted(state["state"].items()) for name in ("step", "exp_avg", "exp_avg_sq")]


def test_three_processes_need_a_multiple_of_three_batches(
    tmp_path: Path, inputs: Inputs, pair: ExperimentConfig, in_processes: InProcesses
) -> None:
    errors = in_processes(3, lambda: train(tmp_path / "exp/a", pair, inputs, CPU), code=1)
    assert all("batches_per_step: 2 batches" in error and "among 3 processes" in error for error in errors)
    assert not (tmp_path / "exp").exists()


def test_an_error_of_the_first_process_is_told_once(
    tmp_path: Path, inputs: Inputs, pair: ExperimentConfig, in_processes: InProcesses
) -> None:
    (inputs.dev / "text").unlink()
    first, second = in_processes(2, lambda: train(tmp_path / "exp/a", pair, inputs, CPU), code=1)
    assert first.startswith("UserError: ") and "text does not exist" in first and second == "SystemExit: 1"


def test_the_end_of_one_process_is_the_end_of_all(
    tmp_path: Path, inputs: Inputs, pair: ExperimentConfig, in_processes: InProcesses
) -> None:
    def work() -> None:
        with pytest.MonkeyPatch.context() as patch:
            if rank() == 1:
                stop(patch, 3, lambda: os._exit(1))
            try:
                train(tmp_path / "exp/a", pair, inputs, CPU)
            except RuntimeError as error:
                raise SystemExit(1) from error

    with pytest.raises(FileNotFoundError, match="1.pt"):  # the second process has died without a word
        in_processes(2, work, code=1)
    assert not (tmp_path / "exp/a/model.pt").exists()


def test_processes_with_different_weights_are_found_out(in_processes: InProcesses, config: ExperimentConfig) -> None:
    def work() -> None:
        torch.manual_seed(0)
        model = CtcModel(config.model, 9)
        check_equal_weights(model, 3)
        if rank() == 1:
            model.feature_mean[3] += 1e-3
        check_equal_weights(model, 3)

    errors = in_processes(2, work, code=1)
    assert "process 1 has other weights than process 0" in errors[0] and errors[1] == "SystemExit: 1"
    errors = in_processes(2, lambda: check_equal_weights(torch.nn.ReLU(), rank()), code=1)
    assert "another step (1, not 0)" in errors[0]


@pytest.fixture
def begun(tmp_path: Path, inputs: Inputs, pair: ExperimentConfig, in_processes: InProcesses) -> Path:
    """A training by two processes with checkpoints of steps 4 and 7."""
    in_processes(2, lambda: terminated(tmp_path / "exp/a", pair, inputs, 7))
    assert checkpoint.steps(tmp_path / "exp/a/checkpoints") == [4, 7]
    return tmp_path / "exp/a"


def test_the_first_process_says_which_checkpoint_all_go_on_from(
    tmp_path: Path, begun: Path, inputs: Inputs, pair: ExperimentConfig, in_processes: InProcesses
) -> None:
    def work() -> None:
        with pytest.MonkeyPatch.context() as patch:
            if rank() == 1:  # the other machine's listing is old
                patch.setattr(checkpoint, "steps", lambda folder: [4])
            train(begun, pair, inputs, CPU)

    in_processes(2, work)
    in_processes(2, lambda: train(tmp_path / "exp/whole", pair, inputs, CPU))
    assert_same(begun, tmp_path / "exp/whole")


@pytest.mark.parametrize("distributed", ["ddp", "fsdp"])
@pytest.mark.parametrize("lost", [True, False])
def test_processes_that_see_other_checkpoints_end_together(
    tmp_path: Path, begun: Path, inputs: Inputs, pair: ExperimentConfig, in_processes: InProcesses, lost: bool,
    distributed: str,
) -> None:  # fmt: skip
    elsewhere = tmp_path / "elsewhere/a"  # what another machine has under the same path
    shutil.copytree(begun, elsewhere)
    (elsewhere / "checkpoints/step_7.pt").unlink()
    if not lost:
        shutil.copy(begun / "checkpoints/step_4.pt", elsewhere / "checkpoints/step_7.pt")
    config = changed(pair, distributed=distributed)
    errors = in_processes(2, lambda: train((begun, elsewhere)[rank()], config, inputs, CPU), code=1)
    wanted = f"{elsewhere}/checkpoints/step_7.pt does not exist" if lost else "process 1 has other weights"
    assert wanted in errors[0] and "process 1" in errors[0] and errors[1] == "SystemExit: 1"


def test_memory_that_ends_in_a_later_step_says_what_to_change_to_go_on(
    begun: Path, inputs: Inputs, pair: ExperimentConfig, in_processes: InProcesses
) -> None:
    def work() -> None:
        def fail() -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        with pytest.MonkeyPatch.context() as patch:
            stop(patch, 9, fail)  # in all: here no torchrun ends the process that waits for another
            train(begun, pair, inputs, CPU)

    for error in in_processes(2, work, code=1):
        assert "in the step after 8, largest batch " in error and "utterances padded to" in error
        assert "go on from the last checkpoint, set training.activation_checkpointing=true or training.dis" in error
        assert "--restart: lower batch.max_batch_s, now 8, or set training.precision=bf16" in error


def test_replicas_can_leave_out_blocks_right_after_the_rehearsal(
    tmp_path: Path, inputs: Inputs, pair: ExperimentConfig, in_processes: InProcesses
) -> None:
    config = dataclasses.replace(pair, model=dataclasses.replace(pair.model, layer_drop=0.9))
    in_processes(2, lambda: train(tmp_path / "exp/a", changed(config, max_steps=2), inputs, CPU))
    assert (tmp_path / "exp/a/model.pt").exists()


def test_what_only_the_first_process_computes_all_have(in_processes: InProcesses) -> None:
    def work() -> tuple[list[int], int]:
        return from_first(lambda: [rank(), ranks()]), rank()

    assert in_processes(3, work) == [([0, 3], 0), ([0, 3], 1), ([0, 3], 2)]
    assert work() == ([0, 1], 0)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_what_the_first_process_computes_is_not_held_as_often_as_there_are_processes(in_processes: InProcesses) -> None:
    def most() -> int:
        return int(next(s for s in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in s).split()[1])

    def work() -> float:
        before = most()
        from_first(lambda: np.zeros(2**23, np.int32))  # 32 MiB
        return (most() - before) / 2**10

    assert max(in_processes(4, work)) < 5 * 32


def test_a_restarted_process_does_not_meet_the_addresses_of_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun keeps its store when it starts the processes of one machine again."""
    kept, stores = dist.HashStore(), []
    monkeypatch.setattr(distributed, "rendezvous", lambda *_, **__: iter([(kept, 0, 2)]))
    monkeypatch.setattr(dist, "init_process_group", lambda *_, store, **__: stores.append(store))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for restart in ("0", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restart)
        with distributed.process_group(CPU):
            stores[-1].set("address", restart)
    assert [store.get("address") for store in stores] == [b"0", b"1"]
