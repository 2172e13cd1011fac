"""Parsing a data directory: its tables are read and held against each other, and every problem is collected."""

import math
import re
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from omnirouter.data.tables import Problem, Table, id_fault, parse_table

LABELS = ("text", "utt2spk")
OPTIONAL_TABLES = ("segments", "spk2utt", "utt2dur", "utt2speed")
TOO_MUCH = 1e9  # seconds: thirty years
CURRENT = Path()  # the current directory, without naming it
T = TypeVar("T")


@dataclass(frozen=True)
class Pipe:
    """A shell command that writes audio to its standard output; made from `wav.scp` with `allow_pipes` only."""

    command: str

    def __str__(self) -> str:
        return f"{self.command} |"


Recording = Path | Pipe
Span = tuple[str, float, float | None]  # recording id, start_s, end_s


@dataclass
class Keep:
    """Hashes of the ids whose lines are read where the other lines of a data directory are passed over."""

    utterances: set[int] = field(default_factory=set)
    recordings: set[int] = field(default_factory=set)
    speakers: set[int] = field(default_factory=set)

    def of(self, table: str) -> set[int]:
        """Those of the ids of a table."""
        return {"wav.scp": self.recordings, "spk2utt": self.speakers}.get(table, self.utterances)


@dataclass
class Repeats:
    """What the lines say whose ids have occurred before: line number, id, and its recording, times or seconds."""

    recordings: list[tuple[int, str, Recording]] = field(default_factory=list)
    segments: list[tuple[int, str, Span]] = field(default_factory=list)
    durations_s: list[tuple[int, str, float]] = field(default_factory=list)


@dataclass
class ParsedDir:
    """What a data directory says, with its problems; entries with a problem may lack in the typed fields."""

    path: Path
    tables: dict[str, Table]
    recordings: dict[str, Recording] = field(default_factory=dict)
    segments: dict[str, Span] = field(default_factory=dict)
    durations_s: dict[str, float] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    repeats: Repeats = field(default_factory=Repeats)

    @property
    def problems(self) -> list[Problem]:
        """All problems, by file and line."""
        return sorted(problem for table in self.tables.values() for problem in table.problems)

    @property
    def master(self) -> Table:
        """The table that says which utterances there are."""
        return self.tables.get("segments", self.tables["wav.scp"])


def parse_data_dir(
    path: Path | str,
    allow_pipes: bool = False,
    base: Path = CURRENT,
    labelled: bool = True,
    keep: Keep | None = None,
) -> ParsedDir:
    """Read all tables of a data directory and hold them against each other; never raises, never runs anything.

    keep: which lines to read, in a directory too large for all; the problems are those of these lines.
    """
    path = Path(path)
    kept = {name: keep.of(name) if keep else None for name in table_names(path, labelled)}
    parsed = ParsedDir(path, {name: parse_table(path / name, keep=ids) for name, ids in kept.items()})
    _parse_wav_scp(parsed, allow_pipes, base)
    if "segments" in parsed.tables:
        _parse_segments(parsed)
    if "utt2spk" in parsed.tables:
        _parse_utt2spk(parsed.tables["utt2spk"])
    if "utt2dur" in parsed.tables:
        durations_s = _parse_numbers(parsed.tables["utt2dur"], "duration in seconds")
        parsed.durations_s, parsed.repeats.durations_s = durations_s
    if "utt2speed" in parsed.tables:
        parsed.speeds, _ = _parse_numbers(parsed.tables["utt2speed"], "speed factor")
    _check_same_utterances(parsed)
    if "spk2utt" in parsed.tables and "utt2spk" in parsed.tables:
        _check_spk2utt(parsed.tables["spk2utt"], parsed.tables["utt2spk"], kept["utt2spk"])
    return parsed


def table_names(path: Path, labelled: bool) -> list[str]:
    """Name the tables that a data directory must have, and those it has."""
    required, optional = ("wav.scp", *LABELS), OPTIONAL_TABLES
    if not labelled:
        required, optional = ("wav.scp",), (*LABELS, *OPTIONAL_TABLES)
    return [*required, *(name for name in optional if (path / name).exists())]


def _parse_wav_scp(parsed: ParsedDir, allow_pipes: bool, base: Path) -> None:
    table = parsed.tables["wav.scp"]
    for line, key, value in table.every_line():
        if value:  # else reported by the parser
            try:
                recording = parse_recording(value, allow_pipes, base)
            except ValueError as error:
                what, fix = error.args
                table.complain(line, f"{key!r} {what}", fix)
            else:
                _keep(table, parsed.recordings, parsed.repeats.recordings, line, key, recording)


