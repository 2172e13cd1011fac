from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from omnirouter.data.audio import load_utterance
from omnirouter.data.datadir import Utterance, complete_data_dir, read_data_dir, read_recordings, write_data_dir
from omnirouter.data.errors import UserError
from omnirouter.data.parsing import Pipe, parse_number


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_whole_recordings(tmp_path: Path, write_tone: Callable[..., Path]) -> None:
    b = Utterance("b", write_tone(tmp_path / "b.wav", 0.5), "two words", "s1")
    a = Utterance("a", write_tone(tmp_path / "x.wav", 1.25), "one", "s1", duration_s=3.0)
    write_data_dir(tmp_path / "d", [b, a])
    assert contents(tmp_path / "d") == {
        "wav.scp": f"a {tmp_path}/x.wav\nb {tmp_path}/b.wav\n",
        "text": "a one\nb two words\n",
        "utt2spk": "a s1\nb s1\n",
        "spk2utt": "s1 a b\n",
        "utt2dur": "a 3.000000\nb 0.500000\n",
    }
    assert read_data_dir(tmp_path / "d") == [a, replace(b, duration_s=0.5)]


def test_segments_and_speeds(tmp_path: Path) -> None:
    utterances = [
        Utterance("a", Path("r1.wav"), "x", "s", 0.0000625, 1.5, duration_s=1.5, speed=0.9),
        Utterance("b", Path("r1.wav"), "x", "s", 2.0, None, duration_s=1.5),
        Utterance("c", Path("r2.wav"), "x", "s", duration_s=1.5),
    ]
    write_data_dir(tmp_path / "d", utterances, {"second": Path("r2.wav"), "unused": Path("r3.wav")})
    written = contents(tmp_path / "d")
    assert written["wav.scp"] == "r1 r1.wav\nsecond r2.wav\n"
    assert written["segments"] == "a r1 0.000063 1.500000\nb r1 2.000000 -1\nc second 0.000000 -1\n"
    assert written["utt2speed"] == "a 0.9\nb 1\nc 1\n"
    assert read_data_dir(tmp_path / "d") == [replace(utterances[0], start_s=0.000063), *utterances[1:]]
    assert read_recordings(tmp_path / "d") == {"r1": Path("r1.wav"), "second": Path("r2.wav")}


def test_written_times_keep_every_sample(tmp_path: Path) -> None:
    frames = [(i * 977, i * 977 + 1 + i % 3) for i in range(1, 3000)]
    for rate_hz in (8000, 16000, 22050, 44100, 48000):
        utterances = [
            Utterance(f"{start}", Path("r.wav"), "x", "s", start / rate_hz, stop / rate_hz, duration_s=1.0)
            for start, stop in frames
        ]
        write_data_dir(tmp_path / "d", utterances)
        read = {utt.utt_id: utt for utt in read_data_dir(tmp_path / "d")}
        for start, stop in frames:
            utt = read[f"{start}"]
            assert (round(utt.start_s * rate_hz), round(utt.end_s * rate_hz)) == (start, stop)


def test_two_recordings_of_one_stem_need_ids(tmp_path: Path) -> None:
    utterances = [
        Utterance("a", Path("x/r.wav"), "x", "s", 1.0, 2.0, duration_s=1.0),
        Utterance("b", Path("y/r.wav"), "x", "s", 1.0, 2.0, duration_s=1.0),
    ]
    with pytest.raises(UserError, match="needs a recording id of its own"):
        write_data_dir(tmp_path / "d", utterances)
    assert not (tmp_path / "d").exists()


def test_the_same_utterances_give_the_same_bytes(tiny_data_dir: Path) -> None:
    before = contents(tiny_data_dir)
    write_data_dir(tiny_data_dir, reversed(read_data_dir(tiny_data_dir)))
    assert contents(tiny_data_dir) == before


def test_writing_nothing_or_twice_is_refused(tmp_path: Path, tiny_data_dir: Path) -> None:
    with pytest.raises(UserError, match="no utterance"):
        write_data_dir(tmp_path / "d", [])
    with pytest.raises(UserError, match="'spk0-utt0' occurs twice"):
        write_data_dir(tmp_path / "d", read_data_dir(tiny_data_dir) * 2)


def test_complete_makes_all_tables(tmp_path: Path, tiny_data_dir: Path) -> None:
    for name in ("spk2utt", "utt2dur"):
        (tiny_data_dir / name).unlink()
    (tiny_data_dir / "text").write_text("".join(reversed((tiny_data_dir / "text").open().readlines())))
    complete_data_dir(tiny_data_dir, tmp_path / "d")
    completed = contents(tmp_path / "d")
    assert completed["spk2utt"] == "spk0 spk0-utt0 spk0-utt1\nspk1 spk1-utt2 spk1-utt3\n"
    assert completed["utt2dur"].split()[1::2] == ["1.000000", "1.100000", "1.200000", "1.300000"]
    assert completed["text"].startswith("spk0-utt0 tone number 0\n")


def test_complete_keeps_the_recording_ids(tmp_path: Path, write_tone: Callable[..., Path]) -> None:
    source = tmp_path / "user"
    source.mkdir()
    tables = {"wav.scp": f"meeting {write_tone(tmp_path / 'x.wav', 2.0)}\n", "segments": "u meeting 0.5 1.75\n"}
    for name, content in {**tables, "text": "u hello\n", "utt2spk": "u s\n"}.items():
        (source / name).write_text(content)
    complete_data_dir(source, tmp_path / "d")
    completed = contents(tmp_path / "d")
    assert completed["wav.scp"] == tables["wav.scp"]
    assert completed["segments"] == "u meeting 0.500000 1.750000\n"
    assert completed["utt2dur"] == "u 1.250000\n"


def test_pipes_run_only_when_allowed(tmp_path: Path, tiny_data_dir: Path) -> None:
    wav = tmp_path / "wavs" / "0.wav"
    table = tiny_data_dir / "wav.scp"
    table.write_text(table.read_text().replace(f"{wav}\n", f"touch {tmp_path}/ran; cat {wav} |\n"))
    with pytest.raises(UserError, match=r"wav.scp:1: 'spk0-utt0' would run a shell command"):
        read_data_dir(tiny_data_dir)
    assert not (tmp_path / "ran").exists()

    utt = read_data_dir(tiny_data_dir, allow_pipes=True)[0]
    assert utt.recording == Pipe(f"touch {tmp_path}/ran; cat {wav}")
    assert (load_utterance(utt) == load_utterance(replace(utt, recording=wav))).all()
    assert (tmp_path / "ran").exists()
    complete_data_dir(tiny_data_dir, tmp_path / "copy", allow_pipes=True)
    assert (tmp_path / "copy" / "wav.scp").read_text() == table.read_text()


def test_a_failing_pipe_names_its_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"echo no >&2; false \|: the command failed \(no\)"):
        load_utterance(Utterance("a", Pipe("echo no >&2; false"), "x", "s"))


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1.0), ("1.", 1.0), (".5", 0.5), ("1.25e-2", 0.0125), ("0", 0.0)]
    + [(text, None) for text in ("", ".", "1.5.", "-1", "nan", "inf", "1_0", "1e99", "1e999999999", "١", "1,5")],
)
def test_parse_number(text: str, number: float | None) -> None:
    assert parse_number(text) == number
