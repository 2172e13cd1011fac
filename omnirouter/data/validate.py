"""Validation of data directories: every problem of tables and audio at once, each with file, line and remedy."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from omnirouter.data.audio import LOSS_S, AudioError, AudioInfo, open_audio, segment_frames
from omnirouter.data.datadir import CURRENT, ParsedDir, Recording, parse_data_dir
from omnirouter.data.tables import Problem

DEEP_BELOW_UTTERANCES = 10_000  # with fewer, decoding every file takes a minute or so, and is the default
DURATION_TOLERANCE_S = 0.1  # durations that were counted in feature frames may be a few frames short
LOW_RATE_HZ = 16_000
BLOCK_FRAMES = 1 << 16


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

    Relative paths in `wav.scp` are relative to `base`.
    """
    parsed_dirs = [parse_data_dir(path, allow_pipes, base) for path in paths]
    if deep is None:
        deep = sum(len(parsed.master.rows) for parsed in parsed_dirs) < DEEP_BELOW_UTTERANCES
    recordings = list(dict.fromkeys(rec for parsed in parsed_dirs for rec in parsed.recordings.values()))
    checks = check_recordings(recordings, deep)
    return [_report(parsed, checks) for parsed in parsed_dirs]


def check_recordings(recordings: Sequence[Recording], deep: bool) -> dict[Recording, AudioCheck]:
    """Look at recordings in parallel (libsndfile works outside Python's lock), with a progress bar on a terminal."""
    pool = ThreadPoolExecutor(max_workers=os.cpu_count())
    try:
        results = pool.map(lambda recording: check_recording(recording, deep), recordings)
        progress = tqdm(results, "decoding" if deep else "headers", len(recordings), unit="file", disable=None)
        return dict(zip(recordings, progress, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest


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
        damaged = True  # libsndfile's own message is often empty; the count says more
    faults = [] if finite else [("contains NaN or infinite samples", "make the file again")]
    if damaged or file.frames - frames > LOSS_S * file.samplerate:
        what = f"truncated or damaged: {file.frames} frames promised, decoding fails after {frames}"
        faults.append((what, "get the file again"))
    return faults


def _report(parsed: ParsedDir, checks: dict[Recording, AudioCheck]) -> Report:
    wav_scp = parsed.tables["wav.scp"]
    infos: dict[str, AudioInfo] = {}
    for key, recording in parsed.recordings.items():
        check = checks[recording]
        for what, fix in check.faults:
            wav_scp.complain(key, f"{key!r}, {recording}: {what}", fix)
        if check.info and check.info.frames:
            infos[key] = check.info
    _warn_of_low_rates(parsed, infos)
    durations_s = _durations_s(parsed, infos)
    _check_utt2dur(parsed, durations_s)
    speakers = set(parsed.tables["utt2spk"].rows.values())
    return Report(parsed.path, parsed.problems, len(parsed.master.rows), len(speakers), sum(durations_s.values()))


def _warn_of_low_rates(parsed: ParsedDir, infos: dict[str, AudioInfo]) -> None:
    """Warn once, at the first recording of a low sample rate: a corpus has them in thousands or not at all."""
    low = [key for key, info in infos.items() if info.sample_rate_hz < LOW_RATE_HZ]
    if low:
        what = f"{low[0]!r} has {infos[low[0]].sample_rate_hz} Hz; below 16 kHz are {len(low)} recordings"
        parsed.tables["wav.scp"].complain(low[0], what, "it is resampled; higher rates are better", is_warning=True)


def _durations_s(parsed: ParsedDir, infos: dict[str, AudioInfo]) -> dict[str, float]:
    """Return the utterances' durations by the audio, as they sound; segments outside their recording are problems."""
    durations_s = {}
    for key in parsed.master.rows:
        if "segments" in parsed.tables and key not in parsed.segments:
            continue
        recording_id, start_s, end_s = parsed.segments.get(key, (key, 0.0, None))
        if info := infos.get(recording_id):
            try:
                start, stop = segment_frames(start_s, end_s, info)
            except ValueError as error:
                parsed.master.complain(key, f"{key!r}: {error}", "correct the times or the audio")
            else:
                durations_s[key] = (stop - start) / info.sample_rate_hz / parsed.speeds.get(key, 1.0)
    return durations_s


def _check_utt2dur(parsed: ParsedDir, durations_s: dict[str, float]) -> None:
    for key, stated_s in parsed.durations_s.items():
        actual_s = durations_s.get(key, stated_s)
        if abs(stated_s - actual_s) > DURATION_TOLERANCE_S:
            what = f"{key!r} lasts {actual_s:.3f} s by its audio, not {stated_s:.3f} s"
            parsed.tables["utt2dur"].complain(key, what, "correct it, or delete utt2dur: it is made anew")
