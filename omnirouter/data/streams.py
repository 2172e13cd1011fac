"""Large tables read together, block by block, so that no Python object is kept for each of millions of utterances."""

import itertools
import operator
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from omnirouter.data.errors import UserError
from omnirouter.data.tables import (
    BAD_IN_ID,
    BYTE_ORDER_MARK,
    MOST_ID_BYTES,
    id_fault,
    read_table,
    split_line,
    value_fault,
)

BLOCK_LINES = 1 << 15
ODD = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")  # what `parse_table` complains about, and tabs
Block = tuple[list[str], list[list[str]]]


def read_blocks(paths: Sequence[Path]) -> Iterator[Block]:
    """Yield ids, in their order, and for each table the values of these ids; `UserError` for a fault in a table.

    All tables must have the same ids. Where they have them line by line and in order, as all do that this package
    writes, only a block is in memory; other tables are read whole, at about 300 bytes an entry.
    """
    if _in_step(paths):
        yield from _stream(paths)
    else:
        yield from _sorted_blocks(paths)


def read_values(path: Path) -> Iterator[str]:
    """Yield the values of a table by itself, as `read_blocks` does."""
    for _, (values,) in read_blocks([path]):
        yield from values


def read_rows(path: Path, block_lines: int = 0) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """Yield, block by block and in the order of lines, ids, their values, and which ids `parse_table` complains about.

    Among these is the empty one where a line has no id, or something is wrong with the whole file. An id that occurs
    again is no complaint here. block_lines: how many lines are read together (0: `BLOCK_LINES`).
    """
    entries, is_first = 0, True
    try:
        with open(path, "rb") as file:
            while lines := list(itertools.islice(file, block_lines or BLOCK_LINES)):
                keys, values, odd = _rows(lines, is_first)
                entries, is_first = entries + len(keys), False
                yield keys, values, odd
    except OSError:
        pass
    if not entries:
        yield [], [], [""]


def _rows(lines: list[bytes], is_first: bool) -> tuple[list[str], list[str], list[str]]:
    lines, is_windows = [line.removesuffix(b"\n") for line in lines], False
    has_mark = is_first and lines[0].startswith(BYTE_ORDER_MARK)
    if has_mark:
        lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
    if b"\r" in b"".join(lines):
        is_windows, lines = True, [line.removesuffix(b"\r") for line in lines]
    try:
        keys, values = _parse([line.decode() for line in lines])
        odd = [key for key in keys if id_fault(key)] if _has_bad_id(keys) else []
    except ValueError:
        keys, values, odd = _odd_rows(lines)
    return keys, values, [*odd, ""] if has_mark or is_windows else odd


def _has_bad_id(keys: list[str]) -> bool:
    """Tell whether any of many ids has a fault: as `id_fault`, but quick."""
    longest = max(map(len, map(str.encode, keys)))
    return longest > MOST_ID_BYTES or bool(BAD_IN_ID.search("".join(keys))) or any(key[0] in "-." for key in keys)


def _odd_rows(lines: list[bytes]) -> tuple[list[str], list[str], list[str]]:
    """Read lines one by one, exactly as `parse_table`."""
    keys, values, odd = [], [], []
    for raw in lines:
        line = raw.decode(errors="replace")
        key, value = split_line(line)
        if key:
            keys.append(key)
            values.append(value)
        if not (key and value.strip()) or id_fault(key) or value_fault(value) or line.encode() != raw:
            odd.append(key)
    return keys, values, odd


def _stream(paths: Sequence[Path]) -> Iterator[Block]:
    """Read plain tables in step; `ValueError` where a line is not plainly `id value`, or the ids differ."""
    files = [open(path, encoding="utf-8", newline="\n") for path in paths]
    try:
        while True:
            parsed = [_parse(list(itertools.islice(file, BLOCK_LINES))) for file in files]
            keys = parsed[0][0]
            if any(other != keys for other, _ in parsed[1:]):
                raise ValueError("the tables do not have the same ids line by line")
            if not keys:
                return
            yield keys, [values for _, values in parsed]
    finally:
        for file in files:
            file.close()


def _parse(lines: list[str]) -> tuple[list[str], list[str]]:
    text = "".join(lines)
    if not text.replace("\n", " ").isprintable() and ODD.search(text):
        raise ValueError("a tab or a control character")
    pairs = [line.partition(" ") for line in lines]
    keys, values = [pair[0] for pair in pairs], [pair[2].strip(" \n") for pair in pairs]
    if not (all(keys) and all(map(str.strip, values))):
        raise ValueError("a line without id or value")
    return keys, values


def _in_step(paths: Sequence[Path]) -> bool:
    """Tell whether the tables are plain and have the same ids line by line, in order and none twice."""
    last = ""
    try:
        for keys, _ in _stream(paths):
            in_order = last < keys[0] and all(map(operator.lt, keys, itertools.islice(keys, 1, None)))
            if not in_order or _has_bad_id(keys):
                return False
            last = keys[-1]
    except (OSError, ValueError):  # of which UnicodeDecodeError is one
        return False
    return bool(last)


def _sorted_blocks(paths: Sequence[Path]) -> Iterator[Block]:
    tables = [read_table(path) for path in paths]
    for path, table in zip(paths[1:], tables[1:], strict=True):
        if table.keys() != tables[0].keys():
            odd = min(table.keys() ^ tables[0].keys())
            raise UserError(f"{paths[0].parent}: {paths[0].name} and {path.name} differ in {odd}; run stage 2 again")
    keys = sorted(tables[0])
    for start in range(0, len(keys), BLOCK_LINES):
        block = keys[start : start + BLOCK_LINES]
        yield block, [[table[key] for key in block] for table in tables]
