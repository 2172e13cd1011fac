"""Data directories too large for memory: utterances are taken one by one, in any order, and sorted on disk."""

import heapq
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from omnirouter.data.datadir import Utterance
from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_dir
from omnirouter.data.tables import id_fault, value_fault, write_table

TABLES = ("segments", "text", "utt2spk", "utt2dur")
DROPPED = "dropped_utts"
RUN_BYTES = 1 << 26  # of lines held in memory while they are sorted


class SortedLines:
    """Lines of bytes, each with its line end, that come out in order; only `RUN_BYTES` of them are in memory."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        self._folder, self._files = folder, files
        self._runs: list[IO[bytes]] = []
        self._lines: list[bytes] = []
        self._bytes = 0

    def add(self, line: bytes) -> None:
        """Take a line."""
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= RUN_BYTES:
            run = self._files.enter_context(TemporaryFile(dir=self._folder))
            run.writelines(sorted(self._lines))
            self._runs.append(run)
            self._lines, self._bytes = [], 0

    def __iter__(self) -> Iterator[bytes]:
        for run in self._runs:
            run.seek(0)
        return heapq.merge(*self._runs, sorted(self._lines))


class DataDirWriter:
    """Writes the tables of utterances cut out of recordings; made by `stream_data_dir`.

    The memory it takes does not grow with the utterances, only with the recordings.
    """

    def __init__(self, path: Path, folder: Path, files: ExitStack) -> None:
        self.written = self.dropped = 0
        self._path, self._folder, self._files = path, folder, files  # the directory as it will be, and as it grows
        self._rows, self._speakers = SortedLines(folder, files), SortedLines(folder, files)
        self._recordings: dict[str, str] = {}
        self._dropped: IO[bytes] | None = None

    def add(self, recording_id: str, utt: Utterance) -> None:
        """Take an utterance that has an end and no speed; `UserError` for what a table cannot hold."""
        assert utt.end_s is not None and utt.speed == 1.0, utt
        if reason := id_fault(utt.utt_id) or id_fault(utt.speaker) or value_fault(utt.text):
            raise UserError(f"{self._path}: cannot write utterance {utt.utt_id!r}: id, speaker or text {reason}")
        recording = str(utt.recording)
        if self._recordings.setdefault(recording_id, recording) != recording:
            raise UserError(f"{self._path}: {recording} is not the only file of recording {recording_id!r}")
        segment, duration_s = f"{recording_id} {utt.start_s:.6f} {utt.end_s:.6f}", utt.end_s - utt.start_s
        row = f"{utt.utt_id}\t{segment}\t{duration_s:.6f}\t{utt.speaker}\t{utt.text}\n"
        self._rows.add(row.encode())  # a tab comes before all that an id may hold: lines and ids have one order
        self.written += 1

    def drop(self, utt_id: str, reason: str) -> None:
        """List an utterance that is left out in `dropped_utts`."""
        if self._dropped is None:
            self._dropped = self._files.enter_context(open(self._folder / DROPPED, "wb"))
        self._dropped.write(f"{utt_id} {reason}\n".encode())
        self.dropped += 1

    def finish(self) -> None:
        """Write the tables; `UserError` if there is no utterance, or one occurs twice."""
        if not self.written:
            raise UserError(f"{self._path}: there is no utterance to write")
        write_table(self._folder / "wav.scp", self._recordings)
        self._write_tables()
        with open(self._folder / "spk2utt", "wb") as spk2utt:
            pairs = (line.rstrip(b"\n").split(b"\t") for line in self._speakers)
            for speaker, members in groupby(pairs, key=lambda pair: pair[0]):
                spk2utt.write(speaker)
                spk2utt.writelines(b" " + utt_id for _, utt_id in members)
                spk2utt.write(b"\n")

    def _write_tables(self) -> None:
        last = b""
        with ExitStack() as files:
            segments, text, utt2spk, utt2dur = (files.enter_context(open(self._folder / name, "wb")) for name in TABLES)
            for row in self._rows:
                utt_id, segment, duration_s, speaker, words = row.split(b"\t", 4)
                if utt_id == last:
                    raise UserError(f"{self._path}: utterance {utt_id.decode()!r} occurs twice")
                last = utt_id
                segments.write(b"%b %b\n" % (utt_id, segment))
                text.write(b"%b %b" % (utt_id, words))
                utt2spk.write(b"%b %b\n" % (utt_id, speaker))
                utt2dur.write(b"%b %b\n" % (utt_id, duration_s))
                self._speakers.add(b"%b\t%b\n" % (speaker, utt_id))


@contextmanager
def stream_data_dir(path: Path) -> Iterator[DataDirWriter]:
    """Give a writer of the data directory `path`, which appears, in place of what was there, when all is written."""
    with atomic_dir(path) as folder, ExitStack() as files:
        writer = DataDirWriter(path, folder, files)
        yield writer
        writer.finish()
