"""Data directories written utterance by utterance: the same as those written at once, in little memory."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnirouter.data.datadir import Utterance, read_data_dir, read_table, write_data_dir
from omnirouter.data.errors import UserError
from omnirouter.data.writer import stream_data_dir


def utterances(count: int) -> Iterator[Utterance]:
    """Half-second utterances of three speakers in two recordings, in order of id."""
    for i in range(count):
        recording = Path("/audio") / ("ä long.flac" if i % 2 else "b.flac")
        speaker = f"spk{7 * i % 3}"
        yield Utterance(f"utt{i:06d}", recording, f"THE TEXT {i}", speaker, i / 3, i / 3 + 0.5, duration_s=0.5)


def write(path: Path, members: Iterator[Utterance] | list[Utterance]) -> None:
    with stream_data_dir(path) as writer:
        for utt in members:
            writer.add(f"rec-{utt.recording.stem[0]}", utt)


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_the_same_bytes_as_of_a_directory_written_at_once(tmp_path: Path) -> None:
    recordings = {"rec-ä": Path("/audio/ä long.flac"), "rec-b": Path("/audio/b.flac")}
    write_data_dir(tmp_path / "at_once", utterances(50), recordings)
    write(tmp_path / "streamed", utterances(50))
    assert contents(tmp_path / "streamed") == contents(tmp_path / "at_once")


def test_any_order_is_kept_and_read(tmp_path: Path) -> None:
    members = list(utterances(20))
    shuffled = [members[7 * i % 20] for i in range(20)]
    write(tmp_path / "streamed", shuffled)
    assert list(read_table(tmp_path / "streamed/text")) == [utt.utt_id for utt in shuffled]
    assert [utt.utt_id for utt in read_data_dir(tmp_path / "streamed")] == [utt.utt_id for utt in members]
    spk2utt = read_table(tmp_path / "streamed/spk2utt")
    assert list(spk2utt) == ["spk0", "spk1", "spk2"]
    assert spk2utt["spk1"].split() == [utt.utt_id for utt in shuffled if utt.speaker == "spk1"]


def test_what_is_left_out_is_listed(tmp_path: Path) -> None:
    with stream_data_dir(tmp_path / "set") as writer:
        writer.drop("bad", "no words")
        writer.add("rec", next(utterances(1)))
        assert (len(writer), writer.dropped) == (1, 1)
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


def test_memory_does_not_grow_by_the_tables(tmp_path: Path) -> None:
    """Some 45 bytes an utterance at most; the ids alone would take 60 in a list."""
    tracemalloc.start()
    write(tmp_path / "few", utterances(100))
    tracemalloc.reset_peak()
    write(tmp_path / "many", utterances(20000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20000 * 50 + 500_000
