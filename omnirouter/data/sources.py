"""Where the audio of many utterances is, read from a data directory's tables as arrays, block by block."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnirouter.data.datadir import read_data_dir
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
        self._segmented = (data_dir / "segments").exists()
        self.paths = [data_dir / ("segments" if self._segmented else "wav.scp")]
        if (data_dir / "utt2speed").exists():
            self.paths.append(data_dir / "utt2speed")
        self._numbers: dict[str, int] = {}
        for keys, _ in read_blocks([data_dir / "wav.scp"]) if self._segmented else ():
            self._numbers.update(zip(keys, range(len(self._numbers), len(self._numbers) + len(keys)), strict=True))
        self._done = 0

    def parse(self, values: Sequence[Sequence[str]]) -> AudioBlock:
        """Return the next block's stretches, given its values in each of `paths`; `UserError` naming what is wrong."""
        try:
            return self._parse(values)
        except (KeyError, ValueError):
            read_data_dir(self._data_dir, allow_pipes=True, labelled=False)  # says which line is wrong, and how
            raise

    def _parse(self, values: Sequence[Sequence[str]]) -> AudioBlock:
        count = len(values[0])
        speed = _numbers(values[1]) if len(values) > 1 else np.ones(count)
        recordings = np.arange(self._done, self._done + count)
        start_s, end_s = np.zeros(count), np.full(count, np.nan)
        if self._segmented:
            names, starts, ends = zip(*[value.split() for value in values[0]], strict=True)
            recordings = np.fromiter((self._numbers[name] for name in names), np.int64, count)
            start_s, end_s = _numbers(starts), _numbers(ends)
            end_s[end_s == -1] = np.nan
        self._done += count
        if not (start_s >= 0).all() or (start_s >= end_s).any() or not (speed > 0).all():
            raise ValueError("times or speeds that cannot be")
        return AudioBlock(recordings, start_s, end_s, speed)


def _numbers(texts: Sequence[str]) -> np.ndarray:
    numbers = np.fromiter(map(float, texts), np.float64, len(texts))
    if not np.isfinite(numbers).all():
        raise ValueError("not a finite number")
    return numbers
