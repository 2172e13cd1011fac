"""A training set made in a second: features of random "phones", one a letter; several processes; a quick compiler."""

import dataclasses
import functools
import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest
import torch
import torch.distributed as dist

from omnirouter.data.datadir import write_table
from omnirouter.data.tokenizer import train_tokenizer
from omnirouter.training.config import ExperimentConfig, OptimConfig, TrainingConfig
from omnirouter.training.experiment import Inputs

LETTERS = "ABCDEF"


def write_feature_dir(folder: Path, utterances: int, seed: int) -> None:
    """Each letter of a transcript sounds as 12 to 20 frames around its own mean vector."""
    means = np.random.default_rng(0).normal(0, 2, (len(LETTERS), 80))
    rng = np.random.default_rng(seed)
    texts, places, frames = {}, {}, {}
    folder.mkdir(parents=True)
    for i in range(utterances):
        # Each letter differs from the one before: two equal ones would sound like one long one.
        key, letters = f"utt{i:03d}", rng.integers(1, len(LETTERS), rng.integers(2, 7)).cumsum() % len(LETTERS)
        sound = [means[letter] + rng.normal(0, 1, (rng.integers(12, 21), 80)) for letter in letters]
        matrix = np.concatenate(sound).astype(np.float32)
        kaldiio.save_ark(str(folder / f"{key}.ark"), {key: matrix})
        texts[key], frames[key] = " ".join(LETTERS[letter] for letter in letters), str(len(matrix))
        places[key] = f"{folder / key}.ark:{len(key) + 1}"
    for name, rows in (("text", texts), ("feats.scp", places), ("utt2num_frames", frames)):
        write_table(folder / name, rows)


def _process(rank: int, ranks: int, folder: Path, work: Callable[[], Any]) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=ranks)
    try:
        torch.save(work(), folder / f"{rank}.pt")
    except BaseException as error:
        traceback.print_exc()
        torch.save(f"{type(error).__name__}: {error}", folder / f"{rank}.pt")
        raise


@pytest.fixture
def in_processes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Any]]:
    """A function that does some work in several processes, as torchrun would start them, and returns what each gives.

    With code=1 each has to end with that exit code; what it gives is then its error.
    """

    def run(ranks: int, work: Callable[[], Any], code: int = 0) -> list[Any]:
        folder = tmp_path_factory.mktemp("processes")
        fork = multiprocessing.get_context("fork")  # a new interpreter would first import torch
        processes = [fork.Process(target=_process, args=(rank, ranks, folder, work)) for rank in range(ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(100)
            process.kill()
            process.join()
        assert [process.exitcode for process in processes] == [code] * ranks
        return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)]

    return run


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing is compiled yet, and nothing stays so for the next test."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch, fresh: None) -> Iterator[list[int]]:
    """Has an entry for each graph that is compiled: as by torch.compile itself, but for its slow C++ compiler.

    Whatever would be compiled more often than allowed is an error, and without more being allowed, so is twice.
    """
    traced: list[int] = []

    def backend(*graph: Any) -> Any:
        traced.append(1)
        return torch._dynamo.lookup_backend("aot_eager")(*graph)

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        yield traced


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """Training and dev data directories, and a tokenizer with a unit for each letter with the space before it."""
    write_feature_dir(tmp_path / "train", 60, seed=1)
    write_feature_dir(tmp_path / "dev", 12, seed=2)
    train_tokenizer([" ".join(LETTERS)] * 9, "bpe", 15, tmp_path / "lang")
    return Inputs(tmp_path / "train", tmp_path / "dev", tmp_path / "lang")


@pytest.fixture
def config() -> ExperimentConfig:
    """A model small enough for hundreds of steps in seconds."""
    from omnirouter.data.sampler import BatchConfig
    from omnirouter.data.specaugment import SpecAugmentConfig
    from omnirouter.models.config import ModelConfig

    return ExperimentConfig(
        model=ModelConfig(layers=2, dim=32, heads=2, ffn_dim=64, experts=3, layer_drop=0.1),
        specaugment=SpecAugmentConfig(freq_width=10, time_masks=1),
        batch=BatchConfig(max_batch_s=8, max_utterance_s=8, buckets=2),
        optim=OptimConfig(lr=3e-3, warmup_steps=5, cosine_steps=400, clip_norm=5.0),
        training=TrainingConfig(
            max_steps=14, balance_weight=0.1, log_every=3, valid_every=4, average_best=2, workers=0, threads=1
        ),
    )


@pytest.fixture
def short(config: ExperimentConfig) -> ExperimentConfig:
    return dataclasses.replace(config, training=dataclasses.replace(config.training, max_steps=2, valid_every=2))
