"""Downloads against a server on this machine: resumed, verified, and never half there."""

import dataclasses
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from omnirouter.corpora.download import CORPORA, Archive, download_corpus
from omnirouter.data.errors import UserError

NOISE = np.random.default_rng(0).bytes(1 << 20)  # does not compress, so that archives have some length


class Server(ThreadingHTTPServer):
    """Serves `files` with ranges (if `ranges`), closing each connection after `limit` bytes; notes what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.ranges, self.limit, self.asked = True, 1 << 30, list[str]()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    """Answers GET."""

    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        content = self.server.files.get(self.path[1:])
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if self.server.ranges and wanted else 0
        if content is None:
            return self.send_error(404)
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if self.server.ranges and wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + self.server.limit])

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def tar_gz(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def archive(server: Server) -> Archive:
    """An archive with the folders Libri/a, which is wanted, and Libri/b."""
    content = tar_gz({"Libri/a/noise": NOISE, "Libri/a/deep/text": b"hello\n", "Libri/b/other": b"x"})
    server.files["corpus.tar.gz"] = content
    return Archive((server.url("corpus.tar.gz"),), "md5", hashlib.md5(content).hexdigest(), "Libri/a")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


EXTRACTED = ["Libri/a/deep/text", "Libri/a/noise", "corpus.tar.gz"]


def test_the_wanted_folder_appears_and_is_not_fetched_again(server: Server, archive: Archive, tmp_path: Path) -> None:
    download_corpus([archive], tmp_path)
    assert names(tmp_path) == EXTRACTED and (tmp_path / "Libri/a/noise").read_bytes() == NOISE
    download_corpus([archive], tmp_path)
    (tmp_path / "Libri/a/noise").unlink()
    (tmp_path / "Libri/a/deep/text").unlink()
    (tmp_path / "Libri/a/deep").rmdir()
    (tmp_path / "Libri/a").rmdir()
    download_corpus([archive], tmp_path)  # extracts what is downloaded
    assert names(tmp_path) == EXTRACTED and server.asked == ["bytes=0-"]


def test_an_interrupted_download_goes_on(server: Server, archive: Archive, tmp_path: Path) -> None:
    server.limit = 300_000
    with pytest.raises(UserError, match=r"(?s)connection lost after 900000 of .* is kept"):
        download_corpus([archive], tmp_path)
    assert names(tmp_path) == ["corpus.tar.gz.part"]
    assert (tmp_path / "corpus.tar.gz.part").read_bytes() == server.files["corpus.tar.gz"][:900_000]
    download_corpus([archive], tmp_path)
    assert names(tmp_path) == EXTRACTED
    assert (tmp_path / "corpus.tar.gz").read_bytes() == server.files["corpus.tar.gz"]
    assert server.asked == [f"bytes={start}-" for start in (0, 300_000, 600_000, 900_000)]


KILLED = """
import os, pathlib, signal, sys
from omnirouter.corpora.download import Archive, download_corpus

left, output, url, md5 = int(sys.argv[1]), *sys.argv[2:]

def count(event, args):
    global left
    if event in ("open", "os.mkdir", "os.rename", "os.remove") and str(args[0]).startswith(output):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
