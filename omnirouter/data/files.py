"""Files and directories that appear complete or not at all, whenever the process is killed."""

import fcntl
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

MOST_NAME_BYTES = 150  # of 255: a host's name has up to 64, and numbers and marks are added


@contextmanager
def atomic_write(path: Path | str, mode: str = "w", follow_link: bool = True) -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` (`w`: UTF-8 text, `wb`: bytes) that replaces it on success only.

    follow_link: whether a link stays and its target is replaced, else the link itself is.
    """
    assert mode in ("w", "wb"), mode
    path = Path(path).resolve() if follow_link else Path(path).absolute()
    temporary = _new_temporary(path)
    text = {} if mode == "wb" else {"encoding": "utf-8", "newline": "\n"}
    try:
        with open(temporary, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync(path.parent)


def write_if_changed(path: Path, text: str) -> None:
    """Write a file atomically unless it holds this text already, as where another process has just written the same."""
    content = text.encode()
    if not path.is_file() or path.read_bytes() != content:
        with atomic_write(path, "wb") as file:
            file.write(content)


@contextmanager
def atomic_dir(path: Path | str) -> Iterator[Path]:
    """Yield a new temporary directory beside `path` that replaces it, with all it held, on success only."""
    path = Path(path).resolve()
    temporary = _new_temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                _fsync(Path(folder, name))
            _fsync(Path(folder))
        _swap_in(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock, waiting for it; it ends with this process, however that ends."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: two processes may then make the same, one for nothing
            pass
        yield


def digest(path: Path | str) -> str:
    """Return the first 16 hexadecimal digits of a file's SHA-256, whatever its size."""
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
    return sha256.hexdigest()[:16]


def named_folder(path: Path | str) -> Path:
    """Return a folder after which results are named, with that name: a link's own; `.` and `..` by their full paths."""
    path = Path(path)
    return path.resolve() if path.name in ("", "..") else path


def _swap_in(temporary: Path, path: Path) -> None:
    """Put the directory `temporary` in the place of `path` and delete what was there."""
    if not path.exists():
        os.rename(temporary, path)
    else:
        old = _temporary_name(path, ".old")  # POSIX replaces empty directories only
        os.rename(path, old)
        os.rename(temporary, path)
        shutil.rmtree(old)
    _fsync(path.parent)


def _new_temporary(path: Path) -> Path:
    """Return a free name beside `path` for this process, after removing what killed processes left in its directory.

    Whatever its name: a checkpoint, whose turn comes by the clock, may never be written again under it. What another
    host or container has left stays: whether a process there is still writing cannot be seen from here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    needed = (temporary, _temporary_name(path, ".old"))  # of a killed process that had this number, too
    left = re.compile(rf"\..+\.{re.escape(_where())}\.(\d+)(\.old)?\.tmp")
    for sibling in path.parent.iterdir():
        match = left.fullmatch(sibling.name)
        if match and (sibling in needed or not _is_running(int(match[1]))):
            shutil.rmtree(sibling, ignore_errors=True) if sibling.is_dir() else sibling.unlink(missing_ok=True)
    return temporary


def _temporary_name(path: Path, kind: str = "") -> Path:
    """Name what becomes `path`; a long name is shortened, since with these additions it would be too long."""
    name = path.name
    if len(name.encode()) > MOST_NAME_BYTES:
        name = hashlib.sha256(name.encode()).hexdigest()
    return path.with_name(f".{name}.{_where()}.{os.getpid()}{kind}.tmp")


def _where() -> str:
    """Name the host, and on Linux the PID namespace: containers may share a host's name, not its process numbers."""
    try:
        return f"{socket.gethostname()}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def _is_running(pid: int) -> bool:
    """Tell whether a process of this machine has the number `pid`; one that has ended, unreaped, does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):  # it has ended just now, or this is no Linux
        return True
    return state != "Z"


def _fsync(path: Path) -> None:
    """Make the file or the directory's entries survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
