"""Building the index of a training set: one pass through its tables, in blocks, into files of plain numbers."""

import itertools
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from omnirouter.data.errors import UserError
from omnirouter.data.jobs import available_cores
from omnirouter.data.sources import AudioTables
from omnirouter.data.streams import read_blocks
from omnirouter.data.tokenizer import Tokenizer


class Writer:
    """Appends numbers to files of one type each; of byte strings and other parts, also where each ends."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._files = {}
        self._ends: dict[str, int] = {}
        self.types: dict[str, str] = {}

    def add(self, name: str, numbers: np.ndarray) -> None:
        """Append numbers, whose type is that of the first ones."""
        if name not in self._files:
            self._files[name] = self._stack.enter_context(open(self._folder / name, "wb"))
            self.types[name] = numbers.dtype.str
        assert numbers.dtype.str == self.types[name]
        self._files[name].write(numbers.tobytes())

    def add_parts(self, name: str, numbers: np.ndarray, lengths: Iterable[int]) -> None:
        """Append the numbers of several parts, and in the file NAME_end, counted from the first ever, their ends."""
        ends = np.cumsum(np.fromiter(lengths, np.int64)) + self._ends.get(name, 0)
        self.add(name, numbers)
        self.add(f"{name}_end", ends)
        self._ends[name] = int(ends[-1]) if len(ends) else self._ends.get(name, 0)

    def add_texts(self, name: str, texts: Sequence[str]) -> None:
        """Append texts as parts of bytes."""
        encoded = [text.encode() for text in texts]
        self.add_parts(name, np.frombuffer(b"".join(encoded), np.uint8), map(len, encoded))


def build(folder: Path, data_dir: Path, tokenizer: Tokenizer) -> dict[str, str]:
    """Write the index of a data directory into a folder; returns the files' names and the types of their numbers.

    Its speed is the tokenizer's, which uses all cores: for BPE about 25 000 utterances a second and core.
    """
    with ExitStack() as stack:
        writer = Writer(folder, stack)
        places = _Stored(data_dir, writer) if (data_dir / "feats.scp").exists() else _Audio(data_dir, writer)
        label_type = np.min_scalar_type(len(tokenizer.tokens) - 1)
        bar = stack.enter_context(tqdm(desc=f"index {data_dir}", unit="utt", file=sys.stderr, disable=None))
        tables = [data_dir / "text", data_dir / "utt2num_frames", *places.paths]
        for keys, (texts, frames, *others) in read_blocks(tables):
            writer.add_texts("ids", keys)
            writer.add("frames", _counts(data_dir, keys, frames))
            _add_labels(writer, tokenizer.encode_all(texts, available_cores()), label_type, tokenizer.unknown)
            places.add(others)
            bar.update(len(keys))
        places.finish()
        return writer.types


def _counts(data_dir: Path, keys: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    for key, text in zip(keys, texts, strict=True):
        if not (text.isascii() and text.isdigit()):
            raise UserError(f"{data_dir / 'utt2num_frames'}: {key!r} has {text!r} frames; run stage 2 again")
    return np.fromiter(map(int, texts), np.int32, len(texts))


def _add_labels(writer: Writer, labels: Sequence[Sequence[int]], kind: np.dtype, unknown: int) -> None:
    lengths = np.fromiter(map(len, labels), np.int64, len(labels))
    joined = np.fromiter(itertools.chain.from_iterable(labels), kind, int(lengths.sum()))
    writer.add_parts("labels", joined, lengths)
    writer.add("least_tokens", (lengths + repeats(joined, lengths)).astype(np.int32))
    writer.add("unknown", marked(joined == unknown, lengths))


def repeats(joined: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Count, in each of several sequences (n,) that are joined, the labels that equal the one before; int32 (n,)."""
    equal = np.zeros(len(joined) + 1, np.int64)
    equal[1:-1] = joined[1:] == joined[:-1]
    ends = np.cumsum(lengths)
    equal[ends] = 0  # what follows the end of a sequence begins another
    return marked(equal[:-1], lengths)


def marked(marks: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Count the marks in each of several sequences (n,) that are joined; int32 (n,)."""
    before, ends = np.concatenate(([0], np.cumsum(marks))), np.cumsum(lengths)
    return (before[ends] - before[ends - lengths]).astype(np.int32)


class _Stored:
    """Where stored features are: the number of an archive, and an offset."""

    def __init__(self, data_dir: Path, writer: Writer) -> None:
        self.paths = [data_dir / "feats.scp"]
        self._writer = writer
        self._archives: dict[str, int] = {}

    def add(self, values: Sequence[Sequence[str]]) -> None:
        """Write a block, given its values in each of `paths`."""
        names, _, offsets = zip(*[value.rpartition(":") for value in values[0]], strict=True)
        for name, offset, value in zip(names, offsets, values[0], strict=True):
            if not (name and offset.isascii() and offset.isdigit()):
                raise UserError(f"{self.paths[0]}: {value!r} is no file:offset; run stage 2 again")
        numbers = (self._archives.setdefault(name, len(self._archives)) for name in names)
        self._writer.add("archive", np.fromiter(numbers, np.int32, len(names)))
        self._writer.add("offset", np.fromiter(map(int, offsets), np.int64, len(offsets)))

    def finish(self) -> None:
        """Write the archives' names."""
        self._writer.add_texts("archives", list(self._archives))


class _Audio:
    """Where audio is: the number of a recording, times and speed."""

    def __init__(self, data_dir: Path, writer: Writer) -> None:
        self._tables, self._wav_scp, self._writer = AudioTables(data_dir), data_dir / "wav.scp", writer
        self.paths = self._tables.paths

    def add(self, values: Sequence[Sequence[str]]) -> None:
        """Write a block, given its values in each of `paths`."""
        block = self._tables.parse(values)
        self._writer.add("recording", block.recordings.astype(np.int32))
        for name in ("start_s", "end_s", "speed"):
            self._writer.add(name, getattr(block, name))

    def finish(self) -> None:
        """Write the recordings' entries in wav.scp."""
        for _, (values,) in read_blocks([self._wav_scp]):
            self._writer.add_texts("recordings", values)