download_corpus([Archive((url,), "md5", md5, "Libri/a")], pathlib.Path(output))
"""


def test_a_kill_at_any_step_costs_nothing_but_time(server: Server, archive: Archive, tmp_path: Path) -> None:
    """`kill -9` before the first operation on a file, then, by the same command, before its second, and so on."""
    server.limit = 500_000  # a part of the file stays each time that the connection ends
    output, kills = tmp_path / "downloads", 0
    folder, environment = output / "Libri/a", {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    while True:
        command = [sys.executable, "-c", KILLED, str(kills + 1), str(output), *archive.urls, archive.digest]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
        assert not folder.exists() or names(folder) == ["deep/text", "noise"]
    assert names(output) == EXTRACTED and (folder / "noise").read_bytes() == NOISE
    assert kills > 4 and len(server.asked) >= 3


def test_a_server_without_ranges_begins_anew(server: Server, archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "corpus.tar.gz.part").write_bytes(server.files["corpus.tar.gz"][:1000])
    server.ranges = False
    download_corpus([archive], tmp_path)
    assert names(tmp_path) == EXTRACTED and server.asked == ["bytes=1000-"]


def test_a_part_that_was_complete_is_taken(server: Server, archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "corpus.tar.gz.part").write_bytes(server.files["corpus.tar.gz"])
    download_corpus([archive], tmp_path)
    assert names(tmp_path) == EXTRACTED


def test_a_wrong_checksum_leaves_nothing(server: Server, archive: Archive, tmp_path: Path) -> None:
    wrong = dataclasses.replace(archive, digest="0" * 32)
    with pytest.raises(UserError, match=f"wrong md5: {archive.digest}, expected 0000"):
        download_corpus([wrong], tmp_path)
    assert names(tmp_path) == [] and len(server.asked) == 1


def test_mirrors_are_tried_in_turn(server: Server, archive: Archive, tmp_path: Path) -> None:
    server.files["damaged.tar.gz"] = NOISE
    urls = (server.url("absent.tar.gz"), server.url("damaged.tar.gz"), *archive.urls)
    download_corpus([dataclasses.replace(archive, urls=urls)], tmp_path)
    assert (tmp_path / "Libri/a/noise").read_bytes() == NOISE and len(server.asked) == 3
    with pytest.raises(UserError, match="(?s)absent.tar.gz: HTTP Error 404.*damaged.tar.gz: wrong md5"):
        download_corpus([dataclasses.replace(archive, urls=urls[:2], folder="Libri/c")], tmp_path / "other")


@pytest.mark.parametrize("name", ["Libri/a/../../../outside", "Libri/a//etc/outside"])
def test_an_archive_cannot_write_outside(server: Server, archive: Archive, tmp_path: Path, name: str) -> None:
    content = tar_gz({"Libri/a/text": b"a", name: b"evil"})
    server.files["corpus.tar.gz"] = content
    archive = dataclasses.replace(archive, digest=hashlib.md5(content).hexdigest())
    output = tmp_path / "downloads"
    if ".." in name:
        with pytest.raises(UserError, match="cannot be extracted"):
            download_corpus([archive], output)
        assert names(tmp_path) == ["downloads/corpus.tar.gz"]
    else:
        download_corpus([archive], output)
        assert "downloads/Libri/a/etc/outside" in names(tmp_path)
    assert not list(tmp_path.glob("outside")) and not Path("/etc/outside").exists()


def test_a_plain_file_and_a_place_of_its_own(server: Server, archive: Archive, tmp_path: Path) -> None:
    server.files["cuts.gz"] = NOISE
    plain = Archive((server.url("cuts.gz"),), "sha256", hashlib.sha256(NOISE).hexdigest(), place="manifests")
    audio = dataclasses.replace(archive, place="audio")
    for _ in range(2):
        download_corpus([plain, audio], tmp_path)
        assert names(tmp_path) == [*(f"audio/{name}" for name in EXTRACTED), "manifests/cuts.gz"]
        assert (tmp_path / "manifests/cuts.gz").read_bytes() == NOISE and len(server.asked) == 2


def test_a_truncated_archive_leaves_no_folder(server: Server, archive: Archive, tmp_path: Path) -> None:
    content = server.files["corpus.tar.gz"][:-50_000]
    server.files["corpus.tar.gz"] = content
    with pytest.raises(UserError, match="cannot be extracted"):
        download_corpus([dataclasses.replace(archive, digest=hashlib.md5(content).hexdigest())], tmp_path)
    assert names(tmp_path) == ["corpus.tar.gz"] and not (tmp_path / "Libri/a").exists()


def test_an_archive_without_the_folder_is_an_error(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no Libri/z"):
        download_corpus([dataclasses.replace(archive, folder="Libri/z")], tmp_path)
    assert not (tmp_path / "Libri/z").exists()


def test_the_table_of_corpora() -> None:
    lengths = {"md5": 32, "sha256": 64}
    for archives in CORPORA.values():
        for archive in archives:
            assert len(archive.urls) >= (1 if archive.place else 2)  # Libri-light and Libriheavy have no mirror
            assert len({url.rpartition("/")[2] for url in archive.urls}) == 1
            assert len(archive.digest) == lengths[archive.algorithm] and re.fullmatch("[0-9a-f]+", archive.digest)
