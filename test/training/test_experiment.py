"""The experiment directory: one process at a time, nothing deleted too early, nothing left behind."""

import dataclasses
import fcntl
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import IO, Any

import kaldiio
import pytest
import torch
import yaml

import omnirouter
from omnirouter.data import files
from omnirouter.data.errors import UserError
from omnirouter.data.tokenizer import train_tokenizer
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.experiment import Inputs, load_experiment, locked
from omnirouter.training.log import LOG
from omnirouter.training.run import train

CPU = torch.device("cpu")


@pytest.mark.parametrize("restart", [False, True])
def test_only_one_process_trains_an_experiment(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig, restart: bool
) -> None:
    exp = tmp_path / "exp/a"
    exp.mkdir(parents=True)
    (exp / "kept").touch()
    with open(exp / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is training this experiment"):
            train(exp, short, inputs, CPU, restart)
    assert (exp / "kept").exists() and not (exp / "config.yaml").exists()
    train(exp, short, inputs, CPU, restart)
    assert (exp / "model.pt").exists()


def test_the_lock_ends_with_its_process_though_its_workers_live_on(tmp_path: Path) -> None:
    read, write = os.pipe()
    holder = os.fork()
    if not holder:
        with locked(tmp_path / "a"):
            if not os.fork():
                os.write(write, b"%d" % os.getpid())  # only here: by now the worker has let go of the lock
            time.sleep(60)
        os._exit(0)
    worker = int(os.read(read, 20))
    try:
        with pytest.raises(UserError, match="another process"), locked(tmp_path / "a"):
            pass
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        os.kill(worker, 0)
        with locked(tmp_path / "a"):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(read), os.close(write)


def test_a_lock_that_is_let_go_of_in_a_moment_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with open(tmp_path / "a/.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        timer = threading.Timer(0.3, fcntl.flock, (file, fcntl.LOCK_UN))
        timer.start()
        with locked(tmp_path / "a"):
            assert timer.finished.is_set()
        timer.join()


def test_a_finished_training_of_other_features_is_refused(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Other audio of the same lengths: transcripts and numbers of frames are the same."""
    train(tmp_path / "a", short, inputs, CPU)
    for by in (0.5, -0.5):
        for ark in inputs.train.glob("*.ark"):
            [(utt_id, matrix)] = kaldiio.load_ark(str(ark))
            kaldiio.save_ark(str(ark), {utt_id: matrix + by})
        (inputs.train / "feats.scp").touch()  # as stage 2 writes it
        if by > 0:
            with pytest.raises(UserError, match="other means or deviations .* --name of its own"):
                train(tmp_path / "a", short, inputs, CPU)
    monkeypatch.setattr(LOG, "propagate", True)
    arks = sorted(inputs.train.glob("*.ark"))
    lenient = dataclasses.replace(short, training=dataclasses.replace(short.training, max_unreadable_share=0.1))
    for gone, said in (
        (arks[:1], "frames by now, of "),
        (arks[1:], "more than training.max_unreadable_share allows"),
        ([tmp_path / "a/feature_stats.json"], "not known whether"),
    ):
        for path in gone:
            path.unlink()
        (inputs.train / "feats.scp").touch()
        capsys.readouterr()
        caplog.clear()
        train(tmp_path / "a", lenient, inputs, CPU)
        assert "training is finished" in capsys.readouterr().out and said in caplog.text


@pytest.mark.parametrize("restart", [False, True])
def test_a_start_reads_each_file_of_its_inputs_once(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig, restart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counting(path: Path, mode: str = "r", **options: Any) -> IO:
        if mode == "rb":  # which `digest` alone does in its module
            read.append(str(Path(path).relative_to(tmp_path)))
        return open(path, mode, **options)

    monkeypatch.setattr(files, "open", counting, raising=False)
    text = inputs.train / "text"
    train_tokenizer([" ".join("ABCDEF")] * 9, "bpe", 15, inputs.lang, text)
    bound, tables = dataclasses.replace(inputs, lang_text=text), ["dev/text", "dev/utt2num_frames", "lang/tokens.txt"]
    tables += ["train/text", "train/utt2num_frames"]
    read.clear()
    train(tmp_path / "exp/a", short, bound, CPU)
    assert sorted(read) == tables
    read.clear()
    train(tmp_path / "exp/a", short, bound, CPU, restart)
    assert sorted(read) == (tables if restart else [*tables[:2], "exp/a/lang/tokens.txt", *tables[2:]])


def test_without_a_checkpoint_training_has_not_begun(tmp_path: Path, inputs: Inputs, short: ExperimentConfig) -> None:
    exp = tmp_path / "exp/a"
    train(exp, short, inputs, CPU)
    other = dataclasses.replace(short, optim=dataclasses.replace(short.optim, lr=0.25))
    (exp / "model.pt").unlink()
    with pytest.raises(UserError, match="another experiment"):
        train(exp, other, inputs, CPU)
    for path in (exp / "checkpoints").iterdir():
        path.unlink()
    train(exp, other, inputs, CPU)
    assert (exp / "model.pt").exists() and "lr: 0.25" in (exp / "config.yaml").read_text()


def begin(exp: Path, config: ExperimentConfig, inputs: Inputs) -> None:
    """Train to the end and take the final model away: the experiment has begun and is unfinished."""
    train(exp, config, inputs, CPU)
    (exp / "model.pt").unlink()


def test_inputs_count_by_content_and_not_by_the_spelling_of_their_paths(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "exp/source", short, inputs, CPU)
    started = dataclasses.replace(inputs, init=Path("exp/source"))
    begin(tmp_path / "exp/a", short, started)
    shutil.copytree(inputs.train, tmp_path / "copy")
    spelled = Inputs(Path("copy"), Path("dev"), tmp_path / "dev/../lang", tmp_path / "exp/source")
    train(tmp_path / "exp/a", short, spelled, CPU)
    assert (tmp_path / "exp/a/model.pt").exists()
    train(tmp_path / "exp/a", short, spelled, CPU)
    with open("copy/text", "a") as file:
        file.write("\n")
    with pytest.raises(UserError, match="inputs.digests.train/text: "):
        train(tmp_path / "exp/a", short, spelled, CPU)
    with pytest.raises(UserError, match="inputs.digests.init/model.pt: .* 'absent' now"):
        train(tmp_path / "exp/a", short, inputs, CPU)
    train(tmp_path / "exp/other", config_with_seed(short, 2), inputs, CPU)
    with pytest.raises(UserError, match="inputs.digests.init/model.pt: "):
        train(tmp_path / "exp/a", short, dataclasses.replace(inputs, init=tmp_path / "exp/other"), CPU)


def config_with_seed(config: ExperimentConfig, seed: int) -> ExperimentConfig:
    return dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))


@pytest.mark.parametrize("finished", [False, True])
def test_once_begun_an_experiment_does_without_the_weights_it_started_from(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig, finished: bool
) -> None:
    train(tmp_path / "exp/source", short, inputs, CPU)
    started = dataclasses.replace(inputs, init=tmp_path / "exp/source")
    begin(tmp_path / "exp/a", short, started)
    if finished:
        train(tmp_path / "exp/a", short, started, CPU)
    shutil.rmtree(tmp_path / "exp/source")
    train(tmp_path / "exp/a", short, started, CPU)
    assert (tmp_path / "exp/a/model.pt").exists()
    with pytest.raises(UserError, match="source/model.pt does not exist"):
        train(tmp_path / "exp/a", short, started, CPU, restart=True)
    assert (tmp_path / "exp/a/model.pt").exists()


def test_a_configuration_of_an_earlier_version_is_still_the_same_experiment(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig
) -> None:
    exp = tmp_path / "exp/a"
    begin(exp, short, inputs)
    stored = yaml.safe_load((exp / "config.yaml").read_text())
    del stored["model"]["cape_max_scale"], stored["training"]["z_loss_weight"], stored["training"]["seed"]
    del stored["training"]["batches_per_step"]  # it was one, always
    paths = {role: stored["inputs"][role] for role in ("train", "dev", "lang")}
    stored["inputs"]["digests"] = {
        f"{paths[name.split('/')[0]]}/{name.split('/')[1]}": digest
        for name, digest in stored["inputs"]["digests"].items()
    }  # as it was: by path
    (exp / "config.yaml").write_text(yaml.safe_dump(stored))
    with pytest.raises(UserError, match="another experiment:\n  training.seed: 1 there, 2 now\ngive"):
        train(exp, config_with_seed(short, 2), inputs, CPU)
    two = dataclasses.replace(short, training=dataclasses.replace(short.training, batches_per_step=2))
    with pytest.raises(UserError, match="training.batches_per_step: 1 there, 2 now"):
        train(exp, two, inputs, CPU)
    train(exp, short, inputs, CPU)
    assert (exp / "model.pt").exists()


def test_how_a_training_is_computed_may_change_while_it_is_unfinished(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig
) -> None:
    exp = tmp_path / "exp/a"
    begin(exp, short, inputs)
    other = dataclasses.replace(
        short.training, distributed="fsdp", activation_checkpointing=True, workers=1, threads=2, precision="bf16",
        max_skipped_steps=99, max_unreadable_share=0.5,
    )  # fmt: skip
    with pytest.raises(UserError, match="another experiment:\n  training.precision: 'fp32' there, 'bf16' now\ngive"):
        train(exp, dataclasses.replace(short, training=other), inputs, CPU)
    other = dataclasses.replace(other, precision="fp32", threads=1)
    train(exp, dataclasses.replace(short, training=other), inputs, CPU)
    assert (exp / "model.pt").exists()


def test_features_of_another_dimension_are_named_with_both_numbers(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig
) -> None:
    other = dataclasses.replace(short, model=dataclasses.replace(short.model, n_mels=40))
    with pytest.raises(UserError, match="model.n_mels is 40, .* features have 80 "):
        train(tmp_path / "exp/a", other, inputs, CPU)
    train(tmp_path / "exp/a", short, inputs, CPU)


def test_the_code_that_trained_is_written_beside_the_model(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = iter(("at-the-start", "at-the-end"))
    monkeypatch.setattr("omnirouter.training.run.checkout_commit", lambda: next(commits))
    train(tmp_path / "exp/a", short, inputs, CPU)
    info = json.loads((tmp_path / "exp/a/model_info.json").read_text())
    assert (info["version"], info["commit"]) == (omnirouter.__version__, "at-the-start")


def test_an_experiment_that_is_not_there_is_told_from_an_unfinished_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^no experiment exp/omnirouter in {tmp_path}: give the path of its folder"):
        load_experiment(Path("exp/omnirouter"))
    with pytest.raises(UserError, match=f"^no experiment {tmp_path}/exp/a: "):
        load_experiment(tmp_path / "exp/a")
    (tmp_path / "exp/omnirouter").mkdir(parents=True)
    with pytest.raises(UserError, match=r"^exp/omnirouter/model.pt does not exist: training .* is not finished$"):
        load_experiment(Path("exp/omnirouter"))
