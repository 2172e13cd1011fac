"""The command line under torchrun: a process killed, all asked to end, and an error, as users meet them."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from omnirouter.corpora.an4 import prepare_an4
from omnirouter.data.counting import count_frames
from omnirouter.data.datadir import read_table
from omnirouter.data.tokenizer import train_tokenizer
from omnirouter.training import checkpoint
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.experiment import Inputs
from omnirouter.training.run import train

ROOT = Path(__file__).parents[2]
PAIR = ("--standalone", "--nproc-per-node", "2")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")


@pytest.fixture
def long(config: ExperimentConfig) -> ExperimentConfig:
    """Long enough to be killed in the middle, with a loading process of its own for each training process."""
    training = dataclasses.replace(
        config.training, max_steps=120, valid_every=60, log_every=10, checkpoint_every_s=0.1, workers=1
    )
    return dataclasses.replace(config, training=training)


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Start]:
    """A function that starts torchrun with options of it; what is left of its processes is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(inputs: Inputs, config: Path, exp: str, *arguments: str, options: Sequence[str] = ()) -> Any:
        torchrun = [sys.executable, "-m", "torch.distributed.run", *(options or PAIR)]
        command = [*torchrun, "-m", "omnirouter.bin.train", "--config", str(config), "--ngpu", "0", "--exp", exp]
        command += arguments
        for role in ("train", "dev", "lang"):
            command += [f"--{role}", str(getattr(inputs, role))]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        started.append(
            subprocess.Popen(
                command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def start(tmp_path: Path, inputs: Inputs, long: ExperimentConfig, launch: Start) -> Start:
    """A function that starts a training on `exp/a` with options of torchrun and settings."""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(long.as_dict()))

    def begin(*options: str, settings: str = "") -> subprocess.Popen[str]:
        return launch(inputs, tmp_path / "c.yaml", "exp/a", "--set", settings, "--restart", options=options)

    return begin


def pid_of_rank(torchrun: subprocess.Popen[str], rank: int) -> int | None:
    """Process id of a training process; None while there is none."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == torchrun.pid and f"RANK={rank}".encode() in (path / "environ").read_bytes().split(b"\0"):
                return int(path.name)
        except OSError:
            pass
    return None


def wait_for(condition: Callable[[], Any], limit_s: float = 100.0) -> Any:
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def result(exp: Path) -> tuple[list[dict[str, Any]], dict[str, list]]:
    records = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record.pop("time", None)
    return records, {name: t.tolist() for name, t in torch.load(exp / "model.pt", weights_only=True).items()}


def test_a_killed_process_is_started_again_and_the_end_is_the_same(
    tmp_path: Path, start: Start, inputs: Inputs, long: ExperimentConfig, in_processes: Callable[..., list[Any]]
) -> None:
    in_processes(2, lambda: train(tmp_path / "exp/whole", long, inputs, torch.device("cpu")))
    torchrun = start(*PAIR, "--max-restarts", "1")
    wait_for(lambda: torchrun.poll() is not None or checkpoint.steps(tmp_path / "exp/a/checkpoints"))
    os.kill(pid_of_rank(torchrun, 1), signal.SIGKILL)
    output, _ = torchrun.communicate(timeout=200)
    assert torchrun.returncode == 0, output
    assert "resuming after step" in (tmp_path / "exp/a/train.log").read_text()  # though the command says --restart
    assert output.count("resuming after step") == 1  # the first process alone speaks
    assert result(tmp_path / "exp/a") == result(tmp_path / "exp/whole")


def test_a_process_killed_on_one_of_two_machines_is_started_again_on_both(
    tmp_path: Path, start: Start, inputs: Inputs, long: ExperimentConfig, in_processes: Callable[..., list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    in_processes(2, lambda: train(tmp_path / "exp/whole", long, inputs, torch.device("cpu")))
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    with socket.socket() as unused:
        unused.bind(("localhost", 0))
        endpoint = f"localhost:{unused.getsockname()[1]}"
    options = ("--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--max-restarts", "1")
    machines = [start(*options) for _ in range(2)]
    wait_for(lambda: checkpoint.steps(tmp_path / "exp/a/checkpoints"))
    first, second = (next(filter(None, (pid_of_rank(machine, rank) for machine in machines))) for rank in (0, 1))
    os.kill(first, signal.SIGSTOP)  # so that it cannot fail too: its torchrun counts no restart for the other's sake
    os.kill(second, signal.SIGKILL)
    wait_for(lambda: is_pending(signal.SIGTERM, first))
    os.kill(first, signal.SIGCONT)
    outputs = [machine.communicate(timeout=100)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    assert sum(output.count("resuming after step") for output in outputs) == 1  # though the command says --restart
    assert result(tmp_path / "exp/a") == result(tmp_path / "exp/whole")


def is_pending(number: signal.Signals, pid: int) -> bool:
    """Tell whether a process has a signal before it, since it is stopped."""
    [pending] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("ShdPnd")]
    return bool(int(pending.split()[1], 16) >> (number - 1) & 1)


def test_an_interrupt_ends_all_with_a_checkpoint_and_an_error_is_shown(tmp_path: Path, start: Start) -> None:
    torchrun = start(settings="training.max_steps=100000")
    written = wait_for(lambda: torchrun.poll() is not None or checkpoint.steps(tmp_path / "exp/a/checkpoints"))
    processes = [pid_of_rank(torchrun, rank) for rank in (0, 1)]
    torchrun.send_signal(signal.SIGTERM)  # torchrun passes it on to its processes and their loading processes
    output, _ = torchrun.communicate(timeout=200)
    assert torchrun.returncode != 0
    log = (tmp_path / "exp/a/train.log").read_text()
    step = int(log.splitlines()[-1].split("interrupted after step ")[1].split(";")[0])
    assert checkpoint.steps(tmp_path / "exp/a/checkpoints")[-1] == step >= written[0]
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)
    assert "DataLoader worker" not in output

    failed = start(settings="training.batches_per_step=3")
    output, _ = failed.communicate(timeout=200)
    assert failed.returncode != 0
    assert "error: training.batches_per_step: 3 batches cannot be shared out evenly among 2 processes" in output
    assert "Traceback (most recent call last)" in output and "for_processes" in output  # of the process, by torchrun


def test_processes_do_not_outlive_torchrun(tmp_path: Path, start: Start) -> None:
    torchrun = start(settings="training.max_steps=100000")
    wait_for(lambda: torchrun.poll() is not None or checkpoint.steps(tmp_path / "exp/a/checkpoints"))
    processes = [pid_of_rank(torchrun, rank) for rank in (0, 1)]
    torchrun.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))


@pytest.fixture
def an4(tmp_path: Path, test_data: Path) -> Inputs:
    """AN4's own train and dev sets, features on the fly, and its tokenizer."""
    prepare_an4(test_data / "an4", tmp_path / "data")
    for name in ("train", "dev"):
        count_frames(tmp_path / "data" / name, tmp_path / "fbank", 1)
    train_tokenizer(read_table(tmp_path / "data/train/text").values(), "bpe", 150, tmp_path / "lang")
    return Inputs(tmp_path / "data/train", tmp_path / "data/dev", tmp_path / "lang")


def test_a_training_on_an4_is_killed_and_ends_as_the_undisturbed(tmp_path: Path, an4: Inputs, launch: Start) -> None:
    config = ROOT / "egs/an4/asr1/conf/omnirouter.yaml"
    settings = "training.max_steps=24 training.valid_every=12 training.log_every=4 training.checkpoint_every_s=0.1"

    def begin(exp: str) -> subprocess.Popen[str]:
        return launch(an4, config, exp, "--set", f"{settings} model.layers=3 training.workers=1 training.threads=1")

    whole = begin("exp/whole")
    output, _ = whole.communicate(timeout=100)
    assert whole.returncode == 0, output
    killed, folder = begin("exp/a"), tmp_path / "exp/a/checkpoints"
    wait_for(lambda: killed.poll() is not None or checkpoint.steps(folder)[-1:] >= [3])
    processes = [pid_of_rank(killed, rank) for rank in (0, 1)]
    killed.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
    assert 3 <= checkpoint.steps(folder)[-1] < 24
    again = begin("exp/a")
    output, _ = again.communicate(timeout=100)
    assert again.returncode == 0 and "resuming after step" in output, output
    assert result(tmp_path / "exp/a") == result(tmp_path / "exp/whole")
