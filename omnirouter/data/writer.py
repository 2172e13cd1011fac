"""Data directories too large for memory: written utterance by utterance, in the order in which these come."""

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from omnirouter.data.datadir import Utterance
from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_dir
from omnirouter.data.tables import id_fault, value_fault, write_table

TABLES = ("segments", "text", "utt2spk", "utt2dur")
DROPPED = "dropped_utts"


class DataDirWriter:
    """Writes the tables of utterances cut out of recordings; made by `stream_data_dir`.

    In memory it holds the recordings and speakers, and 20 bytes an utterance; about twice that when it finishes.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.dropped = 0
        self._path, self._folder = path, folder  # where the directory will be, and where it is written
        self._files: dict[str, IO[bytes]] = {name: open(folder / name, "wb") for name in TABLES}
        self._recordings: dict[str, str] = {}
        self._speakers: dict[str, int] = {}
        self._hashes, self._places, self._speaker_of = array("q"), array("q"), array("i")
        self._end = 0  # of utt2spk, in bytes

    def __len__(self) -> int:
        """Utterances written."""
        return len(self._hashes)

    def add(self, recording_id: str, utt: Utterance) -> None:
        """Write an utterance that has an end and no speed; `UserError` for what a table cannot hold."""
        assert utt.end_s is not None and utt.speed == 1.0, utt
        recording = str(utt.recording)
        if self._recordings.setdefault(recording_id, recording) != recording:
            raise UserError(f"{self._path}: {recording} is not the only file of recording {recording_id!r}")
        self._check(utt.utt_id, id_fault(utt.utt_id) or id_fault(utt.speaker) or value_fault(utt.text))
        self._hashes.append(hash(utt.utt_id))
        self._places.append(self._end)
        self._speaker_of.append(self._speakers.setdefault(utt.speaker, len(self._speakers)))
        self._write("segments", f"{utt.utt_id} {recording_id} {utt.start_s:.6f} {utt.end_s:.6f}")
        self._write("text", f"{utt.utt_id} {utt.text}")
        self._write("utt2dur", f"{utt.utt_id} {utt.end_s - utt.start_s:.6f}")
        self._end += self._write("utt2spk", f"{utt.utt_id} {utt.speaker}")

    def drop(self, utt_id: str, reason: str) -> None:
        """List an utterance that is left out in `dropped_utts`."""
        if DROPPED not in self._files:
            self._files[DROPPED] = open(self._folder / DROPPED, "wb")
        self.dropped += 1
        self._write(DROPPED, f"{utt_id} {reason}")

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def finish(self) -> None:
        """Write `wav.scp` and `spk2utt`; `UserError` if there is no utterance, or one occurs twice."""
        self.close()
        if not self._hashes:
            raise UserError(f"{self._path}: there is no utterance to write")
        write_table(self._folder / "wav.scp", self._recordings)
        with open(self._folder / "utt2spk", "rb") as utt2spk, open(self._folder / "spk2utt", "wb") as spk2utt:
            self._check_unique(utt2spk)
            self._write_spk2utt(utt2spk, spk2utt)

    def _write(self, name: str, line: str) -> int:
        return self._files[name].write(f"{line}\n".encode())

    def _check(self, key: str, reason: str | None) -> None:
        if reason:
            raise UserError(f"{self._path}: cannot write utterance {key!r}: id, speaker or text {reason}")

    def _check_unique(self, utt2spk: IO[bytes]) -> None:
        import numpy as np  # here, since some who import this module set its number of threads first

        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        in_order = np.sort(hashes)
        repeated = in_order[1:][in_order[1:] == in_order[:-1]]
        known: set[bytes] = set()
        for index in np.flatnonzero(np.isin(hashes, repeated)) if len(repeated) else ():
            utt_id = self._id_at(utt2spk, index)
            if utt_id in known:  # and not only a hash in common
                raise UserError(f"{self._path}: utterance {utt_id.decode()!r} occurs twice")
            known.add(utt_id)

    def _write_spk2utt(self, utt2spk: IO[bytes], spk2utt: IO[bytes]) -> None:
        import numpy as np

        speaker_of = np.frombuffer(self._speaker_of, dtype=np.int32)
        order = np.argsort(speaker_of, kind="stable")
        ends = np.cumsum(np.bincount(speaker_of))
        for speaker, number in sorted(self._speakers.items()):
            spk2utt.write(speaker.encode())
            for index in order[ends[number - 1] if number else 0 : ends[number]]:
                spk2utt.write(b" " + self._id_at(utt2spk, index))
            spk2utt.write(b"\n")

    def _id_at(self, utt2spk: IO[bytes], index: int) -> bytes:
        utt2spk.seek(self._places[index])
        return utt2spk.readline().split(b" ")[0]


@contextmanager
def stream_data_dir(path: Path) -> Iterator[DataDirWriter]:
    """Give a writer of the data directory `path`, which appears, in place of what was there, when all is written."""
    with atomic_dir(path) as folder:
        writer = DataDirWriter(path, folder)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()
