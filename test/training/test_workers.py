"""The processes that load batches for a training."""

import dataclasses
import multiprocessing
from pathlib import Path

import pytest
import torch

from omnirouter.training.config import ExperimentConfig
from omnirouter.training.experiment import Inputs
from omnirouter.training.run import train
from omnirouter.training.trainer import Trainer


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_has_as_many_as_it_asks_for(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    found: list[int] = []
    before = set(multiprocessing.active_children())

    def run(self: Trainer, batches: object) -> None:
        found.append(len(set(multiprocessing.active_children()) - before))
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", run)
    asked = dataclasses.replace(config, training=dataclasses.replace(config.training, workers=workers))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "exp/a", asked, inputs, torch.device("cpu"))
    assert found == [workers]
