"""Fixtures for all tests."""

import gzip
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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


@pytest.fixture
def write_manifest() -> Callable[..., Path]:
    """A function that writes cuts, or lines that should be some, as a manifest of Libriheavy, and returns its path."""

    def write(corpus: Path, part: str, cuts: Sequence[dict[str, Any] | str]) -> Path:
        path = corpus / f"libriheavy/libriheavy_cuts_{part}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.writelines(f"{cut if isinstance(cut, str) else json.dumps(cut)}\n" for cut in cuts)
        return path

    return write


@pytest.fixture
def write_libriheavy(write_manifest: Callable[..., Path]) -> Callable[..., list[dict[str, Any]]]:
    """A function that makes a part of Libriheavy as published out of chapters in the layout of LibriSpeech.

    Each chapter's utterances, with half a second of silence before each, become one recording of Libri-light. The
    book's text is that of LibriSpeech in small letters between quotation marks. It returns the manifest's cuts.
    """

    def write(corpus: Path, part: str, chapters: Sequence[Path], folder: str = "") -> list[dict[str, Any]]:
        cuts = [cut for chapter in chapters for cut in _join_chapter(corpus, folder or part, chapter)]
        write_manifest(corpus, part, cuts)
        return cuts

    return write


def _join_chapter(corpus: Path, folder: str, chapter: Path) -> list[dict[str, Any]]:
    """Write a chapter as one long recording; return the cuts that are its utterances."""
    (transcript,) = chapter.glob("*.trans.txt")
    audio = {path.stem: path for path in chapter.iterdir() if path != transcript}
    speaker, name = chapter.parent.name, f"{chapter.name}_64kb"
    recording_id = f"{folder}/{speaker}/book_{chapter.name}_librivox_64kb_mp3/{name}"
    pieces, spans, texts = [], [], []
    for utt_id, text in (line.split(maxsplit=1) for line in transcript.read_text().splitlines()):
        samples, rate_hz = soundfile.read(audio[utt_id], dtype="int16")
        assert rate_hz == 16000
        pieces += [np.zeros(8000, dtype=np.int16), samples]
        end = sum(len(piece) for piece in pieces)
        spans.append((end - len(samples), len(samples)))
        texts.append([f"“{text.lower().replace(chr(39), '’')}—”", f"{text} AS RECOGNISED"])
    path = corpus / "librilight" / f"{recording_id}.flac"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.concatenate(pieces), 16000)
    recording = _manifest_recording(recording_id, sum(len(piece) for piece in pieces))
    return [
        _manifest_cut(f"{recording_id}_{i}", speaker, recording, start / 16000, frames / 16000, text)
        for i, ((start, frames), text) in enumerate(zip(spans, texts, strict=True))
    ]


def _manifest_recording(recording_id: str, frames: int) -> dict[str, Any]:
    source = {"type": "file", "channels": [0], "source": f"download/librilight/{recording_id}.flac"}
    lengths = {"num_samples": frames, "duration": frames / 16000}
    return {"id": recording_id, "sources": [source], "sampling_rate": 16000, **lengths, "channel_ids": [0]}


def _manifest_cut(
    cut_id: str, speaker: str, recording: dict[str, Any], start_s: float, duration_s: float, texts: list[str]
) -> dict[str, Any]:
    context = [f"...before {text}" for text in texts]
    supervision = {"id": cut_id, "recording_id": recording["id"], "start": 0, "duration": duration_s, "channel": 0}
    supervision |= {"language": "English", "speaker": speaker}
    supervision["custom"] = {"texts": texts, "pre_texts": context, "begin_byte": 0, "end_byte": len(texts[0])}
    times = {"start": start_s, "duration": duration_s, "channel": 0}
    book = {"text_path": "download/librilight_text/output_text_small_cleaned/A Book/text.txt"}
    return {"id": cut_id, **times, "supervisions": [supervision], "recording": recording, "custom": book} | {
        "type": "MonoCut"
    }
