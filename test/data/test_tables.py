from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_write
from omnirouter.data.tables import read_table, write_table


def test_rest_of_the_line_is_the_value(tmp_path: Path) -> None:
    path = tmp_path / "wav.scp"
    path.write_text('a /x y/it\'s "$(z)".wav\nb\t é  ü.wav \n\u00fc c d', encoding="utf-8")
    assert read_table(path) == {"a": '/x y/it\'s "$(z)".wav', "b": "é  ü.wav", "ü": "c d"}


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("a one\u3000two\nb x\n", encoding="utf-8", newline="")
    assert read_table(path) == {"a": "one\u3000two", "b": "x"}


def test_an_id_may_be_as_long_as_a_file_name_with_a_prefix(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(f"{'ä' * 120} 1\n", encoding="utf-8")
    (key,) = read_table(path)
    with atomic_write(tmp_path / f"fig2_{key}.json") as file:
        file.write("x")
    assert (tmp_path / f"fig2_{key}.json").read_text() == "x"


def test_write_is_sorted_and_reads_back(tmp_path: Path) -> None:
    rows = {"b": "x  y", "a-1": "", "B": "ß"}
    write_table(tmp_path / "t", rows)
    assert (tmp_path / "t").read_bytes() == "B ß\na-1\nb x  y\n".encode()
    assert read_table(tmp_path / "t", allow_empty=True) == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a 1\nb 2\na 3\n", "t:3: duplicate id 'a', first on line 1; "),
        (b"a 1\nb\n", "t:2: empty entry of 'b'; "),
        ("a 1\nb \u00a0\n".encode(), "t:2: empty entry of 'b'; "),
        ("a \u3000 \u2003\n".encode(), "t:1: empty entry of 'a'; "),
        (b"a 1\n\nb 2\n", "t:2: empty line; "),
        (b"a 1\r\nb 2\r\n", "t:1: Windows line ends on 2 lines, from here; convert with: sed"),
        (b"a 1\nb 2\r", "t:2: Windows line end; "),
        (b"a x\nb caf\xe9\n", "t:2: not UTF-8: byte 6 of the line is 0xe9; convert with: iconv"),
        (b"\xef\xbb\xbfa 1\n", "t:1: begins with a byte order mark; "),
        (b"", "t: is empty; "),
        (b" \n", "t: is empty; "),
        (b"a b\x00c\n", r"t:1: the entry of 'a' contains the control or invalid character '\x00'; "),
        (f"a c\n{'ä' * 120}b c\n".encode(), f"t:2: id '{'ä' * 120}b' has 241 bytes in UTF-8, too many for a file "),
        (b"a/b c\n", "t:1: id 'a/b' contains '/', "),
        (b"-rf c\n", "t:1: id '-rf' begins with '-', "),
        (b".. c\n", "t:1: id '..' begins with '.', "),
        (b"a\x1b[1m c\n", r"t:1: id 'a\x1b[1m' contains '\x1b', "),
        ("a\u00a0b c\n".encode(), r"t:1: id 'a\xa0b' contains '\xa0', "),
    ],
)
def test_first_problem_is_raised(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_table(tmp_path / "t")
    assert str(error.value).removeprefix(f"{tmp_path}/").startswith(message)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="t: cannot be read .No such file"):
        read_table(tmp_path / "t")


@pytest.mark.parametrize("row", [("a b", "x"), ("a", "x\ny"), ("a", " x"), ("a", "\udce9"), ("", "x")])
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, row: tuple[str, str]) -> None:
    (tmp_path / "t").write_text("old 1\n")
    with pytest.raises(UserError, match="cannot write the line"):
        write_table(tmp_path / "t", dict([row]))
    assert (tmp_path / "t").read_text() == "old 1\n"
