"""--features: stored, compressed or on the fly, one after another on the same data, and audio without transcripts."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

Clone = Any  # of conftest.py
SETS = ("train", "dev", "test")
FBANK = tuple(f"stage 2 fbank {name}" for name in SETS)
TO_SCORES = ("--stop-stage", "6")
STAGE_2 = ("--stage", "2", "--stop-stage", "2")
ON_THE_FLY = ("--features", "on_the_fly")


@pytest.fixture
def clone(finished: Clone, tmp_path: Path) -> Clone:
    """A copy of the recipe that has run once with stored features."""
    shutil.copytree(finished.root, tmp_path / finished.root.name, symlinks=True)
    return replace(finished, root=tmp_path / finished.root.name)


def results(clone: Clone) -> dict[str, Any]:
    """What must not depend on where the features are."""
    exp = clone.mini / "exp/omnirouter"
    files = {name: (exp / name).read_bytes() for name in ("feature_stats.json", "dropped_utts", "decode_test/text")}
    counts = {name: (clone.mini / "data" / name / "utt2num_frames").read_bytes() for name in SETS}
    weights = torch.load(exp / "model.pt", weights_only=True)
    return {**files, **counts, "weights": {name: tensor.tolist() for name, tensor in weights.items()}}


def archives(clone: Clone) -> list[Path]:
    return sorted((clone.mini / "fbank").glob("*/feats.*.ark"))


def lists(clone: Clone) -> list[Path]:
    return sorted((clone.mini / "data").glob("*/feats.scp"))


def test_a_run_on_the_fly_ends_with_the_same_bits(finished: Clone, make_clone: Callable[[], Clone]) -> None:
    clone = make_clone()
    output = clone.run(*ON_THE_FLY)
    assert not archives(clone) and not lists(clone)
    assert results(clone) == results(finished)
    assert all(f"{stage}: done" in output for stage in FBANK)
    output = clone.run(*TO_SCORES, *ON_THE_FLY)
    assert all(f"{stage}: up to date" in output for stage in (*FBANK, "stage 5 decode test", "stage 6 score test"))


def test_each_way_follows_another_without_stale_files(clone: Clone) -> None:
    wanted, stored = results(clone), [path.read_bytes() for path in archives(clone)]
    output = clone.run("--stage", "2", *TO_SCORES, *ON_THE_FLY)
    assert all(f"{stage}, since its command has changed" in output for stage in FBANK)
    assert not archives(clone) and not lists(clone)
    assert "training is finished" in output and "stage 5 decode test, since audio of data/test/wav.scp" in output
    assert results(clone) == wanted

    (clone.mini / "data/dev/feats.scp").touch()  # would be read
    assert "stage 2 fbank dev, since data/dev/feats.scp has changed" in clone.run(*STAGE_2, *ON_THE_FLY)
    assert not lists(clone)

    clone.run(*STAGE_2, "--features", "compressed")
    assert len(lists(clone)) == 3
    sizes = [path.stat().st_size for path in archives(clone)]
    clone.run(*STAGE_2)
    assert [path.read_bytes() for path in archives(clone)] == stored
    assert all(0.25 < size / len(whole) < 0.31 for size, whole in zip(sizes, stored, strict=True))
    output = clone.run("--stage", "2", *TO_SCORES)
    assert all(f"{stage}: up to date" in output for stage in FBANK)
    assert results(clone) == wanted


def test_audio_that_changes_is_decoded_anew_on_the_fly(clone: Clone) -> None:
    stages = ("--stage", "5", "--stop-stage", "5")
    clone.run("--stage", "2", "--stop-stage", "5", *ON_THE_FLY)
    assert clone.run(*stages).count(": up to date") == 2
    audio = (clone.mini / "data/dev/wav.scp").read_text().split()[1]
    (clone.mini / audio).touch()
    output = clone.run(*stages)
    assert "stage 5 decode dev, since audio of data/dev/wav.scp has changed" in output
    assert "stage 5 decode test: up to date" in output


@pytest.mark.parametrize("features", ["stored", "on_the_fly"])
def test_audio_without_transcripts_is_decoded(clone: Clone, features: str) -> None:
    (clone.mini / "data/new").mkdir()
    shutil.copy(clone.mini / "data/test/wav.scp", clone.mini / "data/new")
    commands = [
        ["compute_fbank", "data/new", "--output", "fbank/new", "--features", features],
        ["decode", "--exp", "exp/omnirouter", "--data", "data/new", "--ngpu", "0"],
    ]
    for command in commands:
        clone.output_of([sys.executable, "-m", f"omnirouter.bin.{command[0]}", *command[1:]], cwd=clone.mini)
    decoded = clone.mini / "exp/omnirouter"
    assert (decoded / "decode_new/text").read_bytes() == (decoded / "decode_test/text").read_bytes()
    assert (clone.mini / "data/new/feats.scp").exists() == (features == "stored")
    training = ["--train", "data/new", "--dev", "data/dev", "--lang", "data/lang_bpe250", "--exp", "exp/new"]
    command = [sys.executable, "-m", "omnirouter.bin.train", "--config", "conf/dense.yaml", *training]
    assert "error: data/new/text does not exist; stage 1 makes it" in clone.output_of(command, clone.mini, code=1)
