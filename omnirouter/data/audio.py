"""Audio of utterances: any format that libsndfile knows, cut to the sample, resampled, speed-perturbed."""

import io
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from omnirouter.data.datadir import Utterance
from omnirouter.data.errors import UserError
from omnirouter.data.parsing import Pipe, Recording

OVERSHOOT_S = 0.5  # as Kaldi's extract-segments: a segment may end this much after the recording, and is cut there
LOSS_S = 0.1  # headers may promise a little too much (MP3: the encoder's padding); what lacks beyond this was lost
STREAMED_BYTES = 0x7FFFF000  # from this size on, it stands for "not known": written by sox and ffmpeg into a pipe
UNKNOWN_FRAMES = 1 << 48  # libsndfile's answer for a FLAC file that was written into a pipe is larger


class AudioError(UserError):
    """Something wrong with an audio file."""

    def __init__(self, recording: Recording | str, what: str, fix: str) -> None:
        super().__init__(f"{recording}: {what}; {fix}")
        self.what, self.fix = what, fix


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file's header says."""

    sample_rate_hz: int
    frames: int
    channels: int = 1

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate_hz


def audio_info(recording: Recording | str) -> AudioInfo:
    """Return sample rate, length in frames and number of channels from the header; `AudioError` as `open_audio`."""
    with open_audio(recording) as file:
        return AudioInfo(file.samplerate, file.frames, file.channels)


def readable_audio(recording: Recording | str) -> tuple[AudioInfo, int]:
    """Return what the header says, and how many frames `load_utterance` gets of them; `AudioError` as there.

    The two differ for MP3, whose headers count the encoder's padding: such a file is decoded.
    """
    with open_audio(recording) as file:
        _check_mono(recording, file)
        frames = file.frames if file.format != "MP3" else len(file.read(dtype="float32"))
        return AudioInfo(file.samplerate, file.frames), frames


def utterance_duration_s(utt: Utterance) -> float:
    """Return the length in seconds of an utterance as it sounds, from its times, its speed and the audio's header."""
    info = audio_info(utt.recording)
    start, stop = _bounds(utt, info)
    return (stop - start) / info.sample_rate_hz / utt.speed


