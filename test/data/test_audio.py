import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from omnirouter.data import audio
from omnirouter.data.audio import AudioError, AudioInfo, audio_info, load_utterance, utterance_duration_s
from omnirouter.data.datadir import Utterance
from omnirouter.data.errors import UserError

RATE_HZ = 16000
FORMATS = {
    "x.wav": {},
    "x.flac": {},
    "x.sph": {"format": "NIST"},
    "x.mp3": {},
    "x.ogg": {"subtype": "VORBIS"},
    "x.opus": {"format": "OGG", "subtype": "OPUS"},
}
LOSSY = ("x.mp3", "x.ogg", "x.opus")


def sweep(frames: int) -> np.ndarray:
    """Samples of a tone that rises from 200 Hz by 100 Hz a second: no two stretches are alike."""
    times_s = np.arange(frames) / RATE_HZ
    return 0.4 * np.sin(2 * np.pi * (200 * times_s + 50 * times_s**2))


def peak_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), n=16 * RATE_HZ))
    return float(spectrum.argmax()) / 16


def utterance(path: Path, start_s: float = 0.0, end_s: float | None = None, speed: float = 1.0) -> Utterance:
    return Utterance("u", path, "x", "s", start_s, end_s, speed=speed)


@pytest.mark.parametrize("name", FORMATS)
def test_formats_and_sample_exact_segments(tmp_path: Path, name: str) -> None:
    path, signal = tmp_path / name, sweep(7 * RATE_HZ)
    soundfile.write(path, signal, RATE_HZ, **FORMATS[name])
    assert audio_info(path) == AudioInfo(RATE_HZ, 7 * RATE_HZ, 1)
    whole = load_utterance(utterance(path))
    assert whole.dtype == np.float32 and whole.shape == (7 * RATE_HZ,)
    error = np.abs(whole - signal)[:-800]  # the Opus encoder loses the last frame
    assert error.max() < (0.05 if name in LOSSY else 1.01 / 32768)
    for start, stop in [(0, 1), (1, 4000), (12345, 70001), (100_000, 7 * RATE_HZ), (7 * RATE_HZ - 1, 7 * RATE_HZ)]:
        segment = load_utterance(utterance(path, start / RATE_HZ, stop / RATE_HZ))
        np.testing.assert_array_equal(segment, whole[start:stop])


class CountingFile(io.FileIO):
    """A file that adds up what is read of it."""

    bytes_read = 0

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        CountingFile.bytes_read += count
        return count


@pytest.mark.parametrize("name", ["x.flac", "x.wav"])
def test_a_late_segment_is_read_by_seeking(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(-9999, 9999, 300 * RATE_HZ, dtype=np.int16)  # as large as FLAC gets
    soundfile.write(tmp_path / name, noise, RATE_HZ)
    monkeypatch.setattr(audio, "_open_source", CountingFile)
    monkeypatch.setattr(CountingFile, "bytes_read", 0)
    samples = load_utterance(utterance(tmp_path / name, 290.0, 292.0))
    np.testing.assert_array_equal(samples, noise[290 * RATE_HZ : 292 * RATE_HZ].astype(np.float32) / 32768)
    share = CountingFile.bytes_read / (tmp_path / name).stat().st_size
    assert 2 / 300 * 0.9 < share < 0.1  # of which FLAC takes some to find the place


def test_segment_bounds(tmp_path: Path, write_tone: Callable[..., Path]) -> None:
    path = write_tone(tmp_path / "x.wav", 2.0)
    assert len(load_utterance(utterance(path, 0.5))) == 1.5 * RATE_HZ
    assert len(load_utterance(utterance(path, 1.0, 2.5))) == RATE_HZ  # half a second too long is cut
    for start_s, end_s in [(1.0, 2.51), (2.0, 2.3), (2.1, None), (1.0, 1.00001)]:
        with pytest.raises(UserError, match=r"'u': .* is not within the recording's 2 s"):
            load_utterance(utterance(path, start_s, end_s))


@pytest.mark.parametrize(("speed", "hz"), [(1.1, 484.0), (0.9, 396.0)])
def test_speed_changes_pitch_and_duration(
    tmp_path: Path, write_tone: Callable[..., Path], speed: float, hz: float
) -> None:
    utt = utterance(write_tone(tmp_path / "x.wav", 2.0), speed=speed)
    samples = load_utterance(utt)
    assert len(samples) == int(np.ceil(2 * RATE_HZ / speed))
    assert utterance_duration_s(utt) == pytest.approx(2 / speed)
    assert peak_hz(samples) == pytest.approx(hz, abs=0.1)
    assert np.abs(samples[1000:-1000]).max() == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("rate_hz", [8000, 44100])
def test_other_rates_are_resampled(tmp_path: Path, write_tone: Callable[..., Path], rate_hz: int) -> None:
    utt = utterance(write_tone(tmp_path / "x.wav", 2.0, sample_rate_hz=rate_hz), start_s=0.5)
    samples = load_utterance(utt, RATE_HZ)
    assert len(samples) == 1.5 * RATE_HZ
    times_s = 0.5 + np.arange(len(samples)) / RATE_HZ
    expected = 0.5 * np.sin(2 * np.pi * 440 * times_s)
    np.testing.assert_allclose(samples[200:-200], expected[200:-200], atol=2e-3)


def truncate(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.sph", "x.mp3"])
def test_truncated_files_are_refused(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, sweep(7 * RATE_HZ), RATE_HZ, **FORMATS[name])
    with pytest.raises(AudioError, match=f"{name}: (truncated|damaged).*; get the file again"):
        load_utterance(utterance(truncate(tmp_path / name)))


def test_a_wav_written_into_a_pipe_is_not_truncated(tmp_path: Path, write_tone: Callable[..., Path]) -> None:
    path = write_tone(tmp_path / "x.wav", 1.0)
    content = bytearray(path.read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"  # the size of the data, which such a writer does not know
    path.write_bytes(content)
    assert audio_info(path).frames == RATE_HZ


def test_unusable_audio_is_named_with_its_reason(tmp_path: Path, write_tone: Callable[..., Path]) -> None:
    soundfile.write(tmp_path / "stereo.wav", np.zeros((100, 2)), RATE_HZ)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), RATE_HZ, subtype="FLOAT")
    (tmp_path / "zero.wav").touch()
    (tmp_path / "junk.raw").write_bytes(b"junk")
    (tmp_path / "folder").mkdir()
    reasons = {
        "stereo.wav": "2 channels; ",
        "nan.wav": "contains NaN",
        "zero.wav": "the file has zero length",
        "junk.raw": "not readable as audio",
        "folder": "not a regular file",
        "none.wav": "cannot be read .No such file",
        "nul\0.wav": "not readable as audio",
    }
    for name, reason in reasons.items():
        with pytest.raises(AudioError, match=f"{name}: {reason}"):
            load_utterance(utterance(tmp_path / name))


def test_a_file_called_minus_is_not_standard_input(
    tmp_path: Path, write_tone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tone(tmp_path / "x.wav", 0.25).rename(tmp_path / "-")
    monkeypatch.chdir(tmp_path)
    assert audio_info(Path("-")).frames == RATE_HZ // 4
