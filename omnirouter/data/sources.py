"""Where the audio of many utterances is, read from a data directory's tables, block by block."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnirouter.data.datadir import Utterance, check_tables
from omnirouter.data.errors import UserError
from omnirouter.data.parsing import Recording, parse_recording
from omnirouter.data.streams import read_blocks


@dataclass(frozen=True)
class AudioBlock:
    """Stretches of recordings, one an utterance, all (n,)."""

    recordings: np.ndarray
    """Numbers of the recordings, int64, in the order of their ids."""
    start_s: np.ndarray
    end_s: np.ndarray
    """NaN: to the end of the recording."""
    speed: np.ndarray


class AudioTables:
    """The tables that say where the utterances of a data directory are in its recordings."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.segmented = (data_dir / "segments").exists()
        self.paths = [data_dir / ("segments" if self.segmented else "wav.scp")]
        if (data_dir / "utt2speed").exists():
            self.paths.append(data_dir / "utt2speed")
        self._numbers: dict[str, int] = {}
        for keys, _ in read_blocks([data_dir / "wav.scp"]) if self.segmented else ():
            self._numbers.update(zip(keys, range(len(self._numbers), len(self._numbers) + len(keys)), strict=True))
        self._done = 0

    def parse(self, values: Sequence[Sequence[str]]) -> AudioBlock:
        """Return the next block's stretches, given its values in each of `paths`; `UserError` naming what is wrong."""
        try:
            return self._parse(values)
        except (KeyError, ValueError):
            check_tables(self._data_dir, allow_pipes=True, labelled=False)  # says which line is wrong, and how
            raise

    def _parse(self, values: Sequence[Sequence[str]]) -> AudioBlock:
        count = len(values[0])
        speed = _numbers(values[1]) if len(values) > 1 else np.ones(count)
        recordings = np.arange(self._done, self._done + count)
        start_s, end_s = np.zeros(count), np.full(count, np.nan)
        if self.segmented:
            names, starts, ends = zip(*[value.split() for value in values[0]], strict=True)
            recordings = np.fromiter((self._numbers[name] for name in names), np.int64, count)
            start_s, end_s = _numbers(starts), _numbers(ends)
            end_s[end_s == -1] = np.nan
        self._done += count
        if not (start_s >= 0).all() or (start_s >= end_s).any() or not (speed > 0).all():
            raise ValueError("times or speeds that cannot be")
        return AudioBlock(recordings, start_s, end_s, speed)


def utterance_ids(data_dir: Path) -> Iterator[list[str]]:
    """Yield the ids of a data directory's utterances, in order, in blocks."""
    for keys, _ in read_blocks(AudioTables(data_dir).paths):
        yield keys


def stream_audio(data_dir: Path, part: range, allow_pipes: bool = False) -> Iterator[Utterance]:
    """Yield those utterances, counted from 0 in order of id, that are in `part`, without words and speakers.

    In memory are the recordings of segments, and a block of utterances.
    """
    tables, done, entries = AudioTables(data_dir), 0, []
    if tables.segmented:
        entries = [value for _, (values,) in read_blocks([data_dir / "wav.scp"]) for value in values]
    for keys, values in read_blocks(tables.paths):
        block = tables.parse(values)
        for i in range(max(0, part.start - done), min(len(keys), part.stop - done)):
            entry = entries[block.recordings[i]] if tables.segmented else values[0][i]
            yield _utterance(keys[i], _recording(keys[i], entry, allow_pipes), block, i)
        done += len(keys)
        if done >= part.stop:
            return


def _recording(utt_id: str, entry: str, allow_pipes: bool) -> Recording:
    try:
        return parse_recording(entry, allow_pipes)
    except ValueError as error:
        raise UserError(f"utterance {utt_id}: its entry in wav.scp {'; '.join(error.args)}") from error


def _utterance(utt_id: str, recording: Recording, block: AudioBlock, i: int) -> Utterance:
    end_s = None if np.isnan(block.end_s[i]) else float(block.end_s[i])
    return Utterance(utt_id, recording, "", "", float(block.start_s[i]), end_s, speed=float(block.speed[i]))


def _numbers(texts: Sequence[str]) -> np.ndarray:
    numbers = np.fromiter(map(float, texts), np.float64, len(texts))
    if not np.isfinite(numbers).all():
        raise ValueError("not a finite number")
    return numbers
