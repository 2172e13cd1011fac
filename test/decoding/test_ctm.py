"""Word times as CTM."""

from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.decoding.ctm import Word, read_ctm, write_ctm


def test_lines_are_sorted_by_utterance_and_time_and_read_back(tmp_path: Path) -> None:
    words = {"u2": [Word(0.0, 0.2, "ZWÖLF")], "u1": [Word(1.2, 0.08, "B"), Word(0.04, 0.36, "A")], "u3": []}
    write_ctm(tmp_path / "ctm", words)
    assert (tmp_path / "ctm").read_text("utf-8") == "u1 1 0.04 0.36 A\nu1 1 1.20 0.08 B\nu2 1 0.00 0.20 ZWÖLF\n"
    assert read_ctm(tmp_path / "ctm") == {"u1": words["u1"][::-1], "u2": words["u2"]}


@pytest.mark.parametrize("line", ["u1 1 0.04 A", "u1 1 x 0.36 A", "u1 1 0.04 0.36 A 0.9", ""])
def test_another_line_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "ctm").write_text(f"u1 1 0.00 0.04 A\n{line}\n")
    with pytest.raises(UserError, match="ctm:2: expected 'utt-id 1 start_s"):
        read_ctm(tmp_path / "ctm")


def test_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="omnirouter.bin.align makes it"):
        read_ctm(tmp_path / "ctm")
