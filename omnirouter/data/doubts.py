"""A first look at a data directory of any size: which of its lines an exact look must be taken at.

Of each line some numbers are kept, in arrays: ids become 64-bit hashes (Python's), among which repeated ones show, and
those that one table has and another has not. `parse_data_dir` then reads the doubtful lines alone, and says what is
wrong with each. That two ids of eleven million have the same hash has a probability of 3e-6 (n² / 2⁶⁵).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from omnirouter.data.parsing import CURRENT, Keep, parse_number, parse_recording, table_names
from omnirouter.data.streams import read_rows
from omnirouter.data.tables import id_fault

BAD = -1  # instead of a hash, which never is
SPAN = np.dtype([("recording", np.int64), ("start_s", np.float64), ("end_s", np.float64)])
SPEAKERS_TOGETHER = 64  # lines of spk2utt, which are long
PAIRING = np.int64(0x1E3779B97F4A7C15)  # odd, as any number that spreads one hash before another is added


class FirstLook:
    """What is kept of the tables of a data directory, (n,) in the order of lines; and which lines are doubtful."""

    def __init__(self, path: Path, allow_pipes: bool, base: Path, labelled: bool = True) -> None:
        self.path, self.doubts = path, Keep()
        self._names = table_names(path, labelled)
        self.recording_ids, self.recordings = self._read("wav.scp", partial(_recordings, allow_pipes, base))
        """Hashes of the ids in wav.scp, and of what they name or `BAD`; int64."""
        self._doubt("wav.scp", self.recording_ids[self.recordings == BAD])
        self.spans = self._read_spans()
        """Recording and times of each utterance, `SPAN`; the end is infinite where it is the recording's."""
        self.durations_s, self.speeds = self._read_numbers("utt2dur"), self._read_numbers("utt2speed")
        """Of each utterance, NaN where none is stated; float64."""
        if "text" in self._names:
            self._compare(self._read("text")[0])
        self._speaker_pairs = self._read_speakers() if "utt2spk" in self._names else []
        if {"utt2spk", "spk2utt"} <= set(self._names):
            self._compare_speakers()

    @property
    def utterances(self) -> int:
        """How many there are."""
        return len(np.unique(self.ids))

    @property
    def speakers(self) -> int:
        """How many there are in utt2spk."""
        return len(np.unique(self._speaker_pairs[0][1]))

    def doubt(self, rows: np.ndarray) -> None:
        """Take an exact look at the utterances that are true in a mask (n,)."""
        self.doubts.utterances.update(self.ids[rows].tolist())

    def doubt_recordings(self, rows: np.ndarray) -> None:
        """Take an exact look at the lines of wav.scp that are true in a mask."""
        self._doubt("wav.scp", self.recording_ids[rows])

    def kept(self) -> Keep | None:
        """Return which lines an exact look needs: of doubtful utterances, those in all tables; None: all is well."""
        doubts = self.doubts
        if not (doubts.utterances or doubts.recordings or doubts.speakers):
            return None
        if "segments" not in self._names:
            doubts.recordings = doubts.utterances = doubts.utterances | doubts.recordings
        chosen = np.fromiter(doubts.utterances, np.int64)
        doubts.recordings |= set(self.spans["recording"][np.isin(self.ids, chosen)].tolist())
        for utterances, speakers in self._speaker_pairs:
            doubts.speakers |= set(speakers[np.isin(utterances, chosen)].tolist())
        return doubts

    def _doubt(self, table: str, ids: Sequence[int] | np.ndarray) -> None:
        self.doubts.of(table).update(ids if isinstance(ids, list) else ids.tolist())

    def _read(self, name: str, *columns: Callable[[list[str]], np.ndarray], block_lines: int = 0) -> list[np.ndarray]:
        """Return hashes of a table's ids and, for each function of values, what it gives."""
        blocks = []
        for keys, values, odd in read_rows(self.path / name, block_lines):
            self._doubt(name, [hash(key) for key in odd])
            blocks.append([_hashes(keys), *(column(values) for column in columns)])
        ids, *others = map(np.concatenate, zip(*blocks, strict=True))
        self._doubt(name, _repeated(ids))
        return [ids, *others]

    def _read_spans(self) -> np.ndarray:
        if "segments" not in self._names:
            self.ids = self.recording_ids
            spans = np.zeros(len(self.ids), SPAN)
            spans["recording"], spans["end_s"] = self.ids, np.inf
            return spans
        self.ids, spans = self._read("segments", _spans)
        self.doubt(~np.isin(spans["recording"], self.recording_ids))  # `BAD` among them
        return spans

    def _read_numbers(self, name: str) -> np.ndarray:
        if name not in self._names:
            return np.full(len(self.ids), np.nan)
        ids, numbers = self._read(name, _numbers)
        self._doubt(name, ids[np.isnan(numbers)])
        self._compare(ids)
        return _aligned(self.ids, ids, numbers)

    def _read_speakers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return hashes of utterances and of their speakers by utt2spk."""
        ids, speakers, good = self._read("utt2spk", _hashes, _good_speakers)
        self._doubt("utt2spk", ids[~good])
        self._compare(ids)
        return [(self.ids if np.array_equal(ids, self.ids) else ids, speakers)]

    def _compare(self, ids: np.ndarray) -> None:
        """Doubt the utterances that this directory or a table with these ids has alone; nothing if one is empty."""
        if len(ids) and len(self.ids) and not np.array_equal(ids, self.ids):
            self.doubts.utterances.update(np.setxor1d(ids, self.ids).tolist())

    def _compare_speakers(self) -> None:
        """Doubt the utterances of which utt2spk and spk2utt do not name the same speaker."""
        members: list[np.ndarray] = []

        def count(values: list[str]) -> np.ndarray:
            listed = [value.split() for value in values]
            members.extend(map(_hashes, listed))
            return np.fromiter(map(len, listed), np.int64, len(listed))

        speakers, counts = self._read("spk2utt", count, block_lines=SPEAKERS_TOGETHER)
        pairs = np.concatenate([np.zeros(0, np.int64), *members]), np.repeat(speakers, counts)
        members.clear()
        (mine,) = self._speaker_pairs
        self._speaker_pairs.append(pairs)
        odd = np.setxor1d(_pairing(*mine), _pairing(*pairs))
        for utterances, named in self._speaker_pairs if len(odd) else ():
            self.doubts.utterances.update(utterances[np.isin(_pairing(utterances, named), odd)].tolist())
        twice = np.array(_repeated(speakers), np.int64)
        self.doubts.utterances.update(pairs[0][np.isin(pairs[1], twice)].tolist())


def _hashes(texts: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(hash, texts), np.int64, len(texts))


def _repeated(ids: np.ndarray) -> list[int]:
    ordered = np.sort(ids)
    return ordered[1:][ordered[1:] == ordered[:-1]].tolist()


def _pairing(utterances: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    return utterances * PAIRING + speakers  # modulo 2⁶⁴


def _aligned(ids: np.ndarray, others: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the numbers that go with other ids in the order of `ids`, the first for each; NaN where there is none."""
    if np.array_equal(ids, others):
        return numbers
    if not len(others):
        return np.full(len(ids), np.nan)
    order = np.argsort(others, kind="stable")
    places = order[np.searchsorted(others, ids, sorter=order).clip(max=len(others) - 1)]
    return np.where(others[places] == ids, numbers[places], np.nan)


