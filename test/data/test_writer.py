"""Data directories written utterance by utterance: the same as those written at once, in little memory."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnirouter.data import writer
from omnirouter.data.datadir import Utterance, write_data_dir
from omnirouter.data.errors import UserError
from omnirouter.data.writer import stream_data_dir


def utterances(count: int) -> Iterator[Utterance]:
    """Half-second utterances of three speakers in two recordings, in order of id."""
    for i in range(count):
        recording = Path("/audio") / ("ä long.flac" if i % 2 else "b.flac")
        speaker = f"spk{7 * i % 3}"
        yield Utterance(f"utt{i:06d}", recording, f"THE TEXT {i}", speaker, i / 3, i / 3 + 0.5, duration_s=0.5)


def write(path: Path, members: Iterator[Utterance] | list[Utterance]) -> None:
    with stream_data_dir(path) as data_dir:
        for utt in members:
            data_dir.add(f"rec-{utt.recording.stem[0]}", utt)


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("run_bytes", [1, 1000, 1 << 26])
def test_the_same_bytes_as_of_a_directory_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_bytes: int
) -> None:
    recordings = {"rec-ä": Path("/audio/ä long.flac"), "rec-b": Path("/audio/b.flac")}
    members = [*utterances(50), Utterance("utt00000", Path("/audio/b.flac"), "A\tTAB", "spk2", 0, 1, 1)]
    write_data_dir(tmp_path / "at_once", members, recordings)
    monkeypatch.setattr(writer, "RUN_BYTES", run_bytes)
    write(tmp_path / "streamed", [members[7 * i % 51] for i in range(51)])
    assert contents(tmp_path / "streamed") == contents(tmp_path / "at_once")


def test_what_is_left_out_is_listed(tmp_path: Path) -> None:
    with stream_data_dir(tmp_path / "set") as data_dir:
        data_dir.drop("bad", "no words")
        data_dir.add("rec", next(utterances(1)))
        assert (data_dir.written, data_dir.dropped) == (1, 1)
    assert (tmp_path / "set/dropped_utts").read_text() == "bad no words\n"


def test_what_no_table_can_hold_leaves_nothing(tmp_path: Path) -> None:
    good = next(utterances(1))
    bad = {
        "'utt000000' occurs twice": [good, *utterances(3)],
        "there is no utterance": [],
        "utterance 'a/b': .* contains '/'": [Utterance("a/b", good.recording, "A", "s", 0, 1)],
        "utterance 'a': .* contains ' '": [Utterance("a", good.recording, "A", "s 1", 0, 1)],
        r"contains the control or invalid character '\\n'": [Utterance("a", good.recording, "A\nB", "s", 0, 1)],
        "/b.wav is not the only file of recording 'rec-b'": [good, Utterance("a", Path("/b.wav"), "A", "s", 0, 1)],
    }
    for message, members in bad.items():
        with pytest.raises(UserError, match=message):
            write(tmp_path / "set", members)
        assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_utterances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RUN_BYTES", 100_000)
    tracemalloc.start()
    peaks = []
    for count in (5000, 20000):
        tracemalloc.reset_peak()
        write(tmp_path / "set", utterances(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[1] < 1_000_000, "20 000 utterances have 3 MB of tables"
    assert peaks[1] - peaks[0] < 15000 * 30, "some is for buffers of temporary files, as many as runs"
