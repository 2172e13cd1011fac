"""Kaldi's tables, text files of lines `key rest of the line`: one parser, which collects every problem it meets."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_write

CONTROL = r"\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"  # control, line-breaking and half characters, but tab
BAD_IN_ID = re.compile(rf"[/\s{CONTROL}]")
BAD_IN_VALUE = re.compile(rf"[{CONTROL}]")
MOST_ID_BYTES = 240  # a file system's names have 255, of which fig2_<id>.json and the like need some
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SEPARATOR = re.compile(r"[ \t]+")


@dataclass(frozen=True, order=True)
class Problem:
    """Something wrong in a data file: where (line 0: the file as a whole), what, and what to do about it."""

    path: Path
    line: int
    what: str
    fix: str
    is_warning: bool = False

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else f"{self.path}"
        return f"{place}: {'warning: ' if self.is_warning else ''}{self.what}; {self.fix}"


@dataclass
class Table:
    """A table as read: the value and the line number of every key, where it occurs first, and the problems met."""

    path: Path
    rows: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    repeats: list[tuple[int, str, str]] = field(default_factory=list)
    """Line number, key and value where a key occurs again."""
    problems: list[Problem] = field(default_factory=list)
    entries: int = 0
    """Lines with an id, rows that were not kept among them."""

    def every_line(self) -> Iterator[tuple[int, str, str]]:
        """Yield line number, key and value of all lines with a key: the first of each, then the others."""
        yield from ((self.lines[key], key, value) for key, value in self.rows.items())
        yield from self.repeats

    def complain(self, key_or_line: str | int, what: str, fix: str, is_warning: bool = False) -> None:
        """Add a problem at the line of a key, or at a line."""
        line = key_or_line if isinstance(key_or_line, int) else self.lines[key_or_line]
        self.problems.append(Problem(self.path, line, what, fix, is_warning))


def read_table(path: Path | str, allow_empty: bool = False) -> dict[str, str]:
    """Read a table; `UserError` for the first problem. `allow_empty` lets a key stand alone (an empty hypothesis)."""
    table = parse_table(Path(path), allow_empty)
    if table.problems:
        raise UserError(str(table.problems[0]))
    return table.rows


def write_table(path: Path | str, rows: Mapping[str, str]) -> None:
    """Write a table atomically, sorted by key; `UserError` for a key or value that could not be read back."""
    lines = []
    for key, value in sorted(rows.items()):
        reason = id_fault(key) or value_fault(value)
        if reason:
            raise UserError(f"{path}: cannot write the line {key!r} {value!r}: {reason}")
        lines.append(f"{key} {value}\n" if value else f"{key}\n")
    with atomic_write(path) as file:
        file.writelines(lines)


def parse_table(path: Path, allow_empty: bool = False, keep: Container[int] | None = None) -> Table:
    """Read a table whatever its bytes are; a line with a problem still gives its row where it has a key.

    keep: hashes of keys; lines of other keys are passed over, whatever is in them.
    """
    table = Table(path)
    try:
        with open(path, "rb") as file:
            _parse_lines(table, file, allow_empty, keep)
    except OSError as error:
        table.complain(0, f"cannot be read ({error.strerror})", "make this file")
    return table


def _parse_lines(table: Table, file: Iterable[bytes], allow_empty: bool, keep: Container[int] | None) -> None:
    is_blank, windows, first_windows, has_mark = True, 0, 0, False
    for number, raw in enumerate(file, start=1):
        line = raw.removesuffix(b"\n")
        is_blank = is_blank and not line.strip()
        if number == 1 and line.startswith(BYTE_ORDER_MARK):
            table.complain(1, "begins with a byte order mark", "save as UTF-8 without it")
            line, has_mark = line.removeprefix(BYTE_ORDER_MARK), True
        if line.endswith(b"\r"):
            windows, first_windows = windows + 1, first_windows or number
        _parse_line(table, number, line.removesuffix(b"\r"), allow_empty, keep)
    if is_blank:
        table.problems.clear()
        table.complain(0, "is empty", "write a line for each entry")
    elif windows:
        table.problems.insert(int(has_mark), _windows(table.path, windows, first_windows))


def _windows(path: Path, lines: int, first: int) -> Problem:
    """Report Windows line ends once, at the first."""
    what = f"Windows line ends on {lines} lines, from here" if lines > 1 else "Windows line end"
    return Problem(path, first, what, f"convert with: sed -i 's/\\r$//' {path.name}")


def _parse_line(table: Table, number: int, raw: bytes, allow_empty: bool, keep: Container[int] | None) -> None:
    """Add one line's row and problems to the table."""
    try:
        line = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"not UTF-8: byte {error.start + 1} of the line is 0x{raw[error.start]:02x}"
        table.complain(number, what, f"convert with: iconv -f latin1 -t utf-8 {table.path.name} (if it is Latin-1)")
        line = raw.decode("utf-8", errors="replace")
    key, value = split_line(line)
    table.entries += bool(key)
    if not key:
        table.complain(number, "empty line", "remove it")
    elif keep is not None and hash(key) not in keep:
        return
    elif key in table.rows:
        table.complain(
            number, f"duplicate id {key!r}, first on line {table.lines[key]}", "rename or remove one of them"
        )
        table.repeats.append((number, key, value))
        _check_entry(table, number, key, value, allow_empty)
    else:
        table.rows[key], table.lines[key] = value, number
        _check_entry(table, number, key, value, allow_empty)


def _check_entry(table: Table, number: int, key: str, value: str, allow_empty: bool) -> None:
    if reason := id_fault(key):
        table.complain(number, f"id {key!r} {reason}", "rename it in every file of the directory")
    if reason := value_fault(value):
        table.complain(number, f"the entry of {key!r} {reason}", "remove it")
    if not value.strip() and not allow_empty:  # a no-break or an ideographic space is no word either
        noun = "transcript" if table.path.name == "text" else "entry"
        table.complain(number, f"empty {noun} of {key!r}", "add what is missing, or remove this id everywhere")


def split_line(line: str) -> tuple[str, str]:
    """Return a line's key, and its value; either is empty if there is none."""
    key, value = (*SEPARATOR.split(line.strip(" \t"), maxsplit=1), "")[:2]
    return key, value


def id_fault(key: str) -> str | None:
    """Say why `key` cannot be an id; ids become file names and words of a command line."""
    if not key:
        return "is empty"
    if key[0] in "-.":
        return f"begins with {key[0]!r}, which a shell or a file system takes for something else"
    if bad := BAD_IN_ID.search(key):
        return f"contains {bad[0]!r}, which a file name or a table cannot hold"
    if (length := len(key.encode())) > MOST_ID_BYTES:
        return f"has {length} bytes in UTF-8, too many for a file name; {MOST_ID_BYTES} are allowed"
    return None


def value_fault(value: str) -> str | None:
    """Say why `value` cannot be the rest of a line."""
    if value != value.strip(" \t"):
        return "begins or ends with a space"
    if bad := BAD_IN_VALUE.search(value):
        return f"contains the control or invalid character {bad[0]!r}"
    return None