def _recordings(allow_pipes: bool, base: Path, values: list[str]) -> np.ndarray:
    return np.fromiter((recording_hash(value, allow_pipes, base) for value in values), np.int64, len(values))


def recording_hash(value: str, allow_pipes: bool, base: Path = CURRENT) -> int:
    """Return the hash of what an entry of wav.scp names; `BAD` if it names nothing."""
    try:
        return hash(parse_recording(value, allow_pipes, base)) if value else BAD
    except ValueError:
        return BAD


def _spans(values: list[str]) -> np.ndarray:
    return np.array([_span(value) for value in values], SPAN)


def _span(value: str) -> tuple[int, float, float]:
    bad = BAD, 0.0, 0.0
    fields = value.split()
    if len(fields) != 3:
        return bad
    start_s, end_s = parse_number(fields[1]), math.inf if fields[2] == "-1" else parse_number(fields[2])
    if start_s is None or end_s is None or start_s >= end_s:
        return bad
    return hash(fields[0]), start_s, end_s


def _numbers(values: list[str]) -> np.ndarray:
    return np.fromiter((parse_number(value) or math.nan for value in values), np.float64, len(values))


def _good_speakers(values: list[str]) -> np.ndarray:
    good = {value: len(value.split()) == 1 and not id_fault(value) for value in set(values)}
    return np.fromiter((good[value] for value in values), bool, len(values))
