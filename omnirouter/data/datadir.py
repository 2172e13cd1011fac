"""Kaldi-style data directories: read, completed and written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnirouter.data.doubts import FirstLook
from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_dir
from omnirouter.data.parsing import CURRENT, LABELS, ParsedDir, Recording, parse_data_dir
from omnirouter.data.tables import Problem, id_fault, write_table
from omnirouter.data.tables import read_table as read_table  # with the rest of the data-directory interface


@dataclass(frozen=True)
class Utterance:
    """One utterance: a stretch of a recording, its words and its speaker."""

    utt_id: str
    recording: Recording
    text: str
    speaker: str
    start_s: float = 0.0
    end_s: float | None = None  # None: to the end of the recording
    duration_s: float | None = None  # of the utterance as it sounds, that is, after speed perturbation
    speed: float = 1.0  # as sox's `speed`: 1.1 is faster and higher


def read_data_dir(
    path: Path | str, allow_pipes: bool = False, base: Path = CURRENT, labelled: bool = True
) -> list[Utterance]:
    """Read the utterances in order of id; `UserError` if anything in the directory's tables is wrong.

    Relative paths in `wav.scp` are relative to `base`: the current directory, as in Kaldi. Audio is not looked at.
    Without `labelled`, `text` and `utt2spk` may be absent: the words are then empty, and each utterance is a speaker.
    """
    parsed = _parse_or_fail(path, allow_pipes, base, labelled)
    text, speakers = (parsed.tables[name].rows if name in parsed.tables else {} for name in LABELS)
    utterances = []
    for utt_id in sorted(parsed.master.rows):
        recording_id, start_s, end_s = parsed.segments.get(utt_id, (utt_id, 0.0, None))
        utterances.append(
            Utterance(
                utt_id=utt_id,
                recording=parsed.recordings[recording_id],
                text=text.get(utt_id, ""),
                speaker=speakers.get(utt_id, utt_id),
                start_s=start_s,
                end_s=end_s,
                duration_s=parsed.durations_s.get(utt_id),
                speed=parsed.speeds.get(utt_id, 1.0),
            )
        )
    return utterances


def read_recordings(path: Path | str, allow_pipes: bool = False, base: Path = CURRENT) -> dict[str, Recording]:
    """Read `wav.scp` of a data directory: recording id to audio file; `UserError` as `read_data_dir`."""
    return _parse_or_fail(path, allow_pipes, base).recordings


def _parse_or_fail(path: Path | str, allow_pipes: bool, base: Path, labelled: bool = True) -> ParsedDir:
    parsed = parse_data_dir(path, allow_pipes, base, labelled)
    fail_for(parsed.problems)
    return parsed


def check_tables(path: Path, allow_pipes: bool = False, base: Path = CURRENT, labelled: bool = True) -> None:
    """Raise what `read_data_dir` raises, for a directory too large to be read at once."""
    keep = FirstLook(path, allow_pipes, base, labelled).kept()
    if keep:
        fail_for(parse_data_dir(path, allow_pipes, base, labelled, keep).problems)


def fail_for(problems: Sequence[Problem]) -> None:
    """Raise a `UserError` for the first problem, if there is one, saying how many there are."""
    if problems:
        more = f" ({len(problems) - 1} more: run omnirouter.bin.validate_data_dir)" if len(problems) > 1 else ""
        raise UserError(f"{problems[0]}{more}")


def write_data_dir(
    path: Path | str, utterances: Iterable[Utterance], recordings: Mapping[str, Recording] | None = None
) -> None:
    """Write a complete data directory atomically, in place of what was there; the same utterances give the same bytes.

    `segments` is written when any utterance is less than a whole recording; `recordings` then names the recordings
    (id to audio file; by default the id is the file's stem). `utt2speed` is written when any speed is not 1.
    Durations that are None are computed from the audio files' headers.
    """
    by_id: dict[str, Utterance] = {}
    for utt in utterances:
        if utt.utt_id in by_id:
            raise UserError(f"{path}: utterance {utt.utt_id!r} occurs twice")
        by_id[utt.utt_id] = utt
    if not by_id:
        raise UserError(f"{path}: there is no utterance to write")
    tables = _tables_of(by_id)
    if any(utt.start_s > 0 or utt.end_s is not None for utt in by_id.values()):
        tables["wav.scp"], tables["segments"] = _wav_scp_and_segments(by_id, recordings or {})
    with atomic_dir(path) as folder:
        for name, rows in tables.items():
            write_table(folder / name, rows)


def complete_data_dir(source: Path | str, target: Path | str, allow_pipes: bool = False, base: Path = CURRENT) -> None:
    """Copy a user's data directory (`wav.scp text utt2spk [segments …]`) to `target` with all tables.

    Relative paths in its `wav.scp` are relative to `base`, and are written with it before them.
    """
    write_data_dir(target, read_data_dir(source, allow_pipes, base), read_recordings(source, allow_pipes, base))


def _tables_of(by_id: Mapping[str, Utterance]) -> dict[str, dict[str, str]]:
    """Return the tables of utterances that are whole recordings."""
    from omnirouter.data.audio import utterance_duration_s  # it needs Utterance, which is defined here

    speakers: dict[str, list[str]] = {}
    for key in sorted(by_id):
        speakers.setdefault(by_id[key].speaker, []).append(key)
    tables = {
        "wav.scp": {key: str(utt.recording) for key, utt in by_id.items()},
        "text": {key: utt.text for key, utt in by_id.items()},
        "utt2spk": {key: utt.speaker for key, utt in by_id.items()},
        "spk2utt": {speaker: " ".join(keys) for speaker, keys in speakers.items()},
        "utt2dur": {key: f"{utt.duration_s or utterance_duration_s(utt):.6f}" for key, utt in by_id.items()},
    }
    if any(utt.speed != 1.0 for utt in by_id.values()):
        tables["utt2speed"] = {key: f"{utt.speed:g}" for key, utt in by_id.items()}
    return tables


def _wav_scp_and_segments(
    by_id: Mapping[str, Utterance], recordings: Mapping[str, Recording]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the rows of `wav.scp` and `segments`; microseconds, so that bounds on samples stay exact."""
    ids = {recording: key for key, recording in sorted(recordings.items(), reverse=True)}
    wav_scp: dict[str, str] = {}
    segments: dict[str, str] = {}
    for utt_id, utt in by_id.items():
        recording_id = ids.get(utt.recording) or (utt.recording.stem if isinstance(utt.recording, Path) else "")
        if wav_scp.setdefault(recording_id, str(utt.recording)) != str(utt.recording) or id_fault(recording_id):
            raise UserError(f"{utt.recording}: needs a recording id of its own, {recording_id!r} is not possible")
        end = "-1" if utt.end_s is None else f"{utt.end_s:.6f}"
        segments[utt_id] = f"{recording_id} {utt.start_s:.6f} {end}"
    return wav_scp, segments
