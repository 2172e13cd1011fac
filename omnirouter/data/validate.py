"""Validation of data directories: every problem of tables and audio at once, each with file, line and remedy."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from omnirouter.data.audio import LOSS_S, OVERSHOOT_S, AudioError, AudioInfo, open_audio, segment_frames
from omnirouter.data.doubts import BAD, FirstLook, recording_hash
from omnirouter.data.parsing import CURRENT, ParsedDir, Recording, parse_data_dir, parse_recording
from omnirouter.data.streams import read_rows
from omnirouter.data.tables import Problem

DEEP_BELOW_UTTERANCES = 10_000  # with fewer, decoding every file takes a minute or so, and is the default
DURATION_TOLERANCE_S = 0.1  # durations that were counted in feature frames may be a few frames short
LOW_RATE_HZ = 16_000
BLOCK_FRAMES = 1 << 16
BLOCK_FILES = 1 << 12  # that are on their way at a time


@dataclass(frozen=True)
class Report:
    """What was found in one data directory."""

    path: Path
    problems: list[Problem]  # warnings among them
    utterances: int
    speakers: int
    duration_s: float

    @property
    def is_good(self) -> bool:
        """Whether there is nothing but warnings."""
        return all(problem.is_warning for problem in self.problems)

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.utterances} utterances, {self.speakers} speakers, {self.duration_s / 3600:.2f} hours"
        )


@dataclass
class AudioCheck:
    """The result of looking at one recording: its header, None if unreadable, and (what is wrong, what to do)."""

    info: AudioInfo | None = None
    faults: list[tuple[str, str]] = field(default_factory=list)


def validate_data_dirs(
    paths: Iterable[Path | str], deep: bool | None = None, allow_pipes: bool = False, base: Path = CURRENT
) -> list[Report]:
    """Check data directories; nothing is written. `deep` decodes all audio (None: if there are few utterances).

    Relative paths in `wav.scp` are relative to `base`. In memory are some 160 bytes an utterance, and the lines that
    something is wrong with.
    """
    looks = [FirstLook(Path(path), allow_pipes, base) for path in paths]
    if deep is None:
        deep = sum(look.utterances for look in looks) < DEEP_BELOW_UTTERANCES
    audio = check_audio(looks, deep, allow_pipes, base)
    return [_report(look, audio, allow_pipes, base) for look in looks]


class CheckedAudio:
    """What has been found of recordings, by the hashes of what wav.scp names: numbers, and what is wrong."""

    def __init__(self, names: np.ndarray) -> None:
        """names: hashes in order, int64 (n,)."""
        self.names = names
        self.rate_hz, self.frames = np.ones(len(names), np.int64), np.zeros(len(names), np.int64)
        self.faulty: dict[int, AudioCheck] = {}

    def add(self, place: int, check: AudioCheck) -> None:
        """Take the result of looking at the recording with a place in `names`."""
        if check.info:
            self.rate_hz[place], self.frames[place] = check.info.sample_rate_hz, check.info.frames
        if check.faults:
            self.faulty[int(self.names[place])] = check

    def get(self, recording: Recording) -> AudioCheck:
        """Return the result for a recording."""
        place = int(np.searchsorted(self.names, hash(recording)))
        info = AudioInfo(int(self.rate_hz[place]), int(self.frames[place]))
        return self.faulty.get(hash(recording)) or AudioCheck(info)


def check_audio(looks: Sequence[FirstLook], deep: bool, allow_pipes: bool, base: Path) -> CheckedAudio:
    """Look at each recording once, in parallel (libsndfile works outside Python's lock), with a progress bar."""
    named = np.concatenate([look.recordings for look in looks])
    audio = CheckedAudio(np.unique(named[named != BAD]))
    is_done = np.zeros(len(audio.names), bool)
    pool = ThreadPoolExecutor(max_workers=os.cpu_count())
    progress = tqdm(desc="decoding" if deep else "headers", total=len(audio.names), unit="file", disable=None)
    try:
        for values in (values for look in looks for _, values, _ in read_rows(look.path / "wav.scp", BLOCK_FILES)):
            todo = _not_done(values, audio.names, is_done, allow_pipes, base)
            for place, check in zip(todo, pool.map(lambda rec: check_recording(rec, deep), todo.values()), strict=True):
                audio.add(place, check)
                progress.update()
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
        progress.close()
    return audio


def _not_done(
    values: Sequence[str], names: np.ndarray, is_done: np.ndarray, allow_pipes: bool, base: Path
) -> dict[int, Recording]:
    """Return the recordings of entries of wav.scp that have not been looked at, by their places; marks them."""
    todo: dict[int, Recording] = {}
    for value in values:
        name = recording_hash(value, allow_pipes, base)
        if name != BAD and not is_done[place := int(np.searchsorted(names, name))]:
            is_done[place] = True
            todo[place] = parse_recording(value, allow_pipes, base)
    return todo


def check_recording(recording: Recording, deep: bool) -> AudioCheck:
    """Look at one recording's header and, if `deep`, decode all of it."""
    check = AudioCheck()
    try:
        with open_audio(recording) as file:
            check.info = AudioInfo(file.samplerate, file.frames, file.channels)
            if file.channels != 1:
                check.faults.append((f"{file.channels} channels", "split or mix it to one channel"))
            if file.frames == 0:
                check.faults.append(("zero frames of audio", "get the file again, or remove its utterances"))
            elif deep:
                check.faults += _decoding_faults(file)
    except AudioError as error:
        check.faults.append((error.what, error.fix))
    return check


def _decoding_faults(file: soundfile.SoundFile) -> list[tuple[str, str]]:
    """Decode a whole file and say what is wrong with it."""
    frames, finite, damaged = 0, True, False
    try:
        while frames < file.frames and len(block := file.read(BLOCK_FRAMES, dtype="float32")):
            frames += len(block)
            finite = finite and bool(np.isfinite(block).all())
    except soundfile.SoundFileError:
        damaged = True  # libsndfile's own message is often empty; the place says more
    faults = [] if finite else [("contains NaN or infinite samples", "make the file again")]
    if damaged or file.frames - frames > LOSS_S * file.samplerate:
        end = min(frames + BLOCK_FRAMES, file.frames)
        where = f"fails between frames {frames} and {end}" if damaged else f"ends after {frames}"
        what = f"truncated or damaged: {file.frames} frames promised, decoding {where}"
        faults.append((what, "get the file again"))
    return faults


def _report(look: FirstLook, audio: CheckedAudio, allow_pipes: bool, base: Path) -> Report:
    rate_hz, frames = _headers(look, audio)
    look.doubt_recordings(np.isin(look.recordings, list(audio.faulty)))
    low, first = _low_rates(look, rate_hz, frames)
    durations_s = _doubt_times(look, rate_hz, frames)
    problems: list[Problem] = []
    if keep := look.kept():
        parsed = parse_data_dir(look.path, allow_pipes, base, keep=keep)
        problems = _exact_problems(parsed, audio, low, first)
    return Report(look.path, problems, look.utterances, look.speakers, float(np.nansum(durations_s)))


def _headers(look: FirstLook, audio: CheckedAudio) -> tuple[np.ndarray, np.ndarray]:
    """Return rate and frames of each line of wav.scp, int64; no frames where there is no audio to go by."""
    if not len(audio.names):
        return np.ones(len(look.recordings), np.int64), np.zeros(len(look.recordings), np.int64)
    places = np.searchsorted(audio.names, look.recordings).clip(max=len(audio.names) - 1)
    return audio.rate_hz[places], np.where(look.recordings == BAD, 0, audio.frames[places])


def _low_rates(look: FirstLook, rate_hz: np.ndarray, frames: np.ndarray) -> tuple[int, int]:
    """Return how many recordings have a low sample rate, and the hash of the first one's id, of which to warn."""
    _, rows = np.unique(look.recording_ids, return_index=True)  # of an id that is repeated, the first counts
    low = np.sort(rows[(frames[rows] > 0) & (rate_hz[rows] < LOW_RATE_HZ)])
    look.doubt_recordings(low[:1])
    return len(low), int(look.recording_ids[low[0]]) if len(low) else BAD


def _doubt_times(look: FirstLook, rate_hz: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return the utterances' durations by the audio, as they sound (NaN: not known), and doubt wrong times.

    These are segments outside their recording, as `segment_frames` has it, and durations that are stated otherwise.
    """
    spans, (ids, first) = look.spans, np.unique(look.recording_ids, return_index=True)
    if not len(ids) or not len(spans):
        return np.full(len(spans), np.nan)
    rows = first[np.searchsorted(ids, spans["recording"]).clip(max=len(ids) - 1)]
    known = (look.recording_ids[rows] == spans["recording"]) & (frames[rows] > 0)
    rate_hz, frames = rate_hz[rows], frames[rows]
    start, stop = np.rint(spans["start_s"] * rate_hz), np.rint(spans["end_s"] * rate_hz)
    stop[np.isinf(stop)] = frames[np.isinf(stop)]
    inside = (start < np.minimum(stop, frames)) & (stop <= frames + OVERSHOOT_S * rate_hz)
    look.doubt(known & ~inside)
    speeds = np.where(np.isnan(look.speeds), 1.0, look.speeds)
    durations_s = np.where(known & inside, (np.minimum(stop, frames) - start) / rate_hz / speeds, np.nan)
    look.doubt(np.abs(look.durations_s - durations_s) > DURATION_TOLERANCE_S)
    return durations_s


def _exact_problems(parsed: ParsedDir, audio: CheckedAudio, low: int, first_low: int) -> list[Problem]:
    wav_scp = parsed.tables["wav.scp"]
    infos: dict[str, AudioInfo] = {}
    firsts = [(wav_scp.lines[key], key, recording) for key, recording in parsed.recordings.items()]
    for line, key, recording in (*firsts, *parsed.repeats.recordings):
        check = audio.get(recording)
        for what, fix in check.faults:
            wav_scp.complain(line, f"{key!r}, {recording}: {what}", fix)
    for _, key, recording in firsts:
        check = audio.get(recording)
        if check.info and check.info.frames:
            infos[key] = check.info
        if hash(key) == first_low:  # once: a corpus has them in thousands or not at all
            what = f"{key!r} has {infos[key].sample_rate_hz} Hz; below 16 kHz are {low} recordings"
            wav_scp.complain(key, what, "it is resampled; higher rates are better", is_warning=True)
    _check_utt2dur(parsed, _durations_s(parsed, infos))
    return parsed.problems


def _durations_s(parsed: ParsedDir, infos: dict[str, AudioInfo]) -> dict[str, float]:
    """Return the utterances' durations by the audio, as they sound; segments outside their recording are problems."""
    durations_s = {}
    lines = parsed.master.lines
    spans = parsed.segments if "segments" in parsed.tables else {key: (key, 0.0, None) for key in lines}
    firsts = [(lines[key], key, span) for key, span in spans.items()]
    for line, key, (recording_id, start_s, end_s) in (*parsed.repeats.segments, *firsts):
        if info := infos.get(recording_id):
            try:
                start, stop = segment_frames(start_s, end_s, info)
            except ValueError as error:
                parsed.master.complain(line, f"{key!r}: {error}", "correct the times or the audio")
            else:
                durations_s[key] = (stop - start) / info.sample_rate_hz / parsed.speeds.get(key, 1.0)
    return durations_s


def _check_utt2dur(parsed: ParsedDir, durations_s: dict[str, float]) -> None:
    if "utt2dur" not in parsed.tables:
        return
    table = parsed.tables["utt2dur"]
    firsts = [(table.lines[key], key, stated_s) for key, stated_s in parsed.durations_s.items()]
    for line, key, stated_s in (*firsts, *parsed.repeats.durations_s):
        actual_s = durations_s.get(key, stated_s)
        if abs(stated_s - actual_s) > DURATION_TOLERANCE_S:
            what = f"{key!r} lasts {actual_s:.3f} s by its audio, not {stated_s:.3f} s"
            table.complain(line, what, "correct it, or delete utt2dur: it is made anew")
