"""The index of a training set: all that training needs of its tables, in files that processes map and share."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from omnirouter.data.building import build
from omnirouter.data.datadir import Utterance
from omnirouter.data.errors import UserError
from omnirouter.data.features import Place
from omnirouter.data.files import alone, atomic_dir
from omnirouter.data.parsing import parse_recording
from omnirouter.data.tokenizer import Tokenizer

VERSION = 2
SOURCES = ("text", "utt2num_frames", "feats.scp", "wav.scp", "segments", "utt2speed")
STATE = ".state.json"


class Index:
    """N utterances in order of id. The arrays are maps of files, of which only what is used takes memory, shared."""

    def __init__(self, folder: Path, allow_pipes: bool = False) -> None:
        self.folder, self._allow_pipes = folder, allow_pipes
        files = json.loads((folder / "files.json").read_text())
        self._maps = {name: _map(folder / name, np.dtype(kind)) for name, kind in files.items()}
        self.frames = self._maps["frames"]
        """Feature frames of each utterance, int32 (N,)."""
        self.least_tokens = self._maps["least_tokens"]
        """Encoder frames that CTC needs at least: one a label, and a blank between equal ones; int32 (N,)."""
        self.unknown = self._maps["unknown"]
        """Labels of each utterance that say that there is no unit for it, int32 (N,)."""

    def __len__(self) -> int:
        return len(self.frames)

    def __reduce__(self) -> tuple[Any, ...]:
        return Index, (self.folder, self._allow_pipes)  # another process maps the files itself

    def utt_id(self, row: int) -> str:
        """Id of an utterance."""
        return self._text("ids", row)

    def labels(self, row: int) -> list[int]:
        """Labels of an utterance, without blanks."""
        return self._part("labels", row).tolist()

    def label_count(self, row: int) -> int:
        """Number of labels of an utterance."""
        return len(self._part("labels", row))

    @property
    def label_total(self) -> int:
        """Number of labels of all utterances."""
        return len(self._maps["labels"])

    def place(self, row: int) -> Place:
        """Where the features of an utterance are."""
        maps = self._maps
        if self.is_stored:
            return f"{self._text('archives', int(maps['archive'][row]))}:{maps['offset'][row]}"
        utt_id, end_s = self.utt_id(row), float(maps["end_s"][row])
        try:
            recording = parse_recording(self._text("recordings", int(maps["recording"][row])), self._allow_pipes)
        except ValueError as error:
            raise UserError(f"utterance {utt_id}: its entry in wav.scp {'; '.join(error.args)}") from error
        return Utterance(
            utt_id=utt_id,
            recording=recording,
            text="",
            speaker="",
            start_s=float(maps["start_s"][row]),
            end_s=None if np.isnan(end_s) else end_s,
            speed=float(maps["speed"][row]),
        )

    @property
    def is_stored(self) -> bool:
        """Whether features are stored, not computed from audio."""
        return "archive" in self._maps

    def _part(self, name: str, row: int) -> np.ndarray:
        ends = self._maps[f"{name}_end"]
        return self._maps[name][ends[row - 1] if row else 0 : ends[row]]

    def _text(self, name: str, row: int) -> str:
        return self._part(name, row).tobytes().decode()


def open_index(
    data_dir: Path,
    lang_dir: Path,
    allow_pipes: bool = False,
    complete: Callable[[Index], None] | None = None,
) -> Index:
    """Open the index of a data directory with the labels of a tokenizer; built first if there is none, or an old one.

    `complete` may add files to the folder of an index that has been built, before it takes its place. Of several
    processes that want it one builds, the others wait. `UserError` for what is missing or wrong in a table.
    """
    for name, maker in (("utt2num_frames", "stage 2"), ("text", "stage 1")):
        if not (data_dir / name).exists():
            raise UserError(f"{data_dir / name} does not exist; {maker} makes it")
    folder = data_dir / f"index_{_digest(lang_dir)}"
    try:
        _bring_up_to_date(folder, data_dir, lang_dir, lambda new: complete and complete(Index(new, allow_pipes)))
    except OSError as error:
        raise UserError(
            f"{folder}: the index of the training set cannot be made there ({error.strerror}); training needs a data "
            "directory that can be written to, such as a copy of its tables"
        ) from error
    return Index(folder, allow_pipes)


def _bring_up_to_date(folder: Path, data_dir: Path, lang_dir: Path, complete: Callable[[Path], None]) -> None:
    if _is_current(folder, data_dir):
        return
    with alone(data_dir / ".index.lock"):
        if not _is_current(folder, data_dir):
            with atomic_dir(folder) as temporary:
                state = _state(data_dir)
                files = build(temporary, data_dir, Tokenizer(lang_dir))
                (temporary / "files.json").write_text(json.dumps(files, indent=1) + "\n")
                complete(temporary)
                (temporary / STATE).write_text(json.dumps(state))


def _digest(lang_dir: Path) -> str:
    contents = (path.read_bytes() for path in (lang_dir / "tokens.txt", lang_dir / "bpe.model") if path.exists())
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def _state(data_dir: Path) -> dict[str, Any]:
    """Return what changes with the tables: their sizes and times."""
    state: dict[str, Any] = {"version": VERSION}
    for name in SOURCES:
        path = data_dir / name
        state[name] = [path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else None
    return state


def _is_current(folder: Path, data_dir: Path) -> bool:
    try:
        return json.loads((folder / STATE).read_text()) == _state(data_dir)
    except (OSError, ValueError):
        return False


def _map(path: Path, kind: np.dtype) -> np.ndarray:
    if os.path.getsize(path) == 0:  # nothing to map
        return np.zeros(0, kind)
    return np.memmap(path, kind, "r").view(np.ndarray)
