"""Going on with a training: what has to be the same, and what it may be."""

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest
import torch

from omnirouter.data.errors import UserError
from omnirouter.data.features import FeatureStats
from omnirouter.data.tables import read_table, write_table
from omnirouter.data.tokenizer import train_tokenizer
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.experiment import Inputs
from omnirouter.training.log import LOG
from omnirouter.training.run import train
from omnirouter.training.trainer import Trainer

CPU = torch.device("cpu")


def train_until(
    step: int, exp: Path, config: ExperimentConfig, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begin a training that is interrupted after a step."""
    original = Trainer._train_step

    def train_step(self: Trainer, *args: Any) -> None:
        original(self, *args)
        if self.step == step:
            self._interrupt()

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", train_step)
        with pytest.raises(KeyboardInterrupt):
            train(exp, config, inputs, CPU)


def test_a_training_does_not_go_on_with_other_features(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(3, tmp_path / "a", config, inputs, monkeypatch)
    before = (tmp_path / "a/feature_stats.json").read_bytes()
    stats = FeatureStats.load(tmp_path / "a/feature_stats.json")
    for shift, close in ((1e-4, False), (1e-7, True)):
        monkeypatch.setattr(
            "omnirouter.training.selection.open_stats",
            lambda *_, by=shift: dataclasses.replace(stats, mean=stats.mean + by),
        )
        if close:
            train(tmp_path / "a", config, inputs, CPU)
        else:
            with pytest.raises(UserError, match="other means or deviations"):
                train(tmp_path / "a", config, inputs, CPU)
        assert (tmp_path / "a/feature_stats.json").read_bytes() == before


def test_a_training_does_not_go_on_with_other_features_of_its_dev_set(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(5, tmp_path / "a", config, inputs, monkeypatch)
    ark = inputs.dev / "utt003.ark"
    before = ark.read_bytes()
    kaldiio.save_ark(str(ark), {"utt003": kaldiio.load_mat(f"{ark}:7")[::-1] + 0.5})
    with pytest.raises(UserError, match="dev: its features .* its errors do not compare .* --name of its own"):
        train(tmp_path / "a", config, inputs, CPU)
    ark.write_bytes(before)
    train(tmp_path / "a", config, inputs, CPU)
    assert (tmp_path / "a/model.pt").exists()


def test_an_experiment_of_an_earlier_version_goes_on_and_has_dev_statistics_then(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(5, tmp_path / "a", config, inputs, monkeypatch)
    before = (tmp_path / "a/dev_stats.json").read_bytes()
    (tmp_path / "a/dev_stats.json").unlink()
    train(tmp_path / "a", config, inputs, CPU)
    assert (tmp_path / "a/model.pt").exists() and (tmp_path / "a/dev_stats.json").read_bytes() == before


def test_a_dev_utterance_without_frames_may_have_no_columns_either(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig
) -> None:
    """As Kaldi stores it."""
    frames = {**read_table(inputs.dev / "utt2num_frames"), "utt011": "0"}
    write_table(inputs.dev / "utt2num_frames", frames)
    kaldiio.save_ark(str(inputs.dev / "utt011.ark"), {"utt011": np.zeros((0, 0), np.float32)})
    train(tmp_path / "a", short, inputs, CPU)
    stats = FeatureStats.load(tmp_path / "a/dev_stats.json")
    assert (tmp_path / "a/model.pt").exists() and stats.frames == sum(map(int, frames.values()))


def lose_an_archive(inputs: Inputs, add: float) -> None:
    """Make an utterance unreadable, add to the features of the others, and have the index built anew."""
    for ark in sorted(inputs.train.glob("*.ark"))[1:]:
        [(utt_id, matrix)] = kaldiio.load_ark(str(ark))
        kaldiio.save_ark(str(ark), {utt_id: matrix + np.float32(add)})
    (inputs.train / "utt000.ark").write_bytes(b"garbage")
    (inputs.train / "feats.scp").touch()


@pytest.mark.parametrize("listed", [False, True])
def test_a_training_goes_on_with_its_statistics_when_an_utterance_has_become_unreadable(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as it does where the index, and with it the statistics, have not been made anew.

    The one that is lost is unlike all others: digital silence.
    """
    silence = np.full_like(kaldiio.load_mat(f"{inputs.train}/utt000.ark:7"), -15.94)
    kaldiio.save_ark(str(inputs.train / "utt000.ark"), {"utt000": silence})
    share = 0.0 if listed else 0.05
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, max_unreadable_share=share))
    train_until(3, tmp_path / "exp/a", config, inputs, monkeypatch)
    if listed:
        (tmp_path / "exp/a/leave_out").write_text("utt000\n")
    shutil.copytree(tmp_path / "exp/a", tmp_path / "exp/before")
    stats = (tmp_path / "exp/a/feature_stats.json").read_bytes()
    (inputs.train / "utt000.ark").rename(tmp_path / "utt000.ark")
    train(tmp_path / "exp/before", config, inputs, CPU)
    lose_an_archive(inputs, 0)
    train(tmp_path / "exp/a", config, inputs, CPU)
    assert (tmp_path / "exp/a/feature_stats.json").read_bytes() == stats
    log = (tmp_path / "exp/a/train.log").read_text()
    assert re.search(r"train: means and deviations are of (\d+) frames by now, of (?!\1 )\d+ when this", log)
    weights = [torch.load(tmp_path / "exp" / name / "model.pt", weights_only=True) for name in ("a", "before")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_a_training_does_not_go_on_with_other_features_when_one_is_unreadable(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(3, tmp_path / "a", config, inputs, monkeypatch)
    lose_an_archive(inputs, 1.5)
    lenient = dataclasses.replace(config, training=dataclasses.replace(config.training, max_unreadable_share=0.05))
    with pytest.raises(UserError, match="other means or deviations than when this training began"):
        train(tmp_path / "a", lenient, inputs, CPU)


@pytest.mark.parametrize("then", ["other units", "none"])
def test_a_training_goes_on_with_its_own_units_whatever_their_directory_holds_by_then(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, then: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    text, exp = inputs.train / "text", tmp_path / "exp/a"
    train_tokenizer(["A B C D E F"] * 9, "bpe", 15, inputs.lang, text)
    bound = dataclasses.replace(inputs, lang_text=text)
    train_until(3, exp, config, bound, monkeypatch)
    own = (exp / "lang/tokens.txt").read_bytes()
    shutil.copytree(inputs.lang, tmp_path / "same")
    shutil.rmtree(inputs.lang)
    if then == "other units":
        train_tokenizer(["AB CD EF"] * 9, "bpe", 16, inputs.lang, inputs.dev / "text")
        shutil.copytree(inputs.lang, tmp_path / "elsewhere")
        with pytest.raises(UserError, match="another experiment:\n  inputs.digests.lang/tokens.txt: '"):
            train(exp, config, dataclasses.replace(bound, lang=tmp_path / "elsewhere"), CPU)
    monkeypatch.setattr(LOG, "propagate", True)
    train(exp, config, bound, CPU)
    assert (exp / "model.pt").exists() and (exp / "lang/tokens.txt").read_bytes() == own
    assert (f"{inputs.lang} holds other units by now" in caplog.text) == (then == "other units")
    for lang in (inputs.lang, tmp_path / "same"):
        train(exp, config, dataclasses.replace(bound, lang=lang), CPU)
        assert "training is finished" in capsys.readouterr().out
    with pytest.raises(UserError, match="was learned from|tokens.txt does not exist"):
        train(exp, config, bound, CPU, restart=True)
    assert (exp / "model.pt").exists()


def test_an_experiments_own_units_must_be_those_it_began_with(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig
) -> None:
    short = dataclasses.replace(config, training=dataclasses.replace(config.training, max_steps=1))
    train(tmp_path / "a", short, inputs, CPU)
    with open(tmp_path / "a/lang/tokens.txt", "a") as file:
        file.write("Z 15\n")
    with pytest.raises(UserError, match="another experiment:\n  inputs.digests.lang/tokens.txt: '"):
        train(tmp_path / "a", short, inputs, CPU)


def test_a_finished_training_of_several_processes_is_finished_for_one_too(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    of_two = dataclasses.replace(config, training=dataclasses.replace(config.training, batches_per_step=2))
    train(tmp_path / "a", of_two, inputs, CPU)  # as two processes with 0 make it
    train(tmp_path / "a", config, inputs, CPU)
    assert "training is finished" in capsys.readouterr().out


def test_an_existing_number_of_batches_is_taken_where_it_can_be_shared_out() -> None:
    config = ExperimentConfig()
    batches = [config.for_processes(ranks, begun).training.batches_per_step for ranks, begun in
               ((1, 0), (3, 0), (1, 4), (2, 4), (3, 4))]  # fmt: skip
    assert batches == [1, 3, 4, 4, 3]
