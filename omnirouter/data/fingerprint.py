"""States of files and directories, by which a later run tells whether they have changed: sizes and times."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

LISTED_LEVELS = 2
"""Of a directory, whose files are listed one by one, so that a change can be named; what lies deeper has a digest."""
AUDIO_SUFFIXES = {".aiff", ".au", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".raw", ".sph", ".wav"}
"""Such files do not count in a digest: there may be millions. Those of a data set count by its wav.scp."""


def states(paths: Iterable[str], tables: Iterable[str] = ()) -> dict[str, Any]:
    """Return the states of files and directories by path, and those of the audio files in tables such as wav.scp.

    A file's is [size, mtime], a directory's those of its visible files; None for what does not exist.
    """
    audio = {f"audio of {table}": _audio_state(table) for table in tables}
    return {**{path: _state(path, LISTED_LEVELS) for path in paths}, **audio}


def _audio_state(table: str) -> str | None:
    """Return a digest of name, size and mtime of every file in a table such as wav.scp; None if there is no table."""
    digest = hashlib.sha256()
    try:
        lines = Path(table).read_bytes().splitlines()
    except FileNotFoundError:
        return None
    for name in (line.split(maxsplit=1)[-1].rstrip() for line in lines if line.strip()):
        if not name.endswith(b"|"):
            try:
                status = os.stat(name)
                digest.update(repr((name, status.st_size, status.st_mtime_ns)).encode())
            except (OSError, ValueError):  # missing, or a name that no file can have: for the command to report
                digest.update(repr(name).encode())
    return digest.hexdigest()


def _state(path: str, levels: int) -> Any:
    try:
        if os.path.isdir(path) and levels == 0:
            return _digest(path)
        if os.path.isdir(path):
            names = sorted(name for name in os.listdir(path) if not name.startswith("."))
            return {name: _state(os.path.join(path, name), levels - 1) for name in names}
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _digest(folder: str) -> str | dict[str, Any]:
    """Return a digest of path, size and mtime of the files below a directory; {} if all are audio, or there is none."""
    lines = [repr((os.path.relpath(path, folder), _state(path, 0))) for path in _counted_files(folder)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else {}


def _counted_files(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() not in AUDIO_SUFFIXES:
                yield os.path.join(parent, name)
