"""Where the time of a training goes, by a clock that the test moves."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from omnirouter.data.dataset import Batch
from omnirouter.training import run as run_module
from omnirouter.training import trainer as trainer_module
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.experiment import Inputs
from omnirouter.training.run import train
from omnirouter.training.step import StepGradient

LOADING_S, COMPUTING_S, SAVING_S = 3.0, 1.0, 7.0


def test_waiting_for_data_and_throughput_are_those_of_the_clock(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, frames = SimpleNamespace(now=100.0), []
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    batches, compute = run_module.training_batches, StepGradient.compute
    save_step = trainer_module.checkpoint.save_step

    def slow_batches(*args: Any) -> Iterator[Batch]:
        for batch in batches(*args):
            clock.now += LOADING_S
            frames.append(sum(batch.lengths))
            yield batch

    def slow_compute(self: StepGradient, *args: Any, **options: Any) -> Any:
        clock.now += COMPUTING_S
        return compute(self, *args, **options)

    def slow_save(*args: Any) -> None:
        clock.now += SAVING_S
        save_step(*args)

    monkeypatch.setattr(run_module, "training_batches", slow_batches)
    monkeypatch.setattr(trainer_module.checkpoint, "save_step", slow_save)
    monkeypatch.setattr(StepGradient, "compute", slow_compute)
    train(tmp_path / "exp/a", config, inputs, torch.device("cpu"))
    records = [json.loads(line) for line in (tmp_path / "exp/a/metrics.jsonl").read_text().splitlines()]
    records = [record for record in records if "ctc_loss" in record]
    times = [record["time"] for record in records]
    assert [of_interval["checkpoint_s"] for of_interval in times] == [0, SAVING_S, SAVING_S, 0]  # after steps 4 and 8
    for i, of_interval in enumerate(times):  # of three steps each
        wall_s = 3 * (LOADING_S + COMPUTING_S)
        audio_s = sum(frames[3 * i : 3 * i + 3]) / 100
        assert of_interval["wall_s"] == pytest.approx(wall_s)
        assert of_interval["data_wait_share"] == pytest.approx(3 * LOADING_S / wall_s)
        assert of_interval["audio_s_per_s"] == pytest.approx(audio_s / wall_s)
    logged = re.findall(r"step (\d+) epoch .* (\d+) audio-s/s (.+)", (tmp_path / "exp/a/train.log").read_text())
    assert logged == [
        (
            str(record["step"]),
            f"{record['time']['audio_s_per_s']:.0f}",
            f"padding {record['padding_share'] * 100:.0f}% data wait 75%",  # 3 of 4 seconds
        )
        for record in records
    ]
    assert any(record["padding_share"] > 0.01 for record in records)
