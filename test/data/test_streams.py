"""Tables read together in blocks: the same rows as when each is read whole, in order, whatever their form."""

from pathlib import Path

import pytest

from omnirouter.data import streams
from omnirouter.data.errors import UserError
from omnirouter.data.streams import read_blocks
from omnirouter.data.tables import read_table

ROWS = {f"utt{i:03d}": f"{i} words  of\u00a0it ä" for i in range(23)}
PLAIN = "".join(f"{key} {value}\n" for key, value in ROWS.items())
FORMS = {
    "plain": PLAIN,
    "without the last line end": PLAIN.removesuffix("\n"),
    "two spaces": PLAIN.replace("utt007 ", "utt007  "),
    "space at the end": PLAIN.replace("\n", " \n", 2),
    "tab": PLAIN.replace(" ", "\t", 1),
    "not in order": "".join(sorted(PLAIN.splitlines(keepends=True), reverse=True)),
    "space at the beginning": " " + PLAIN,
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK_LINES", 5)


def rows_of(paths: list[Path]) -> list[dict[str, str]]:
    """Each table as the blocks have it; checks that these are not larger than asked for."""
    tables: list[dict[str, str]] = [{} for _ in paths]
    for keys, columns in read_blocks(paths):
        assert len(keys) <= 5
        for table, values in zip(tables, columns, strict=True):
            table.update(zip(keys, values, strict=True))
    return tables


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
def test_any_form_of_the_same_tables_gives_the_same_rows(tmp_path: Path, first: str, second: str) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, form in zip(paths, (first, second), strict=True):
        path.write_text(FORMS[form])
    tables = rows_of(paths)
    assert tables == [read_table(path) for path in paths] == [ROWS, ROWS]
    assert [list(table) for table in tables] == [sorted(ROWS)] * 2


def test_only_tables_that_are_not_in_step_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(streams, "read_table", lambda path: read.append(path) or read_table(path))
    for name, form in (("a", "plain"), ("b", "two spaces"), ("c", "not in order")):
        (tmp_path / name).write_text(FORMS[form])
    rows_of([tmp_path / "a", tmp_path / "b"])
    assert read == []
    rows_of([tmp_path / "a", tmp_path / "c"])
    assert read == [tmp_path / "a", tmp_path / "c"]


FAULTS = {
    "duplicate": (PLAIN + "utt022 again\n", r"b:24: duplicate id 'utt022', first on line 23"),
    "empty": (PLAIN.replace("utt007 7 words", "utt007\nutt007x 7 words"), "b:8: empty entry of 'utt007'"),
    "only a no-break space": (PLAIN.replace("7 words  of\u00a0it ä", "\u00a0"), "b:8: empty entry of 'utt007'"),
    "empty line": (PLAIN.replace("utt007", "\nutt007"), "b:8: empty line"),
    "control character": (PLAIN.replace("9 words", "9\x07words"), r"b:10: the entry of 'utt009' contains"),
    "Windows": (PLAIN.replace("\n", "\r\n"), "b:1: Windows line ends on 23 lines"),
    "slash": (PLAIN.replace("utt004", "utt/004"), "b:5: id 'utt/004' contains '/'"),
    "dash": (PLAIN.replace("utt004", "-utt004"), "b:5: id '-utt004' begins with '-'"),
    "long id": (PLAIN.replace("utt022", f"utt022{'ä' * 118}"), "b:23: id 'utt022ä*' has 242 bytes"),
    "one less": (PLAIN.replace("utt022 22", "utt021b 22"), "a and b differ in utt021b"),
    "shorter": (PLAIN[: PLAIN.index("utt020")], "a and b differ in utt020"),
    "nothing": ("", "b: is empty"),
    "latin": (PLAIN.encode().replace(b"3 words", b"3 w\xf6rds"), "b:4: not UTF-8"),
}


@pytest.mark.parametrize("content, message", FAULTS.values(), ids=FAULTS.keys())
def test_faults_have_the_messages_of_read_table(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "a").write_text(PLAIN)
    (tmp_path / "b").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        rows_of([tmp_path / "a", tmp_path / "b"])


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: cannot be read"):
        rows_of([tmp_path / "nowhere"])


def test_a_long_id_is_refused_in_tables_in_step_and_is_among_those_to_look_at(tmp_path: Path) -> None:
    long = "utt022" + "ä" * 118
    (tmp_path / "a").write_text(PLAIN.replace("utt022", long))
    with pytest.raises(UserError, match="a:23: id 'utt022ä*' has 242 bytes"):
        rows_of([tmp_path / "a", tmp_path / "a"])
    assert [key for _, _, odd in streams.read_rows(tmp_path / "a") for key in odd] == [long]


@pytest.mark.parametrize("other", ["u2 x", "u2\tx"], ids=["plain", "with a tab"])
@pytest.mark.parametrize("bad", ["u1 \u3000", "u1 \u00a0 \u2003 ", "u1"])
def test_an_entry_without_words_is_among_those_to_look_at(tmp_path: Path, other: str, bad: str) -> None:
    (tmp_path / "text").write_text(f"u0 a\u00a0b\n{bad}\n{other}\n")
    assert [odd for _, _, odd in streams.read_rows(tmp_path / "text")] == [["u1"]]
