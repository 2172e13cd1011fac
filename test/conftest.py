"""Fixtures for all tests."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

# A test run in the background inherits Ctrl-C as ignored, and so would the processes that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models of the tests are too small for more

from omnirouter.data.datadir import Utterance, write_data_dir  # noqa: E402


@pytest.fixture
def test_data() -> Path:
    """The folder with real corpora, named by OMNIROUTER_TEST_DATA; tests on them are skipped without it."""
    folder = os.environ.get("OMNIROUTER_TEST_DATA")
    if not folder:
        pytest.skip("OMNIROUTER_TEST_DATA names no folder with real corpora")
    return Path(folder)


@pytest.fixture
def write_tone() -> Callable[..., Path]:
    """A function that writes a sine wave, in the format of the file name's suffix, and returns its path."""

    def write(
        path: Path, duration_s: float = 1.0, frequency_hz: float = 440.0, sample_rate_hz: int = 16000, **options: str
    ) -> Path:
        times_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * frequency_hz * times_s), sample_rate_hz, **options)
        return path

    return write


@pytest.fixture
def tiny_data_dir(tmp_path: Path, write_tone: Callable[..., Path]) -> Path:
    """A data directory of two speakers with two utterances each, tones of 1.0, 1.1, 1.2 and 1.3 seconds."""
    utterances = [
        Utterance(
            utt_id=f"spk{i // 2}-utt{i}",
            recording=write_tone(tmp_path / "wavs" / f"{i}.wav", duration_s=1.0 + i / 10, frequency_hz=300.0 + 100 * i),
            text=f"tone number {i}",
            speaker=f"spk{i // 2}",
        )
        for i in range(4)
    ]
    write_data_dir(tmp_path / "tiny", utterances)
    return tmp_path / "tiny"


@pytest.fixture
def write_chapter() -> Callable[..., None]:
    """A function that writes a chapter of LibriSpeech as published: for each text noise of so many samples."""
    rng = np.random.default_rng(0)

    def write(part: Path, speaker: str, chapter: str, utterances: Sequence[tuple[str, int]]) -> None:
        folder = part / speaker / chapter
        folder.mkdir(parents=True)
        lines = []
        for i, (text, frames) in enumerate(utterances):
            utt_id = f"{speaker}-{chapter}-{i:04d}"
            soundfile.write(folder / f"{utt_id}.flac", rng.integers(-9999, 9999, frames, dtype=np.int16), 16000)
            lines.append(f"{utt_id} {text}\n")
        (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))

    return write
