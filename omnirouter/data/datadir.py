"""Kaldi-style data directories: read (with every problem found), completed and written."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_dir
from omnirouter.data.tables import Problem, Table, id_fault, parse_table, write_table
from omnirouter.data.tables import read_table as read_table  # with the rest of the data-directory interface

LABELS = ("text", "utt2spk")
OPTIONAL_TABLES = ("segments", "spk2utt", "utt2dur", "utt2speed")
TOO_MUCH = 1e9  # seconds: thirty years
CURRENT = Path()  # the current directory, without naming it


@dataclass(frozen=True)
class Pipe:
    """A shell command that writes audio to its standard output; made from `wav.scp` with `allow_pipes` only."""

    command: str

    def __str__(self) -> str:
        return f"{self.command} |"


Recording = Path | Pipe


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


@dataclass
class ParsedDir:
    """What a data directory says, with its problems; entries with a problem may lack in the typed fields."""

    path: Path
    tables: dict[str, Table]
    recordings: dict[str, Recording] = field(default_factory=dict)
    segments: dict[str, tuple[str, float, float | None]] = field(default_factory=dict)  # recording id, start_s, end_s
    durations_s: dict[str, float] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)

    @property
    def problems(self) -> list[Problem]:
        """All problems, by file and line."""
        return sorted(problem for table in self.tables.values() for problem in table.problems)

    @property
    def master(self) -> Table:
        """The table that says which utterances there are."""
        return self.tables.get("segments", self.tables["wav.scp"])


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
    problems = parsed.problems
    if problems:
        more = f" ({len(problems) - 1} more: run omnirouter.bin.validate_data_dir)" if len(problems) > 1 else ""
        raise UserError(f"{problems[0]}{more}")
    return parsed


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


def parse_data_dir(
    path: Path | str, allow_pipes: bool = False, base: Path = CURRENT, labelled: bool = True
) -> ParsedDir:
    """Read all tables of a data directory and hold them against each other; never raises, never runs anything."""
    path = Path(path)
    required, optional = ("wav.scp", *LABELS), OPTIONAL_TABLES
    if not labelled:
        required, optional = ("wav.scp",), (*LABELS, *OPTIONAL_TABLES)
    names = [*required, *(name for name in optional if (path / name).exists())]
    parsed = ParsedDir(path, {name: parse_table(path / name) for name in names})
    _parse_wav_scp(parsed, allow_pipes, base)
    if "segments" in parsed.tables:
        _parse_segments(parsed)
    if "utt2spk" in parsed.tables:
        _parse_utt2spk(parsed.tables["utt2spk"])
    parsed.durations_s = _parse_numbers(parsed.tables.get("utt2dur"), "duration in seconds")
    parsed.speeds = _parse_numbers(parsed.tables.get("utt2speed"), "speed factor")
    _check_same_utterances(parsed)
    if "spk2utt" in parsed.tables and "utt2spk" in parsed.tables:
        _check_spk2utt(parsed.tables["spk2utt"], parsed.tables["utt2spk"])
    return parsed


def _parse_wav_scp(parsed: ParsedDir, allow_pipes: bool, base: Path) -> None:
    table = parsed.tables["wav.scp"]
    for key, value in table.rows.items():
        if value:  # else reported by the parser
            try:
                parsed.recordings[key] = parse_recording(value, allow_pipes, base)
            except ValueError as error:
                what, fix = error.args
                table.complain(key, f"{key!r} {what}", fix)


def parse_recording(value: str, allow_pipes: bool, base: Path = CURRENT) -> Recording:
    """Return what an entry of `wav.scp` names; `ValueError` with what is wrong and what to do about it."""
    if value == "-":
        raise ValueError("would be read from standard input", "give the path of an audio file")
    if not value.endswith("|"):
        return base / value
    if not allow_pipes:
        raise ValueError("would run a shell command", "give an audio file, or --allow-pipes")
    if command := value.removesuffix("|").strip():
        return Pipe(command)
    raise ValueError("has a pipe without a command", "give the path of an audio file")


def _parse_segments(parsed: ParsedDir) -> None:
    table, wav_scp = parsed.tables["segments"], parsed.tables["wav.scp"]
    for key, value in table.rows.items():
        fields = value.split()
        if not fields:
            continue  # reported by the parser
        if len(fields) != 3:
            table.complain(key, f"{len(fields) + 1} columns, not 4", "write: utterance recording start_s end_s")
            continue
        start_s, end_s = parse_number(fields[1]), None if fields[2] == "-1" else parse_number(fields[2])
        if start_s is None or (end_s is None and fields[2] != "-1"):
            table.complain(key, f"{fields[1]!r} {fields[2]!r} is not a time span", "give seconds, end -1 for the end")
        elif end_s is not None and start_s >= end_s:
            table.complain(key, f"start {start_s:g} s is not before end {end_s:g} s", "correct the times")
        elif fields[0] not in wav_scp.rows:
            table.complain(key, f"unknown recording {fields[0]!r}", "add it to wav.scp or remove this line")
        else:
            parsed.segments[key] = (fields[0], start_s, end_s)


def _parse_utt2spk(table: Table) -> None:
    for key, value in table.rows.items():
        columns = 1 + len(value.split())
        if columns > 2:
            table.complain(key, f"{columns} columns, not 2", "write: utterance speaker, without spaces in either")
        elif value and (reason := id_fault(value)):
            table.complain(key, f"speaker {value!r} {reason}", "rename the speaker")


def _parse_numbers(table: Table | None, noun: str) -> dict[str, float]:
    """Return the positive numbers of a table; others are problems."""
    numbers = {}
    for key, value in table.rows.items() if table else ():
        number = parse_number(value)
        if number:
            numbers[key] = number
        elif value:
            table.complain(key, f"{value!r} is not a {noun}", "correct it, or delete the file")
    return numbers


def parse_number(text: str) -> float | None:
    """Return a non-negative number of reasonable size in plain or scientific notation, else None."""
    number = float(text) if re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text) else math.inf
    return number if number < TOO_MUCH else None


def _check_same_utterances(parsed: ParsedDir) -> None:
    """Report the utterances that one table has and another has not, each where it stands."""
    master = parsed.master
    for name in ("text", "utt2spk", "utt2dur", "utt2speed"):
        table = parsed.tables.get(name)
        if table is None or not table.rows:  # that the file is missing is said once, not for each utterance
            continue
        lack = "has no speaker: it is" if name == "utt2spk" else "is"
        for key in master.rows.keys() - table.rows.keys():
            master.complain(key, f"utterance {key!r} {lack} not in {name}", "add it there or remove it here")
        for key in table.rows.keys() - master.rows.keys() if master.rows else ():
            table.complain(key, f"utterance {key!r} is not in {master.path.name}", "add it there or remove it here")


def _check_spk2utt(spk2utt: Table, utt2spk: Table) -> None:
    """Report where the optional `spk2utt` does not say the same as `utt2spk`."""
    fix = "correct one of them, or delete spk2utt: it is made anew"
    listed = {}
    for speaker, utterances in spk2utt.rows.items():
        for key in utterances.split():
            listed[key] = speaker
            if key not in utt2spk.rows:
                spk2utt.complain(speaker, f"utterance {key!r} of speaker {speaker!r} is not in utt2spk", fix)
    for key, speaker in utt2spk.rows.items():
        if speaker and len(speaker.split()) == 1 and speaker not in spk2utt.rows:
            utt2spk.complain(key, f"unknown speaker {speaker!r} of {key!r}: not in spk2utt", fix)
        elif speaker in spk2utt.rows and listed.get(key) != speaker:
            utt2spk.complain(key, f"{key!r} of speaker {speaker!r} is not so in spk2utt", fix)