def _keep(table: Table, first: dict[str, T], others: list[tuple[int, str, T]], line: int, key: str, what: T) -> None:
    """Note what a line says where the first lines of ids go, or where the others go."""
    if line == table.lines[key]:
        first[key] = what
    else:
        others.append((line, key, what))


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
    for line, key, value in table.every_line():
        fields = value.split()
        if not fields:
            continue  # reported by the parser
        if len(fields) != 3:
            table.complain(line, f"{len(fields) + 1} columns, not 4", "write: utterance recording start_s end_s")
            continue
        start_s, end_s = parse_number(fields[1]), None if fields[2] == "-1" else parse_number(fields[2])
        if start_s is None or (end_s is None and fields[2] != "-1"):
            table.complain(line, f"{fields[1]!r} {fields[2]!r} is not a time span", "give seconds, end -1 for the end")
        elif end_s is not None and start_s >= end_s:
            table.complain(line, f"start {start_s:g} s is not before end {end_s:g} s", "correct the times")
        elif fields[0] not in wav_scp.rows:
            table.complain(line, f"unknown recording {fields[0]!r}", "add it to wav.scp or remove this line")
        else:
            _keep(table, parsed.segments, parsed.repeats.segments, line, key, (fields[0], start_s, end_s))


def _parse_utt2spk(table: Table) -> None:
    for line, _, value in table.every_line():
        columns = 1 + len(value.split())
        if columns > 2:
            table.complain(line, f"{columns} columns, not 2", "write: utterance speaker, without spaces in either")
        elif value and (reason := id_fault(value)):
            table.complain(line, f"speaker {value!r} {reason}", "rename the speaker")


def _parse_numbers(table: Table, noun: str) -> tuple[dict[str, float], list[tuple[int, str, float]]]:
    """Return the positive numbers of a table, of first lines and of others; what is none is a problem."""
    numbers: dict[str, float] = {}
    others: list[tuple[int, str, float]] = []
    for line, key, value in table.every_line():
        number = parse_number(value)
        if number:
            _keep(table, numbers, others, line, key, number)
        elif value:
            table.complain(line, f"{value!r} is not a {noun}", "correct it, or delete the file")
    return numbers, others


def parse_number(text: str) -> float | None:
    """Return a non-negative number of reasonable size in plain or scientific notation, else None."""
    number = float(text) if re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text) else math.inf
    return number if number < TOO_MUCH else None


def _check_same_utterances(parsed: ParsedDir) -> None:
    """Report the utterances that one table has and another has not, each where it stands."""
    master = parsed.master
    for name in ("text", "utt2spk", "utt2dur", "utt2speed"):
        table = parsed.tables.get(name)
        if table is None or not table.entries:  # that the file is missing is said once, not for each utterance
            continue
        lack = "has no speaker: it is" if name == "utt2spk" else "is"
        for key in master.rows.keys() - table.rows.keys():
            master.complain(key, f"utterance {key!r} {lack} not in {name}", "add it there or remove it here")
        for key in table.rows.keys() - master.rows.keys() if master.entries else ():
            table.complain(key, f"utterance {key!r} is not in {master.path.name}", "add it there or remove it here")


def _check_spk2utt(spk2utt: Table, utt2spk: Table, keep: Container[int] | None) -> None:
    """Report where the optional `spk2utt` does not say the same as `utt2spk`."""
    fix = "correct one of them, or delete spk2utt: it is made anew"
    listed = {}
    for line, speaker, utterances in spk2utt.every_line():
        for key in utterances.split():
            if keep is not None and hash(key) not in keep:
                continue
            listed[key] = speaker
            if key not in utt2spk.rows:
                spk2utt.complain(line, f"utterance {key!r} of speaker {speaker!r} is not in utt2spk", fix)
    for line, key, speaker in utt2spk.every_line():
        if speaker and len(speaker.split()) == 1 and speaker not in spk2utt.rows:
            utt2spk.complain(line, f"unknown speaker {speaker!r} of {key!r}: not in spk2utt", fix)
        elif speaker in spk2utt.rows and listed.get(key) != speaker:
            utt2spk.complain(line, f"{key!r} of speaker {speaker!r} is not so in spk2utt", fix)
