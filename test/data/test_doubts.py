"""The first look at tables of any size: it finds every line with a problem, and takes a few numbers a line."""

import re
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from omnirouter.data import streams
from omnirouter.data.datadir import Utterance, check_tables, write_data_dir
from omnirouter.data.doubts import FirstLook
from omnirouter.data.errors import UserError
from omnirouter.data.parsing import CURRENT, Keep, parse_data_dir
from omnirouter.data.validate import validate_data_dirs


class Everything:
    """A set that keeps whatever is asked for."""

    def __contains__(self, _: int) -> bool:
        return True


@pytest.fixture
def exact_problems(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """A function that returns the problems of a directory of which every line is read exactly."""

    def problems(folder: Path) -> list:
        with monkeypatch.context() as patch:
            patch.setattr(FirstLook, "kept", lambda _: Keep(Everything(), Everything(), Everything()))
            (report,) = validate_data_dirs([folder], deep=False)
        return report.problems

    return problems


def make_dir(folder: Path, segmented: bool) -> Path:
    """Six utterances of three speakers, whole recordings or parts of two, of which one has a low rate."""
    for i in range(6):
        soundfile.write(folder / f"{i}.wav", np.zeros(32000), 8000 if i == 1 else 16000)
    spans = [(i // 2 * 0.5, i // 2 * 0.5 + 0.4) if segmented else (0.0, None) for i in range(6)]
    utterances = [
        Utterance(f"u{i}", folder / f"{i % 2 if segmented else i}.wav", f"some words {i}", f"s{i % 3}", *spans[i])
        for i in range(6)
    ]
    write_data_dir(folder / "data", utterances)
    (folder / "data/utt2speed").write_text("".join(f"u{i} 1\n" for i in range(6)))
    return folder / "data"


CHANGES = {
    "line taken away": lambda lines, at: lines[:at] + lines[at + 1 :],
    "line twice": lambda lines, at: [*lines, lines[at]],
    "line moved": lambda lines, at: [*lines[:at], *lines[at + 1 :], lines[at]],
    "empty line": lambda lines, at: [*lines[:at], "", *lines[at:]],
    "other id": lambda lines, at: [*lines[:at], f"x{lines[at]}", *lines[at + 1 :]],
    "bad id": lambda lines, at: [*lines[:at], f"-{lines[at]}", *lines[at + 1 :]],
    "id of another": lambda lines, at: (
        [*lines[:at], lines[at - 1].split()[0] + " " + lines[at].split(" ", 1)[1]] + lines[at + 1 :]
    ),
    "no value": lambda lines, at: [*lines[:at], lines[at].split()[0], *lines[at + 1 :]],
    "value of another": lambda lines, at: (
        [*lines[:at], lines[at].split()[0] + " " + lines[at - 1].split(" ", 1)[1]] + lines[at + 1 :]
    ),
    "one word more": lambda lines, at: [*lines[:at], f"{lines[at]} more", *lines[at + 1 :]],
    "one word less": lambda lines, at: [*lines[:at], lines[at].rpartition(" ")[0], *lines[at + 1 :]],
    "tabs": lambda lines, at: [line.replace(" ", "\t", 1) for line in lines],
    "Windows": lambda lines, at: [f"{line}\r" for line in lines],
    "control character": lambda lines, at: [*lines[:at], f"{lines[at]}\x07x", *lines[at + 1 :]],
    "slash in the value": lambda lines, at: [*lines[:at], f"{lines[at]}/x", *lines[at + 1 :]],
    "pipe": lambda lines, at: [*lines[:at], f"{lines[at]} |", *lines[at + 1 :]],
    "mark": lambda lines, at: ["\ufeff" + lines[0], *lines[1:]],
    "nothing": lambda lines, at: [],
}


@pytest.mark.parametrize("segmented", [False, True])
@pytest.mark.parametrize("block_lines", [2, 1000])
def test_a_second_look_at_the_doubtful_lines_finds_what_one_at_all_lines_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact_problems, segmented: bool, block_lines: int
) -> None:
    """With one change in any table, and with two, by chance."""
    monkeypatch.setattr(streams, "BLOCK_LINES", block_lines)
    folder, rng = make_dir(tmp_path, segmented), np.random.default_rng(block_lines)
    originals = {path: path.read_text() for path in sorted(folder.iterdir())}
    kinds = set()
    cases = [[(path, name)] for path in originals for name in CHANGES]
    cases += [
        [(path, name) for path, name in zip(pair, names, strict=True)]
        for pair, names in ((rng.choice(list(originals), 2), rng.choice(list(CHANGES), 2)) for _ in range(60))
    ]
    for case in cases:
        for path, name in case:
            lines = path.read_text().splitlines()
            with suppress(IndexError, ValueError):  # nothing is left to change after a first change
                changed = CHANGES[name](lines, int(rng.integers(len(lines))))
                path.write_text("".join(f"{line}\n" for line in changed), newline="")
        wanted = exact_problems(folder)
        (report,) = validate_data_dirs([folder], deep=False)
        assert report.problems == wanted, case
        kinds |= {re.sub(r"'.*'|[0-9.]+", "", problem.what) for problem in wanted}
        for path, content in originals.items():
            path.write_text(content)
    assert len(kinds) > 15


@pytest.mark.parametrize("labelled", [False, True])
def test_tables_are_checked_as_when_they_are_read_at_once(tmp_path: Path, labelled: bool) -> None:
    folder = make_dir(tmp_path, segmented=True)
    check_tables(folder, labelled=labelled)
    (folder / "text").write_text((folder / "text").read_text().replace("u2 some", "u7 some"))
    with pytest.raises(UserError, match=r"segments:3: utterance 'u2' is not in text; .* \(1 more: run "):
        check_tables(folder, labelled=labelled)
    (folder / "text").unlink()
    if not labelled:
        check_tables(folder, labelled=False)
    else:
        with pytest.raises(UserError, match="text: cannot be read"):
            check_tables(folder)


def test_numbers_of_a_directory_that_is_well(tmp_path: Path) -> None:
    (report,) = validate_data_dirs([make_dir(tmp_path, segmented=True)])
    assert [problem.what.split()[0] for problem in report.problems] == ["'1'"] and report.is_good  # of its rate
    assert (report.utterances, report.speakers) == (6, 3)
    assert report.duration_s == pytest.approx(6 * 0.4)


def write_large(folder: Path, count: int, faulty: bool) -> None:
    """Utterances of 100 speakers in ten recordings that all name one file."""
    folder.mkdir()
    soundfile.write(folder / "r.flac", np.zeros(100 * 16000), 16000)
    (folder / "wav.scp").write_text("".join(f"rec{i} {folder}/r.flac\n" for i in range(10)))
    formats = {
        "segments": lambda i: f"rec{i % 10} {i % 90} {i % 90 + 9.5}",
        "text": lambda i: f"SOME WORDS OF {i}",
        "utt2spk": lambda i: f"spk{i * 100 // count:02d}",
        "utt2dur": lambda i: "9.5" if i or not faulty else "9.0",
    }
    for name, value in formats.items():
        (folder / name).write_text("".join(f"a-long-name-{i:020d} {value(i)}\n" for i in range(count)))
    part = count // 100
    members = (" ".join(f"a-long-name-{i:020d}" for i in range(s * part, (s + 1) * part)) for s in range(100))
    (folder / "spk2utt").write_text("".join(f"spk{s:02d} {utts}\n" for s, utts in enumerate(members)))


@pytest.mark.parametrize("faulty", [False, True])
def test_an_utterance_takes_numbers_not_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faulty: bool) -> None:
    monkeypatch.setattr(streams, "BLOCK_LINES", 1000)
    monkeypatch.setattr("omnirouter.data.doubts.SPEAKERS_TOGETHER", 2)
    peaks = []
    for count in (20_000, 40_000):
        write_large(tmp_path / str(count), count, faulty)
        tracemalloc.start()
        (report,) = validate_data_dirs([tmp_path / str(count)])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (report.utterances, report.speakers, len(report.problems)) == (count, 100, int(faulty))
        assert not faulty or report.problems[0].line == 1
    assert (peaks[1] - peaks[0]) / 20_000 < 200  # dictionaries take 1800 bytes


def test_the_exact_look_keeps_only_what_it_is_told(tmp_path: Path) -> None:
    folder = make_dir(tmp_path, segmented=True)
    parsed = parse_data_dir(folder, False, CURRENT, True, Keep({hash("u3")}, {hash("1")}, {hash("s0")}))
    assert {name: list(table.rows) for name, table in parsed.tables.items()} == {
        "wav.scp": ["1"], "text": ["u3"], "utt2spk": ["u3"], "segments": ["u3"],
        "spk2utt": ["s0"], "utt2dur": ["u3"], "utt2speed": ["u3"],
    }  # fmt: skip
    assert parsed.tables["text"].entries == 6 and parsed.problems == []
