"""Which changes of files and directories are seen."""

import os
from pathlib import Path

import pytest

from omnirouter.data.fingerprint import states


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As LibriSpeech lies in its folder: part, speaker, chapter, and in it audio and transcripts."""
    monkeypatch.chdir(tmp_path)
    for name in ("README", "train/1/2/1-2.trans.txt", "train/1/2/1-2-0000.flac", "train/1/2/.hidden", "train/1/notes"):
        Path("corpus", name).parent.mkdir(parents=True, exist_ok=True)
        Path("corpus", name).write_text("first")
    return Path("corpus")


def touch(path: Path) -> None:
    status = os.stat(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("README", True),
        ("train/1/notes", True),
        ("train/1/2/1-2.trans.txt", True),
        ("train/1/2/1-2-0000.flac", False),  # by wav.scp
        ("train/1/2/.hidden", False),
    ],
)
def test_a_change_of_time_or_size_or_name(corpus: Path, name: str, seen: bool) -> None:
    before = states(["corpus"])
    assert states(["corpus"]) == before
    touch(corpus / name)
    timed = states(["corpus"])
    (corpus / name).rename(corpus / f"{name}.flac" if not seen else corpus / f"{name}.new")
    renamed = states(["corpus"])
    assert [before != timed, timed != renamed] == [seen, seen]


def test_a_new_chapter_is_seen(corpus: Path) -> None:
    before = states(["corpus"])
    (corpus / "train/1/3").mkdir()
    (corpus / "train/1/3/1-3.trans.txt").touch()
    assert states(["corpus"]) != before


def test_files_are_listed_two_levels_deep(corpus: Path) -> None:
    status = os.stat(corpus / "README")
    (state,) = states(["corpus"]).values()
    assert state["README"] == [status.st_size, status.st_mtime_ns]
    assert set(state["train"]) == {"1"}
    assert states(["absent"]) == {"absent": None}


def test_audio_of_a_table_counts_but_not_pipes(corpus: Path) -> None:
    audio = corpus / "train/1/2/1-2-0000.flac"
    Path("wav.scp").write_text(f"utt1 {audio}\nutt2 cat x |\n")
    before = states([], ["wav.scp", "absent.scp"])
    assert before["audio of absent.scp"] is None
    touch(audio)
    assert states([], ["wav.scp"])["audio of wav.scp"] != before["audio of wav.scp"]
