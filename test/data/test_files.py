import hashlib
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnirouter.data import files
from omnirouter.data.files import atomic_dir, atomic_write, digest, named_folder, write_if_changed

NAMESPACE = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid")) if sys.platform == "linux" else ""
HERE = f"{socket.gethostname()}.{NAMESPACE}".rstrip(".")


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "é.txt"
    with atomic_write(path) as file:
        file.write("naïve\n")
        assert not path.exists()
    assert path.read_bytes() == "naïve\n".encode()
    assert entries(path.parent) == ["é.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failed_write_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path, "wb") as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert entries(tmp_path) == ["a"]


def test_contents_are_on_disk_before_the_new_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace, rename = os.replace, os.rename

    def note(path: object) -> str:
        return str(path).removeprefix(str(tmp_path)).replace(f".{HERE}.{os.getpid()}.", ".N.")

    monkeypatch.setattr(os, "fsync", lambda fd: done.append("sync " + note(os.readlink(f"/proc/self/fd/{fd}"))))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename " + note(b)), replace(a, b)))
    monkeypatch.setattr(os, "rename", lambda a, b: (done.append("rename " + note(b)), rename(a, b)))
    with atomic_write(tmp_path / "f") as file:
        file.write("x" * 10)
    assert done == ["sync /.f.N.tmp", "rename /f", "sync "]
    done.clear()
    with atomic_dir(tmp_path / "d") as folder:
        (folder / "x").touch()
    assert done == ["sync /.d.N.tmp/x", "sync /.d.N.tmp", "rename /d", "sync "]


def test_write_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    with atomic_write(tmp_path / "link") as file:
        file.write("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "x"
    with atomic_write(tmp_path / "link", follow_link=False) as file:
        file.write("y")
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "link").read_text() == "y"
    assert (tmp_path / "target").read_text() == "x"


def test_dir_replaces_all_of_the_old_one(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with atomic_dir(tmp_path / "d") as folder:
            (folder / content).write_text(content)
            (folder / "sub").mkdir()
            (folder / "sub" / "x").write_text(content)
    assert entries(tmp_path / "d") == ["sub", "two"]
    assert (tmp_path / "d" / "sub" / "x").read_text() == "two"
    assert entries(tmp_path) == ["d"]


def test_failed_dir_leaves_the_old_one(tmp_path: Path) -> None:
    with atomic_dir(tmp_path / "d") as folder:
        (folder / "x").write_text("old")
    with pytest.raises(RuntimeError), atomic_dir(tmp_path / "d") as folder:
        (folder / "x").write_text("new")
        raise RuntimeError
    assert (tmp_path / "d" / "x").read_text() == "old"
    assert entries(tmp_path) == ["d"]


def write_and_hang(folder: Path) -> None:
    with atomic_dir(folder / "d") as new, atomic_write(folder / "f") as file:
        (new / "half").write_text("half")
        file.write("half")
        file.flush()
        time.sleep(60)


def test_kill_leaves_the_old_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_text("old")
    process = multiprocessing.get_context("fork").Process(target=write_and_hang, args=(tmp_path,))
    process.start()
    while len(entries(tmp_path)) < 4 or not list(tmp_path.glob(".d.*/half")):
        time.sleep(0.01)

    with atomic_write(tmp_path / "f") as file:  # a second run while the first still lives leaves its files alone
        file.write("old")
    assert len(entries(tmp_path)) == 4

    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert entries(tmp_path / "d") == []
    assert (tmp_path / "f").read_text() == "old"
    with atomic_dir(tmp_path / "d"), atomic_write(tmp_path / "f") as file:
        file.write("new")
    assert entries(tmp_path) == ["d", "f"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_an_unreaped_process_has_left_is_removed(tmp_path: Path) -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays in the process table
    stale = tmp_path / f".out.{HERE}.{zombie.pid}.tmp"
    stale.write_text("half")
    with atomic_write(tmp_path / "out") as file:
        file.write("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    zombie.wait()


def test_what_an_ended_process_has_left_under_another_name_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f".step_15.pt.{HERE}.{ended.pid}.tmp").write_text("half")
    (tmp_path / f".folder.{HERE}.{ended.pid}.old.tmp").mkdir()
    (tmp_path / f".out.{HERE}.{os.getpid()}.old.tmp").mkdir()  # as a process had this number that was killed
    (tmp_path / f".folder.{HERE}.{ended.pid}.tmp.txt").write_text("the user's")
    with atomic_write(tmp_path / "other") as theirs, atomic_write(tmp_path / "out") as file:  # written at once
        theirs.write("whole")
        file.write("whole")
    assert entries(tmp_path) == [f".folder.{HERE}.{ended.pid}.tmp.txt", "other", "out"]


@pytest.mark.parametrize("place", [("node2", NAMESPACE), (socket.gethostname(), "7")])
def test_what_another_host_or_container_is_writing_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[str, str]
) -> None:
    """The same directory, as both see it, where the other's process number is nobody's here."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with monkeypatch.context() as there:
        there.setattr(files, "_where", lambda: ".".join(place))
        there.setattr(os, "getpid", lambda: ended.pid)
        other = atomic_dir(tmp_path / "out")
        (other.__enter__() / "half").write_text("x")
    with atomic_dir(tmp_path / "out") as folder, atomic_write(tmp_path / "other"):
        (folder / "ours").touch()
    assert entries(tmp_path) == [f".out.{'.'.join(place)}.{ended.pid}.tmp", "other", "out"]
    with monkeypatch.context() as there:  # it is removed there, once that process has ended
        there.setattr(files, "_where", lambda: ".".join(place))
        with atomic_dir(tmp_path / "out"):
            pass
    assert entries(tmp_path) == ["other", "out"]


def test_a_file_that_holds_the_text_already_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_if_changed(path, "é\n")
    os.utime(path, ns=(1, 1))
    write_if_changed(path, "é\n")
    assert path.stat().st_mtime_ns == 1 and path.read_bytes() == "é\n".encode()
    write_if_changed(path, "é")
    assert path.stat().st_mtime_ns != 1 and path.read_bytes() == "é".encode()


@pytest.mark.parametrize("size", [0, 5, (1 << 20) + 3])
def test_digest_is_sha256_of_any_size(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(b"abcde" * size)
    assert digest(tmp_path / "a") == hashlib.sha256(b"abcde" * size).hexdigest()[:16]


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 64)  # the longest on Linux
    names = ["a" * 151 + "b" * 104, "a" * 151 + "c" * 104, "d" * 150]
    with atomic_write(tmp_path / names[0]) as one, atomic_write(tmp_path / names[1]) as two:
        one.write("1")
        two.write("2")
    for content in "34":  # the second replaces the first
        with atomic_dir(tmp_path / names[2]) as folder:
            (folder / content).touch()
    assert entries(tmp_path) == names and entries(tmp_path / names[2]) == ["4"]
    assert [(tmp_path / name).read_text() for name in names[:2]] == ["1", "2"]


@pytest.mark.parametrize("text, name", [(".", "test_x"), ("../test_x/.", "test_x"), ("..", "data"), ("../ln", "ln")])
def test_a_folder_after_which_results_are_named_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str
) -> None:
    (tmp_path / "data/test_x").mkdir(parents=True)
    (tmp_path / "data/ln").symlink_to("test_x")
    monkeypatch.chdir(tmp_path / "data/test_x")
    assert named_folder(text).name == name
    assert named_folder(text).samefile(text)
    assert named_folder("data/test") == Path("data/test")
