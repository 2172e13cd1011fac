import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from omnirouter.data.audio import load_utterance
from omnirouter.data.datadir import Utterance, read_data_dir, read_recordings, write_data_dir
from omnirouter.data.validate import BLOCK_FRAMES, DEEP_BELOW_UTTERANCES, check_recording, validate_data_dirs


def command(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run validate_data_dir as a user with no UTF-8 locale would."""
    return subprocess.run(
        [sys.executable, "-m", "omnirouter.bin.validate_data_dir", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "LC_ALL": "C"},
    )


def problems(folder: Path, deep: bool = True, allow_pipes: bool = False) -> list[str]:
    """Return the problems as `file:line: …` with the directory's own path taken off."""
    (report,) = validate_data_dirs([folder], deep, allow_pipes)
    return [str(problem).removeprefix(f"{folder}/") for problem in report.problems]


def snapshot(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text(encoding="utf-8")
    assert content.count(old) == 1
    path.write_text(content.replace(old, new), encoding="utf-8", newline="")


def test_a_good_directory(tiny_data_dir: Path) -> None:
    done = command(tiny_data_dir, "--deep")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tiny_data_dir}: 4 utterances, 2 speakers, 0.00 hours\n"


@pytest.fixture
def faulty_data_dir(tmp_path: Path, write_tone: Callable[..., Path]) -> Path:
    """A directory with every fault of the list in the test below, and two good utterances."""
    wavs, folder = tmp_path / "wavs", tmp_path / "faulty"
    for i in range(1, 10):
        write_tone(wavs / f"{i}.wav")
    write_tone(wavs / "truncated.flac", 3.0)
    content = (wavs / "truncated.flac").read_bytes()
    (wavs / "truncated.flac").write_bytes(content[: len(content) // 2])
    soundfile.write(wavs / "nan.wav", np.array([0.1] * 100_000 + [np.nan]), 16000, subtype="FLOAT")
    soundfile.write(wavs / "frameless.wav", np.zeros(0), 16000)
    soundfile.write(wavs / "stereo.wav", np.zeros((16000, 2)), 16000)
    write_tone(wavs / "8k.wav", sample_rate_hz=8000)
    (wavs / "zero.wav").touch()
    names = ["1.wav", "missing.wav", "3.wav", "4.wav", "truncated.flac", "nan.wav", "zero.wav", "8.wav", "9.wav"]
    names += ["frameless.wav", "stereo.wav", "8k.wav"]
    ids = [f"u{i:02d}" for i in range(1, len(names) + 1)]
    folder.mkdir()
    (folder / "wav.scp").write_text(
        "".join(f"{key} {wavs}/{name}\n" for key, name in zip(ids, names, strict=True))
        + f"u13 touch {tmp_path}/pwned; cat {wavs}/1.wav |\nu14 |\nu04 {wavs}/9.wav\n"
    )
    text = "".join(f"{key} some words\n" for key in [*ids, "u13", "u14"])
    text = text.replace("u03 some words", "u03").replace("u01 some words", "u01 some words\r")
    (folder / "text").write_bytes(text.replace("u08 some words", "u08 un caf\xe9 noir").encode("latin-1"))
    utt2spk = "".join(f"{key} s1\n" for key in [*ids, "u13", "u14"])
    (folder / "utt2spk").write_text(utt2spk.replace("u09 s1", "u09 s1 extra").replace("u04 s1", "u04 stranger"))
    (folder / "spk2utt").write_text("s1 u01 u02 u03 u05 u06 u07 u08 u10 u11 u12 u13 u14\n")
    return folder


def test_all_faults_are_reported_at_once(tmp_path: Path, faulty_data_dir: Path) -> None:
    before = snapshot(tmp_path)
    done = command(faulty_data_dir)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = [line.removeprefix(f"{faulty_data_dir}/") for line in done.stderr.splitlines()]
    wavs = tmp_path / "wavs"
    expected = [
        "text:1: Windows line end; convert with: sed",
        "text:3: empty transcript of 'u03'; ",
        "text:8: not UTF-8: byte 11 of the line is 0xe9; convert with: iconv",
        "utt2spk:4: unknown speaker 'stranger' of 'u04': not in spk2utt; ",
        "utt2spk:9: 3 columns, not 2; ",
        f"wav.scp:2: 'u02', {wavs}/missing.wav: cannot be read (No such file or directory); ",
        f"wav.scp:5: 'u05', {wavs}/truncated.flac: truncated or damaged: 48000 frames promised, decoding fails between"
        " frames 0 and 48000; ",
        f"wav.scp:6: 'u06', {wavs}/nan.wav: contains NaN or infinite samples; ",
        f"wav.scp:7: 'u07', {wavs}/zero.wav: the file has zero length; ",
        f"wav.scp:10: 'u10', {wavs}/frameless.wav: zero frames of audio; ",
        f"wav.scp:11: 'u11', {wavs}/stereo.wav: 2 channels; ",
        "wav.scp:12: warning: 'u12' has 8000 Hz; below 16 kHz are 1 recordings; ",
        "wav.scp:13: 'u13' would run a shell command; give an audio file, or --allow-pipes",
        "wav.scp:14: 'u14' would run a shell command; ",
        "wav.scp:15: duplicate id 'u04', first on line 4; ",
    ]
    for line, start in zip(lines, expected, strict=False):
        assert line.startswith(start)
    assert lines[len(expected) :] == [f"error: problems in data directories: 14 in {faulty_data_dir}"]
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "pwned").exists()


def test_several_directories_and_missing_files(tmp_path: Path, tiny_data_dir: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = command(tmp_path / "empty", tiny_data_dir, tmp_path / "none")
    assert done.returncode == 1
    assert done.stdout.startswith(f"{tiny_data_dir}: 4 utterances")
    for folder in ("empty", "none"):
        for name in ("wav.scp", "text", "utt2spk"):
            assert f"{tmp_path}/{folder}/{name}: cannot be read (No such file or directory); " in done.stderr
    assert done.stderr.count("\n") == 7


def test_utterances_that_tables_do_not_share(tiny_data_dir: Path) -> None:
    edit(tiny_data_dir / "text", "spk0-utt1 tone", "spk0-uttX tone")
    edit(tiny_data_dir / "utt2spk", "spk1-utt2 spk1\n", "")
    edit(tiny_data_dir / "utt2dur", "spk1-utt3 1.3", "spk1-utt3 1.9")
    assert problems(tiny_data_dir) == [
        "spk2utt:2: utterance 'spk1-utt2' of speaker 'spk1' is not in utt2spk; "
        "correct one of them, or delete spk2utt: it is made anew",
        "text:2: utterance 'spk0-uttX' is not in wav.scp; add it there or remove it here",
        "utt2dur:4: 'spk1-utt3' lasts 1.300 s by its audio, not 1.900 s; "
        "correct it, or delete utt2dur: it is made anew",
        "wav.scp:2: utterance 'spk0-utt1' is not in text; add it there or remove it here",
        "wav.scp:3: utterance 'spk1-utt2' has no speaker: it is not in utt2spk; add it there or remove it here",
    ]


def test_spk2utt_that_disagrees(tiny_data_dir: Path) -> None:
    (tiny_data_dir / "spk2utt").write_text("spk0 spk0-utt0 spk1-utt2\nspk1 spk0-utt1 spk1-utt3\n")
    found = problems(tiny_data_dir)
    assert [line.split(": ")[0] for line in found] == ["utt2spk:2", "utt2spk:3"]
    assert "'spk1-utt2' of speaker 'spk1' is not so in spk2utt" in found[1]


def test_segments(tmp_path: Path, write_tone: Callable[..., Path]) -> None:
    recording = write_tone(tmp_path / "r.wav", 10.0)
    utterances = [Utterance(f"u{i}", recording, "x", "s", float(i), i + 1.0) for i in range(9)]
    write_data_dir(tmp_path / "d", utterances)
    (tmp_path / "d" / "utt2dur").unlink()
    (tmp_path / "d" / "segments").write_text(
        "u0 other 0 1\nu1 r 2 2\nu2 r 3.5 2.5\nu3 r 3 10.51\nu4 r 3 10.49\n"
        "u5 r 1e0 nan\nu6 r 1\nu7 r 2 -1\nu8 r 11 12\n"
    )
    assert problems(tmp_path / "d") == [
        "segments:1: unknown recording 'other'; add it to wav.scp or remove this line",
        "segments:2: start 2 s is not before end 2 s; correct the times",
        "segments:3: start 3.5 s is not before end 2.5 s; correct the times",
        "segments:4: 'u3': 3 s to 10.51 s is not within the recording's 10 s; correct the times or the audio",
        "segments:6: '1e0' 'nan' is not a time span; give seconds, end -1 for the end",
        "segments:7: 3 columns, not 4; write: utterance recording start_s end_s",
        "segments:9: 'u8': 11 s to 12 s is not within the recording's 10 s; correct the times or the audio",
    ]


def test_speeds_and_durations_must_be_numbers(tiny_data_dir: Path) -> None:
    edit(tiny_data_dir / "utt2dur", "spk0-utt0 1.0", "spk0-utt0 one")
    (tiny_data_dir / "utt2speed").write_text("spk0-utt0 1.1\nspk0-utt1 0\nspk1-utt2 fast\nspk1-utt3 1 1\n")
    assert [line.split(";")[0] for line in problems(tiny_data_dir)] == [
        "utt2dur:1: 'one00000' is not a duration in seconds",
        "utt2speed:2: '0' is not a speed factor",
        "utt2speed:3: 'fast' is not a speed factor",
        "utt2speed:4: '1 1' is not a speed factor",
    ]


def test_unsafe_ids(tiny_data_dir: Path) -> None:
    for name in ("wav.scp", "text", "utt2spk"):
        edit(tiny_data_dir / name, "spk0-utt0 ", "../../etc ")
        edit(tiny_data_dir / name, "spk0-utt1 ", "-rf ")
    edit(tiny_data_dir / "utt2spk", " spk1\nspk1-utt3 spk1", " a/b\nspk1-utt3 spk1")
    for name in ("spk2utt", "utt2dur"):
        (tiny_data_dir / name).unlink()
    found = problems(tiny_data_dir)
    assert [line.split(" ")[:3] for line in found] == [
        ["text:1:", "id", "'../../etc'"],
        ["text:2:", "id", "'-rf'"],
        ["utt2spk:1:", "id", "'../../etc'"],
        ["utt2spk:2:", "id", "'-rf'"],
        ["utt2spk:3:", "speaker", "'a/b'"],
        ["wav.scp:1:", "id", "'../../etc'"],
        ["wav.scp:2:", "id", "'-rf'"],
    ]


def test_order_does_not_matter(tiny_data_dir: Path) -> None:
    for name in ("wav.scp", "text", "utt2spk", "spk2utt", "utt2dur"):
        lines = (tiny_data_dir / name).read_text().splitlines(keepends=True)
        (tiny_data_dir / name).write_text("".join(lines[2:] + lines[:2]))
    assert problems(tiny_data_dir) == []


def test_without_deep_only_headers_are_read(tmp_path: Path, tiny_data_dir: Path) -> None:
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.full(16000, np.nan), 16000, subtype="FLOAT")
    edit(tiny_data_dir / "wav.scp", f"{tmp_path}/wavs/0.wav", str(nan))
    assert problems(tiny_data_dir, deep=False) == []
    assert "contains NaN" in problems(tiny_data_dir, deep=True)[0]
    assert command(tiny_data_dir, "--no-deep").returncode == 0
    assert command(tiny_data_dir).returncode == 1  # deep by default, since there are few utterances


def test_above_a_number_of_utterances_only_headers_are_read_by_default(
    tmp_path: Path, tiny_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.full(16000, np.nan), 16000, subtype="FLOAT")
    edit(tiny_data_dir / "wav.scp", f"{tmp_path}/wavs/0.wav", str(nan))
    assert DEEP_BELOW_UTTERANCES == 10_000
    for limit, found in ((5, 1), (4, 0)):  # the directory has four
        monkeypatch.setattr("omnirouter.data.validate.DEEP_BELOW_UTTERANCES", limit)
        (report,) = validate_data_dirs([tiny_data_dir], None, False)
        assert len(report.problems) == found


@pytest.mark.parametrize("position", [0, 2 * BLOCK_FRAMES, 3 * BLOCK_FRAMES - 1])
def test_a_bad_sample_anywhere_in_a_long_file_is_found(tmp_path: Path, position: int) -> None:
    samples = np.zeros(3 * BLOCK_FRAMES, np.float32)
    samples[position] = np.inf
    soundfile.write(tmp_path / "long.wav", samples, 16000, subtype="FLOAT")
    (fault,) = check_recording(str(tmp_path / "long.wav"), deep=True).faults
    assert "infinite" in fault[0]


@pytest.mark.parametrize(
    "name", ["a b.wav", 'it\'s "quoted".wav', "$(touch pwned).wav", "`touch pwned`;é ü字.wav", "a&b>c.wav"]
)
def test_odd_file_names_and_ids_are_data(
    tmp_path: Path, write_tone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tone(Path("my wavs") / name)
    utt_id = name.removesuffix(".wav").replace(" ", "_")
    write_data_dir("my data", [Utterance(utt_id, Path("my wavs") / name, name, f"speaker-{utt_id}")])
    done = command("my data", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (utt,) = read_data_dir("my data")
    assert (utt.utt_id, utt.recording, utt.text) == (utt_id, Path("my wavs") / name, name)
    assert len(load_utterance(utt)) == 16000
    write_data_dir("copy", [utt], read_recordings("my data"))
    assert sorted(os.listdir(tmp_path)) == ["copy", "my data", "my wavs"]


def test_pipes_run_when_allowed(tmp_path: Path, tiny_data_dir: Path) -> None:
    wav = f"{tmp_path}/wavs/0.wav"
    edit(tiny_data_dir / "wav.scp", wav, f"cat {wav} |")
    edit(tiny_data_dir / "wav.scp", f"{tmp_path}/wavs/1.wav", "|")
    edit(tiny_data_dir / "wav.scp", f"{tmp_path}/wavs/2.wav", "-")
    assert [line.split(";")[0] for line in problems(tiny_data_dir, allow_pipes=True)] == [
        "wav.scp:2: 'spk0-utt1' has a pipe without a command",
        "wav.scp:3: 'spk1-utt2' would be read from standard input",
    ]
    assert "would run a shell command" in problems(tiny_data_dir)[0]


def test_no_bytes_make_it_fail(tiny_data_dir: Path) -> None:
    """Random damage of every table and of the audio gives problems or nothing, never an exception."""
    random = np.random.default_rng(0)
    (tiny_data_dir / "segments").write_text("".join(f"spk{i // 2}-utt{i} spk{i // 2}-utt{i} 0 0.5\n" for i in range(4)))
    (tiny_data_dir / "utt2speed").write_text("".join(f"spk{i // 2}-utt{i} 1.1\n" for i in range(4)))
    for path in sorted(tiny_data_dir.iterdir()) + sorted((tiny_data_dir / ".." / "wavs").iterdir()):
        original = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(original)
            for position in random.integers(0, min(len(damaged), 200), size=random.integers(1, 6)):
                damaged[position] = random.choice([0, 9, 10, 13, 32, 45, 46, 47, 124, 128, 233, 255, 57])
            path.write_bytes(damaged)
            validate_data_dirs([tiny_data_dir], deep=True)
        path.write_bytes(original)
    assert any(line.startswith("utt2dur:1") for line in problems(tiny_data_dir))  # 0.5 s at speed 1.1 is not 1.0 s


def test_real_mp3_files_are_good_and_truncated_ones_are_not(tmp_path: Path, test_data: Path) -> None:
    clips = sorted((test_data / "common-voice-sample").rglob("*.mp3"))[:20]
    assert len(clips) == 20
    write_data_dir(tmp_path / "d", [Utterance(clip.stem, clip, "x", "s") for clip in clips])
    assert problems(tmp_path / "d") == []
    content = clips[3].read_bytes()
    (tmp_path / "half.mp3").write_bytes(content[: len(content) // 2])
    edit(tmp_path / "d" / "wav.scp", str(clips[3]), f"{tmp_path}/half.mp3")
    (problem,) = problems(tmp_path / "d")
    assert problem.startswith("utt2dur:4: ")  # an MP3 file without Xing's header promises no length: utt2dur did
