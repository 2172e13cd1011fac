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
from omnirouter.training import devices
from omnirouter.training import run as run_module
from omnirouter.training.config import ExperimentConfig, OptimConfig
from omnirouter.training.experiment import Inputs, load_experiment
from omnirouter.training.run import train
from omnirouter.training.step import make_optimizer
from omnirouter.training.trainer import Trainer

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


def test_a_signal_in_the_last_validation_leaves_a_checkpoint_to_finish_from(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig
) -> None:
    original = Trainer._validate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_validate", lambda self: original(self) or signal.raise_signal(signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "exp/a", short, inputs, CPU)
    assert not (tmp_path / "exp/a/model.pt").exists()
    train(tmp_path / "exp/a", short, inputs, CPU)
    assert (tmp_path / "exp/a/model.pt").exists()
    assert [record["step"] for record in metrics_of(tmp_path / "exp/a")] == [2]


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
    with pytest.raises(UserError, match=r"inputs\.digests\..*dev/text: ") as error:
        train(exp, config, inputs, CPU)
    assert "train/text" not in str(error.value)
    train(exp, other, inputs, CPU, restart=True)
    assert (exp / "model.pt").exists() and "0.5" in (exp / "config.yaml").read_text()


def test_training_ends_when_validation_no_longer_gains(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig
) -> None:
    training = dataclasses.replace(config.training, max_steps=400, valid_every=1, patience=3)
    config = dataclasses.replace(config, training=training, optim=OptimConfig(lr=1e-9, warmup_steps=1))
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3, "signal")  # with two of them without gain, which are remembered
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "exp/b", config, inputs, CPU)
    for exp in (tmp_path / "exp/a", tmp_path / "exp/b"):
        train(exp, config, inputs, CPU)
        assert json.loads((exp / "model_info.json").read_text())["steps"] == 4  # the first, and 3 without gain


def test_validations_of_the_warm_up_are_not_counted(tmp_path: Path, inputs: Inputs, config: ExperimentConfig) -> None:
    training = dataclasses.replace(config.training, max_steps=400, valid_every=2, patience=3)
    config = dataclasses.replace(config, training=training, optim=OptimConfig(lr=1e-9, warmup_steps=8))
    train(tmp_path / "exp/a", config, inputs, CPU)
    assert json.loads((tmp_path / "exp/a/model_info.json").read_text())["steps"] == 8 + 2 * 3


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
        with pytest.raises(UserError, match=r"step 10: .*not finite.*utt0.*11 steps skipped"):
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


@pytest.mark.parametrize(("rank", "wanted"), [(None, "cuda:0"), ("1", "cuda:1"), ("2", "process 3 has no GPU.* 2 ")])
def test_each_process_of_a_machine_has_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch, rank: str | None, wanted: str
) -> None:
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank:
        monkeypatch.setenv("LOCAL_RANK", rank)
    if wanted.startswith("cuda"):
        assert [str(devices.choose_device(ngpu)) for ngpu in (None, 1, 0)] == [wanted, wanted, "cpu"]
    else:
        with pytest.raises(UserError, match=wanted):
            devices.choose_device(1)


@pytest.mark.parametrize(("threads", "variable", "wanted"), [(3, "2", 3), (0, "2", 7), (0, "", 5), (0, None, 5)])
def test_threads_are_the_settings_or_the_users_or_the_cores(
    monkeypatch: pytest.MonkeyPatch, threads: int, variable: str | None, wanted: int
) -> None:
    used = [7]  # what torch has made of the variable at its start
    monkeypatch.setattr(devices.torch, "set_num_threads", used.append)
    monkeypatch.setattr(devices, "available_cores", lambda: 5)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    devices.set_threads(threads)
    assert used[-1] == wanted


def test_z_loss_is_part_of_the_loss_and_of_the_records_and_resumes_exactly(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig
) -> None:
    model = dataclasses.replace(config.model, layer_drop=0.0, router_jitter=0.05, positions="cape")
    plain = dataclasses.replace(config, model=model)
    strong = dataclasses.replace(plain, training=dataclasses.replace(plain.training, z_loss_weight=5.0))
    for name, run_config in (("plain", plain), ("whole", strong)):
        train(tmp_path / "exp" / name, run_config, inputs, CPU)
    resumed = tmp_path / "exp/resumed"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 7, "signal")  # between two records
        with pytest.raises(KeyboardInterrupt):
            train(resumed, strong, inputs, CPU)
    train(resumed, strong, inputs, CPU)
    assert metrics_of(resumed) == metrics_of(tmp_path / "exp/whole")
    z = [record["z_loss"] for record in metrics_of(resumed) if "ctc_loss" in record]
    assert len(z) == 4 and z[-1] < z[0]
    assert not any("z_loss" in record for record in metrics_of(tmp_path / "exp/plain"))
    before, after = weights_of(tmp_path / "exp/plain"), weights_of(resumed)
    assert not torch.equal(before["encoder.routers.0.weight"], after["encoder.routers.0.weight"])
