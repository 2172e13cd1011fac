"""Lines of a data directory whose id has occurred before: each is checked as any other, all in one go."""

from collections.abc import Callable
from pathlib import Path

import pytest

from omnirouter.data.validate import validate_data_dirs


@pytest.fixture
def folder(tmp_path: Path, write_tone: Callable[..., Path]) -> Path:
    """A good data directory of two utterances of one second."""
    for i in (1, 2):
        write_tone(tmp_path / f"{i}.wav")
    for name, values in {
        "wav.scp": (f"{tmp_path}/1.wav", f"{tmp_path}/2.wav"),
        "text": ("one", "two"),
        "utt2spk": ("s", "s"),
        "utt2dur": ("1.0", "1.0"),
    }.items():
        add(tmp_path / "d" / name, *(f"u{i} {value}" for i, value in enumerate(values, start=1)))
    add(tmp_path / "d/spk2utt", "s u1 u2")
    assert problems(tmp_path / "d") == []
    return tmp_path / "d"


def add(path: Path, *lines: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with open(path, "a") as file:
        file.writelines(f"{line}\n" for line in lines)


def problems(folder: Path) -> list[str]:
    """The problems, without what to do about them and those of repeated ids themselves."""
    (report,) = validate_data_dirs([folder])
    lines = [str(problem).removeprefix(f"{folder}/").partition(";")[0] for problem in report.problems]
    return [line for line in lines if "duplicate id" not in line]


def test_what_tables_say_again(folder: Path, tmp_path: Path) -> None:
    add(folder / "wav.scp", f"u1 touch {tmp_path}/pwned |", f"u2 {tmp_path}/missing.flac", "u1 -")
    add(folder / "text", "u1", "u2 \x07")
    add(folder / "utt2spk", "u1 s t", "u2 stranger")
    add(folder / "utt2dur", "u1 9.0", "u1 x", "u2 1.0")
    assert problems(folder) == [
        "text:3: empty transcript of 'u1'",
        "text:4: the entry of 'u2' contains the control or invalid character '\\x07'",
        "utt2dur:3: 'u1' lasts 1.000 s by its audio, not 9.000 s",
        "utt2dur:4: 'x' is not a duration in seconds",
        "utt2spk:3: 3 columns, not 2",
        "utt2spk:4: unknown speaker 'stranger' of 'u2': not in spk2utt",
        "wav.scp:3: 'u1' would run a shell command",
        f"wav.scp:4: 'u2', {tmp_path}/missing.flac: cannot be read (No such file or directory)",
        "wav.scp:5: 'u1' would be read from standard input",
    ]
    assert not (tmp_path / "pwned").exists()


def test_times_said_again(folder: Path) -> None:
    add(folder / "segments", "u1 u1 0 1", "u2 u2 0 1", "u1 u2 0 99", "u2 u1 0.5 0.2", "u1 nowhere 0 1", "u2 u1")
    assert problems(folder) == [
        "segments:3: 'u1': 0 s to 99 s is not within the recording's 1 s",
        "segments:4: start 0.5 s is not before end 0.2 s",
        "segments:5: unknown recording 'nowhere'",
        "segments:6: 2 columns, not 4",
    ]


def test_a_speaker_listed_in_two_lines_is_one_problem(folder: Path) -> None:
    (folder / "spk2utt").write_text("s u1\ns u2\n")
    assert problems(folder) == []
    (report,) = validate_data_dirs([folder])
    assert [str(problem).removeprefix(f"{folder}/") for problem in report.problems] == [
        "spk2utt:2: duplicate id 's', first on line 1; rename or remove one of them"
    ]