def load_utterance(utt: Utterance, sample_rate_hz: int = 16000) -> np.ndarray:
    """Return an utterance's samples, float32 (frames,) in [-1, 1], at `sample_rate_hz`, with its speed applied.

    Raises `UserError` for audio that is unreadable, truncated, of several channels, or not finite.
    """
    with open_audio(utt.recording) as file:
        _check_mono(utt.recording, file)
        start, stop = _bounds(utt, AudioInfo(file.samplerate, file.frames))
        samples = _read(file, start, stop)
        rate_hz = file.samplerate
    if len(samples) == 0 or stop - start - len(samples) > LOSS_S * rate_hz:
        raise AudioError(utt.recording, "truncated: it holds less than its header promises", "get the file again")
    if not np.isfinite(samples).all():
        raise AudioError(utt.recording, "contains NaN or infinite samples", "make the file again")
    return resample(samples, round(rate_hz * utt.speed), sample_rate_hz)


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample float32 (frames,) to ceil(frames * to_hz / from_hz) frames."""
    if from_hz == to_hz:
        return samples
    import torch  # slow to import, and most corpora need no resampling
    from torchaudio.functional import resample as band_limited_resample

    return band_limited_resample(torch.from_numpy(samples), from_hz, to_hz).numpy()


def resampled_length(frames: np.ndarray, from_hz: np.ndarray, to_hz: int) -> np.ndarray:
    """Return how many frames `resample` makes of each of so many, all int64 (n,), rounding up as torchaudio does."""
    divisor = np.gcd(from_hz, to_hz)
    from_hz, to_hz = from_hz // divisor, to_hz // divisor
    wanted = np.ceil((to_hz * frames / from_hz).astype(np.float32)).astype(np.int64)  # in single precision, as there
    return np.where(from_hz == to_hz, frames, np.minimum(wanted, (frames // from_hz + 1) * to_hz))


def segment_frames(start_s: float, end_s: float | None, info: AudioInfo) -> tuple[int, int]:
    """Return the first frame of a segment and the one after its last; `ValueError` if it is not in the recording."""
    start = round(start_s * info.sample_rate_hz)
    stop = info.frames if end_s is None else round(end_s * info.sample_rate_hz)
    if not start < min(stop, info.frames) or stop > info.frames + OVERSHOOT_S * info.sample_rate_hz:
        end = "the end" if end_s is None else f"{end_s:g} s"
        raise ValueError(f"{start_s:g} s to {end} is not within the recording's {info.duration_s:g} s")
    return start, min(stop, info.frames)


def _bounds(utt: Utterance, info: AudioInfo) -> tuple[int, int]:
    """Return `segment_frames` of an utterance; `UserError` naming it."""
    try:
        return segment_frames(utt.start_s, utt.end_s, info)
    except ValueError as error:
        raise UserError(f"utterance {utt.utt_id!r}: {error} ({utt.recording}); correct either") from error


def _check_mono(recording: Recording | str, file: soundfile.SoundFile) -> None:
    if file.channels != 1:
        raise AudioError(recording, f"{file.channels} channels", "split or mix it to one channel first")


def _read(file: soundfile.SoundFile, start: int, stop: int) -> np.ndarray:
    """Read the frames from `start` to `stop`."""
    if file.format in ("OGG", "MP3"):  # their decoders are not sample-exact after a seek
        return file.read(stop, dtype="float32")[start:]
    file.seek(start)
    return file.read(stop - start, dtype="float32")


@contextmanager
def open_audio(recording: Recording | str) -> Iterator[soundfile.SoundFile]:
    """Open a recording for reading; `AudioError` if it cannot be opened or read, or is shorter than its header says."""
    is_audio = False
    try:
        with _open_source(recording) as source, soundfile.SoundFile(source) as file:
            is_audio = True
            lost_frames = _promised_frames(recording, file) - file.frames
            if lost_frames > LOSS_S * file.samplerate:
                raise AudioError(recording, f"truncated: {lost_frames} frames are missing", "get the file again")
            if file.frames > UNKNOWN_FRAMES:
                raise AudioError(recording, "its header does not say how long it is", "write it to a file, not a pipe")
            yield file
    except OSError as error:
        raise AudioError(recording, f"cannot be read ({error.strerror})", "check the path in wav.scp") from error
    except (soundfile.SoundFileError, TypeError, ValueError) as error:  # the latter two: names like x.raw, NUL bytes
        if is_audio:
            raise AudioError(recording, f"damaged, it cannot be decoded ({error})", "get the file again") from error
        raise AudioError(recording, f"not readable as audio ({error})", "convert it to FLAC or WAV") from error


def _open_source(recording: Recording | str) -> io.BufferedIOBase:
    """Return the bytes of a file, or of the output of a command that the user has allowed with --allow-pipes."""
    if isinstance(recording, Pipe):
        done = subprocess.run(recording.command, shell=True, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode != 0:
            last_words = done.stderr.decode(errors="replace").strip()[-200:]
            raise AudioError(recording, f"the command failed ({last_words})", "run it by hand")
        return io.BytesIO(done.stdout)
    path = Path(recording)
    if path.exists() and not path.is_file():  # opening a named pipe would wait for ever
        raise AudioError(recording, "not a regular file", "give the path of an audio file")
    if path.exists() and path.stat().st_size == 0:
        raise AudioError(recording, "the file has zero length", "get the file again")
    return open(path, "rb")


def _promised_frames(recording: Recording | str, file: soundfile.SoundFile) -> int:
    """Return the frames that the header promises, where libsndfile quietly goes by the size of the file."""
    if file.format in ("WAV", "WAVEX"):
        sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
        if sizes and 0 < int(sizes[2]) < int(sizes[1]) < STREAMED_BYTES:
            return file.frames * int(sizes[1]) // int(sizes[2])
    if file.format == "NIST" and not isinstance(recording, Pipe):
        with open(recording, "rb") as header:
            count = re.search(rb"^sample_count -i (\d+)", header.read(1024), re.MULTILINE)
        return int(count[1]) if count else 0
    return 0
