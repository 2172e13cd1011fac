"""The recipe for one's own corpus: which sets it takes, and what it notices in the audio afterwards."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Clone = Any  # of conftest.py
SETS = ("train", "dev", "test")


@pytest.fixture
def corpus(tiny_data_dir: Path, tmp_path: Path) -> Path:
    """A corpus with three sets of the same four tones."""
    for name in SETS:
        shutil.copytree(tiny_data_dir, tmp_path / "own" / name)
    return tmp_path / "own"


@pytest.fixture
def run(make_clone: Callable[[], Clone], corpus: Path) -> Callable[..., str]:
    """A function that runs stages 1 and 2 of the recipe and returns what it prints."""
    clone = make_clone()
    command = [str(clone.root / "egs/own/asr1/run.sh"), "--corpus-dir", str(corpus), "--stage", "1", "--nj", "1"]

    def run(*args: str, code: int = 0, cwd: Path | str = "/") -> str:
        return clone.output_of([*command, *args], cwd, code)

    return run


def test_audio_that_changes_or_goes_is_noticed(run: Callable[..., str], corpus: Path) -> None:
    first = run("--stop-stage", "2")
    assert f"{corpus}/train: 4 utterances, 2 speakers" in first and "stage 1 validation" not in first
    assert run("--stop-stage", "2").count(": up to date") == 4
    audio = corpus.parent / "wavs/0.wav"
    os.utime(audio, ns=(1, 1))
    assert "stage 2 fbank dev, since audio of data/dev/wav.scp has changed" in run("--stage", "2", "--stop-stage", "2")
    audio.unlink()
    output = run("--stop-stage", "1", code=1)
    assert "stage 1 data directories, since audio of data/dev/wav.scp has changed" in output
    assert f"{corpus}/train/wav.scp:1: " in output and "error: problems in " in output


def test_a_set_that_is_not_there_is_not_taken_from_an_earlier_corpus(run: Callable[..., str], corpus: Path) -> None:
    run("--stop-stage", "1")
    shutil.rmtree(corpus / "test")
    output = run("--stop-stage", "1", code=1)
    assert f"{corpus}/test/wav.scp: cannot be read" in output and "nothing was written" in output


def test_relative_paths_are_meant_from_where_the_user_stands(run: Callable[..., str], corpus: Path) -> None:
    for name in SETS:
        wav_scp = corpus / name / "wav.scp"
        wav_scp.write_text(wav_scp.read_text().replace(f"{corpus.parent}/", ""))
    run("--stop-stage", "2", cwd=corpus.parent)
    assert run("--stop-stage", "2").count(": up to date") == 4
    assert "/wavs/0.wav: cannot be read" in run("--stop-stage", "1", "--force", code=1)


def test_deep_and_pipes_reach_the_check(run: Callable[..., str], corpus: Path) -> None:
    run("--stop-stage", "1", "--deep", "false")
    with open(corpus / "test/wav.scp", "a") as wav_scp:
        print(f"spk9-utt9 cat {corpus.parent}/wavs/0.wav |", file=wav_scp)
    for table, value in (("text", "four"), ("utt2spk", "spk9")):
        with open(corpus / "test" / table, "a") as file:
            print(f"spk9-utt9 {value}", file=file)
    for table in ("spk2utt", "utt2dur"):
        (corpus / "test" / table).unlink()
    assert "would run a shell command" in run("--stop-stage", "1", "--deep=false", code=1)
    output = run("--stop-stage", "1", "--allow-pipes", "--deep", "true")
    assert "--deep --allow-pipes" in output and f"{corpus}/test: 5 utterances" in output
