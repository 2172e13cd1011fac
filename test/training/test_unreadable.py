"""Utterances that training goes on without: the unreadable, and those that the user lists; all else is as it was."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest
import torch

from omnirouter.data.dataset import load_row
from omnirouter.data.errors import UserError
from omnirouter.data.features import FeatureConfig, feature_stats
from omnirouter.data.index import open_index
from omnirouter.training import checkpoint
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.experiment import Inputs
from omnirouter.training.run import train
from omnirouter.training.selection import open_stats
from omnirouter.training.skipping import left_out_rows
from omnirouter.training.trainer import Trainer

CPU = torch.device("cpu")
BROKEN = ["utt007", "utt031"]
ROWS = np.arange(60, dtype=np.int32)


def allowing(config: ExperimentConfig, share: float, **training: Any) -> ExperimentConfig:
    return dataclasses.replace(
        config, training=dataclasses.replace(config.training, max_unreadable_share=share, **training)
    )


def spoil(inputs: Inputs) -> None:
    """Make two of the training utterances unreadable: one archive is garbage, one has a value that is no number."""
    (inputs.train / "utt007.ark").write_bytes(b"garbage")
    matrix = kaldiio.load_mat(f"{inputs.train}/utt031.ark:7").copy()
    matrix[3, 5] = np.nan
    kaldiio.save_ark(f"{inputs.train}/utt031.ark", {"utt031": matrix})


def list_left_out(exp: Path, utt_ids: list[str]) -> None:
    exp.mkdir(parents=True)
    (exp / "leave_out").write_text("".join(f"{utt_id}\n\n" for utt_id in utt_ids))


def result(exp: Path) -> tuple[list[dict[str, Any]], dict[str, list]]:
    records = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record.pop("time", None)
    return records, {name: t.tolist() for name, t in torch.load(exp / "model.pt", weights_only=True).items()}


def test_the_unreadable_are_left_out_as_if_listed_and_a_resumed_training_ends_the_same(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = allowing(config, 0.04)  # 2 of 60
    list_left_out(tmp_path / "exp/listed", BROKEN)
    train(tmp_path / "exp/listed", config, inputs, CPU)
    assert json.loads((tmp_path / "exp/listed/model_info.json").read_text())["left_out"] == 2
    spoil(inputs)  # the statistics have been taken before
    train(tmp_path / "exp/whole", config, inputs, CPU)
    assert result(tmp_path / "exp/whole") == result(tmp_path / "exp/listed")

    original = Trainer._train_step

    def train_step(self: Trainer, *args: Any) -> None:
        original(self, *args)
        if self.step == 9:
            self._interrupt()

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", train_step)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "exp/a", config, inputs, CPU)
    assert checkpoint.load_last(tmp_path / "exp/a/checkpoints")["unreadable"] == BROKEN  # an epoch has seven steps
    train(tmp_path / "exp/a", config, inputs, CPU)
    assert result(tmp_path / "exp/a") == result(tmp_path / "exp/whole")
    for log in ((tmp_path / exp / "train.log").read_text() for exp in ("exp/whole", "exp/a")):
        assert log.count("training goes on without utterance") == 2
        assert log.count("without utterance utt031: its features are not finite; run stage 2 again (") == 1
        assert log.count("without utterance utt007: cannot read its features at ") == 1


def test_more_than_allowed_end_the_training_with_advice_that_helps(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig
) -> None:
    open_stats(open_index(inputs.train, inputs.lang), ROWS, config)
    spoil(inputs)
    few = allowing(config, 0.02, workers=1, checkpoint_every_s=1e-9)
    message = r"^utterance (utt\d{3}): .*; unreadable so far: 2, .* training.max_unreadable_share allows, 1;"
    with pytest.raises(UserError, match=message) as told:
        train(tmp_path / "exp/a", few, inputs, CPU)
    assert checkpoint.load_last(tmp_path / "exp/a/checkpoints")["unreadable"]
    shutil.copytree(tmp_path / "exp/a", tmp_path / "exp/b")
    (tmp_path / "exp/a/leave_out").write_text(re.match(message, str(told.value))[1])
    train(tmp_path / "exp/a", few, inputs, CPU)
    assert (tmp_path / "exp/a/model.pt").exists()
    (tmp_path / "exp/b/leave_out").write_text("\n".join(BROKEN))
    train(tmp_path / "exp/b", allowing(few, 0.0), inputs, CPU)
    assert checkpoint.load_last(tmp_path / "exp/b/checkpoints")["unreadable"] == []  # that listed later counts no more


def test_statistics_are_those_of_the_readable(inputs: Inputs, config: ExperimentConfig) -> None:
    index = open_index(inputs.train, inputs.lang)
    wanted = feature_stats(load_row(index, row) for row in ROWS if row not in (7, 31))
    spoil(inputs)
    with pytest.raises(UserError, match="utterance utt007: .* so far: 1, .*max_unreadable_share allows, 0;"):
        open_stats(index, ROWS, allowing(config, 0.01))
    stats = open_stats(index, ROWS, allowing(config, 0.04))
    np.testing.assert_array_equal(stats.mean, wanted.mean)
    assert stats.frames == wanted.frames


def test_processes_lack_the_same_and_end_together(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, in_processes: Callable[..., list[Any]]
) -> None:
    config = allowing(config, 0.04, batches_per_step=2, max_steps=5, valid_every=5)
    open_stats(open_index(inputs.train, inputs.lang), ROWS, config)
    spoil(inputs)
    train(tmp_path / "exp/one", config, inputs, CPU)
    in_processes(2, lambda: train(tmp_path / "exp/two", config, inputs, CPU))
    (mine, _), (its, _) = result(tmp_path / "exp/two"), result(tmp_path / "exp/one")
    assert mine[0]["utterances"] == its[0]["utterances"]
    assert mine[0]["ctc_loss"] == pytest.approx(its[0]["ctc_loss"], rel=1e-4)
    assert checkpoint.load_last(tmp_path / "exp/two/checkpoints")["unreadable"] == BROKEN
    none = allowing(config, 0.0)
    first, second = in_processes(2, lambda: train(tmp_path / "exp/none", none, inputs, CPU), code=1)
    assert first.startswith("UserError: utterance utt0") and second == "SystemExit: 1"


def test_a_list_must_name_utterances_of_the_set(tmp_path: Path, inputs: Inputs) -> None:
    index = open_index(inputs.train, inputs.lang)
    assert left_out_rows(tmp_path / "none/leave_out", index) == []
    list_left_out(tmp_path / "exp", ["utt059", "utt000"])
    assert left_out_rows(tmp_path / "exp/leave_out", index) == [59, 0]
    (tmp_path / "exp/leave_out").write_text(" utt059\n\nutt000 \n\u00a0\nutt059\n")
    assert left_out_rows(tmp_path / "exp/leave_out", index) == [59, 0]
    for other in ("utt0001", "utt060", "a"):
        (tmp_path / "exp/leave_out").write_text(f"utt001\n{other}\n")
        with pytest.raises(UserError, match=rf"exp/leave_out:2: '{other}' is no utterance of the training set"):
            left_out_rows(tmp_path / "exp/leave_out", index)
    (tmp_path / "exp/leave_out").write_bytes(b"utt001\r\n\nutt\xe9\n")
    with pytest.raises(UserError, match=r"exp/leave_out:3: not UTF-8: byte 4 of the line is 0xe9; write"):
        left_out_rows(tmp_path / "exp/leave_out", index)


@pytest.mark.parametrize("stats_h", [20, 0.01])  # statistics of all, or of a drawn part, which are taken with the index
def test_the_listed_may_be_unreadable_from_the_start(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, stats_h: float
) -> None:
    spoil(inputs)
    none = dataclasses.replace(allowing(config, 0.0, max_steps=2), features=FeatureConfig(stats_h=stats_h))
    with pytest.raises(UserError, match="unreadable so far: 1, .*max_unreadable_share allows, 0;"):
        train(tmp_path / "exp/a", none, inputs, CPU)
    (tmp_path / "exp/a/leave_out").write_text("\n".join(BROKEN))
    train(tmp_path / "exp/a", none, inputs, CPU)
    assert (tmp_path / "exp/a/model.pt").exists()
