"""Training as a whole: it learns, resumes bit for bit, refuses other configurations, ends where it should."""

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from omnirouter.data.dataset import read_feature_dir
from omnirouter.data.errors import UserError
from omnirouter.decoding.run import decode_to_file
from omnirouter.models.ctc import CtcModel
from omnirouter.training import run as run_module
from omnirouter.training.config import ExperimentConfig, OptimConfig
from omnirouter.training.experiment import Inputs, load_experiment
from omnirouter.training.run import train
from omnirouter.training.trainer import Trainer, make_optimizer

CPU = torch.device("cpu")


def metrics_of(exp: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "time"} for record in records]


def weights_of(exp: Path) -> dict[str, torch.Tensor]:
    return torch.load(exp / "model.pt", weights_only=True)


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, how: str) -> None:
    """Let the training end after some steps: as if killed, or by a signal."""
    original = Trainer._train_step
    done = 0

    def step(self: Trainer, *arguments: Any) -> None:
        nonlocal done
        if done == steps and how == "killed":
            raise RuntimeError("killed")
        original(self, *arguments)
        done += 1
        if done == steps and how == "signal":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_train_step", step)


@pytest.mark.parametrize("encoder", ["dense", "switch", "omnirouter"])
@pytest.mark.parametrize(("steps", "how"), [(2, "killed"), (6, "killed"), (13, "killed"), (7, "signal")])
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, encoder: str, steps: int, how: str
) -> None:
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, encoder=encoder))
    whole, resumed = tmp_path / "exp/whole", tmp_path / "exp/resumed"
    train(whole, config, inputs, CPU)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, steps, how)
        with pytest.raises(KeyboardInterrupt if how == "signal" else RuntimeError):
            train(resumed, config, inputs, CPU)
    assert not (resumed / "model.pt").exists()
    train(resumed, config, inputs, CPU)
    assert metrics_of(resumed) == metrics_of(whole)
    mine, wanted = weights_of(resumed), weights_of(whole)
    assert mine.keys() == wanted.keys() and all(torch.equal(mine[name], wanted[name]) for name in wanted)


def test_it_learns_what_the_letters_sound_like(tmp_path: Path, inputs: Inputs, config: ExperimentConfig) -> None:
    training = dataclasses.replace(config.training, max_steps=60, valid_every=5, log_every=50)
    train(tmp_path / "exp/a", dataclasses.replace(config, training=training), inputs, CPU)
    valid = [record["valid"]["wer"] for record in metrics_of(tmp_path / "exp/a") if "valid" in record]
    assert valid[-1] < 5


def test_records_hold_what_the_run_did(tmp_path: Path, inputs: Inputs, config: ExperimentConfig) -> None:
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, layer_drop=0.0))
    train(tmp_path / "exp/a", config, inputs, CPU)
    records = metrics_of(tmp_path / "exp/a")
    assert [record["step"] for record in records if "ctc_loss" in record] == [3, 6, 9, 12]
    assert [record["step"] for record in records if "valid" in record] == [4, 8, 12, 14]
    for record in records[:1]:
        assert set(record["routing"]) == {"1", "2"}
        assert sum(record["routing"]["1"]["load"]) == pytest.approx(1)
        assert sum(record["routing"]["1"]["prob"]) == pytest.approx(1)
        assert 1 / 3 < record["routing"]["1"]["top1_prob"] <= 1
        assert 0 <= record["padding_share"] < 1 and record["grad_norm"] > 0
    assert list((tmp_path / "exp/a/tensorboard").iterdir())
    assert len(list((tmp_path / "exp/a/checkpoints").glob("step_*.pt"))) == 2


def test_finished_changed_and_restarted_runs(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, capsys: pytest.CaptureFixture
) -> None:
    exp = tmp_path / "exp/a"
    train(exp, config, inputs, CPU)
    before = (exp / "model.pt").stat().st_mtime_ns
    train(exp, config, inputs, CPU)
    assert "finished" in capsys.readouterr().out
    assert (exp / "model.pt").stat().st_mtime_ns == before
    other = dataclasses.replace(config, optim=dataclasses.replace(config.optim, lr=0.5))
    with pytest.raises(UserError, match=r"optim.lr: 0.003 there, 0.5 now"):
        train(exp, other, inputs, CPU)
    (inputs.dev / "text").write_text((inputs.dev / "text").read_text().replace("A", "B"))
    with pytest.raises(UserError, match="inputs.digest"):
        train(exp, config, inputs, CPU)
    train(exp, other, inputs, CPU, restart=True)
    assert (exp / "model.pt").exists() and "0.5" in (exp / "config.yaml").read_text()


def test_training_ends_when_validation_no_longer_gains(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = dataclasses.replace(config.training, max_steps=400, valid_every=1, patience=3)
    config = dataclasses.replace(config, training=training, optim=OptimConfig(lr=1e-9, warmup_steps=1))
    train(tmp_path / "exp/a", config, inputs, CPU)
    assert json.loads((tmp_path / "exp/a/model_info.json").read_text())["steps"] == 4  # the first, and 3 without gain


def test_an_experiment_decodes_without_its_inputs(tmp_path: Path, inputs: Inputs, config: ExperimentConfig) -> None:
    train(tmp_path / "exp/a", config, inputs, CPU)
    (inputs.lang / "tokens.txt").unlink()
    moved = tmp_path / "elsewhere"
    (tmp_path / "exp/a").rename(moved)
    model, tokenizer = load_experiment(moved)
    decode_to_file(model, tokenizer, read_feature_dir(inputs.dev), 20.0, tmp_path / "text")
    assert [line.split()[0] for line in (tmp_path / "text").read_text().splitlines()] == [
        f"utt{i:03d}" for i in range(12)
    ]


def test_a_non_finite_gradient_names_the_utterances(tmp_path: Path, inputs: Inputs, config: ExperimentConfig) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "build_model", lambda *a: _broken(run_module_build(*a)))
        with pytest.raises(UserError, match=r"step 0: .*not finite.*utt0"):
            train(tmp_path / "exp/a", config, inputs, CPU)


run_module_build = run_module.build_model


def _broken(model: CtcModel) -> CtcModel:
    with torch.no_grad():
        model.output.bias[1] = float("nan")
    return model


def test_only_matrices_decay_and_routers_do_not(config: ExperimentConfig) -> None:
    model = CtcModel(config.model, 9)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, free = (
        {names[id(p)] for p in group["params"]} for group in make_optimizer(model, config.optim).param_groups
    )
    assert "encoder.blocks.0.ffn.inner_weight" in decayed and "output.weight" in decayed
    assert {"encoder.routers.0.weight", "encoder.blocks.0.ffn.inner_bias", "encoder.final_norm.weight"} <= free
    assert len(decayed) + len(free) == len(names)
