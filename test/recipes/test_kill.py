"""Every stage of the mini recipe, killed at random moments and run again, ends with the same result.

What is killed is in turn the whole process group, the script alone, and one of the processes that it has started.
"""

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

Clone = Any  # of conftest.py
Killer = Callable[[subprocess.Popen[str], list[int]], None]
SEED = 7
KILLS = {1: 4, 2: 5, 3: 2, 4: 1, 5: 3, 6: 3, 7: 2}
TRAIN = ("--stage", "4", "--stop-stage", "4")
WITHOUT_RESULT = {"checkpoints", "tensorboard", "RESULTS.md"}  # beside logs and hidden files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")


def start(clone: Clone, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        clone.command(*args),
        env=clone.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def killers(rng: random.Random) -> Iterator[Killer]:
    """Ways of `kill -9`, in turn, of a running script and the processes that it has started."""

    def kill_group(process: subprocess.Popen[str], _: list[int]) -> None:
        os.killpg(process.pid, signal.SIGKILL)

    def kill_script(process: subprocess.Popen[str], _: list[int]) -> None:
        process.kill()

    def kill_one(process: subprocess.Popen[str], others: list[int]) -> None:
        with suppress(ProcessLookupError):
            os.kill(rng.choice(others or [process.pid]), signal.SIGKILL)

    return itertools.cycle([kill_group, kill_script, kill_one])


def kill(process: subprocess.Popen[str], clone: Clone, killer: Killer) -> None:
    """Kill a script, or some of it; whatever it has started has to end, and with it the script."""
    doomed = processes_in(clone.mini)
    if process.poll() is None:
        killer(process, sorted({*doomed} - {process.pid}))
    process.communicate(timeout=120)
    wait_for(lambda: not processes_in(clone.mini))
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in doomed))  # a zombie's number counts as in use


def processes_in(folder: Path) -> list[int]:
    """Processes whose current directory is `folder`; zombies have none."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink() == folder:
                found.append(int(link.parent.name))
        except OSError:
            pass
    return found


def wait_for(condition: Callable[[], object], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def durations_s(log: str) -> dict[int, float]:
    """Seconds of each stage, from what the recipe has printed."""
    found = {stage: 0.5 for stage in KILLS}
    for stage, seconds in re.findall(r"\] stage (\d) .*: done in (\d+) s", log):
        found[int(stage)] = found.get(int(stage), 0.0) + int(seconds) + 0.1
    return found


def tensors(path: Path) -> dict[str, list]:
    return {name: tensor.tolist() for name, tensor in torch.load(path, weights_only=True).items()}


def metrics(path: Path) -> list[dict]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        record.pop("time", None)
    return records


def result(folder: Path) -> dict[str, Any]:
    """All files of a recipe that have to be the same, as values to compare."""
    files = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_symlink() or path.is_dir() or any(part.startswith(".") for part in parts):
            continue
        if path.suffix != ".log" and not WITHOUT_RESULT & set(parts):
            read = {".pt": tensors, ".jsonl": metrics}.get(path.suffix, Path.read_bytes)
            files["/".join(parts)] = read(path)
    return files


@pytest.fixture(scope="module")
def killed(finished: Clone, make_clone: Callable[[], Clone]) -> Clone:
    """A copy in which every stage was killed some times, then run to its end."""
    clone = make_clone()
    rng = random.Random(SEED)
    ways = killers(rng)
    durations = durations_s((finished.root / "first.log").read_text())
    for stage, kills in KILLS.items():
        args = ("--stage", str(stage), "--stop-stage", str(stage))
        if stage == 4:  # first, since a random moment may come after the end
            kill_between_checkpoints(clone, rng, ways)
        for _ in range(kills):
            process = start(clone, *args)
            time.sleep(rng.uniform(0, durations[stage]))
            kill(process, clone, next(ways))
        clone.run(*args)
    return clone


def kill_between_checkpoints(clone: Clone, rng: random.Random, ways: Iterator[Killer]) -> None:
    """Kill training some times, each time when it has got further."""
    for _ in range(3):
        before = step_checkpoints(clone)
        process = start(clone, *TRAIN)
        wait_for(lambda: step_checkpoints(clone) - before or process.poll() is not None)  # noqa: B023
        time.sleep(rng.uniform(0, 0.3))
        kill(process, clone, next(ways))


def step_checkpoints(clone: Clone) -> set[Path]:
    return set((clone.mini / "exp/omnirouter/checkpoints").glob("step_*.pt"))


def test_the_result_is_the_same(finished: Clone, killed: Clone) -> None:
    expected, found = result(finished.mini), result(killed.mini)
    names = " ".join(expected)
    for part in ("wav.scp", "feats.scp", ".ark", "tokens.txt", "model.pt", "metrics.jsonl", "/text", "score/wer"):
        assert part in names
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


def test_no_step_is_recorded_twice(killed: Clone) -> None:
    records = metrics(killed.mini / "exp/omnirouter/metrics.jsonl")
    steps = [record["step"] for record in records if "valid" not in record]
    assert steps and steps == sorted(set(steps))


def test_training_went_on_from_a_checkpoint(killed: Clone) -> None:
    log = (killed.mini / "exp/omnirouter/train.log").read_text()
    assert "resuming after step" in log


def test_nothing_half_written_is_left(killed: Clone) -> None:
    assert [path for path in killed.mini.rglob("*.tmp")] == []


def test_interrupted_training_says_so_and_goes_on(finished: Clone, make_clone: Callable[[], Clone]) -> None:
    """Ctrl-C goes to the whole process group, as a terminal sends it."""
    clone = make_clone()
    clone.run("--stage", "1", "--stop-stage", "3")
    process = start(clone, *TRAIN)
    wait_for(lambda: step_checkpoints(clone))
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "error: stage 4 train omnirouter interrupted; the same command goes on" in output
    assert "Traceback" not in output
    assert "resuming after step" in clone.run(*TRAIN)
    assert tensors(clone.mini / "exp/omnirouter/model.pt") == tensors(finished.mini / "exp/omnirouter/model.pt")
