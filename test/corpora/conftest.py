"""Damage to files; a miniature of Libriheavy: chapters of LibriSpeech, joined into the recordings of Libri-light."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnirouter.corpora.librispeech import EVAL_PARTS

Cuts = list[dict[str, Any]]
LIBRIHEAVY_FRAMES = {"small": (8008, 12344, 16000), "medium": (9001, 7777), "large": (20000,), "dev": (8000,)}


@pytest.fixture
def damage() -> Callable[[Path, str], None]:
    """A function that spoils a file: it is then empty, truncated or junk."""

    def spoil(path: Path, kind: str) -> None:
        content = path.read_bytes()
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "junk": b"no audio"}[kind])

    return spoil


@pytest.fixture
def sources(tmp_path: Path, write_chapter: Callable[..., None]) -> dict[str, Path]:
    """A chapter for each part of Libriheavy, of a speaker of its own."""
    for speaker, (part, lengths) in enumerate(LIBRIHEAVY_FRAMES.items()):
        utterances = [(f"IT'S TEXT {i} OF {part.upper()}", frames) for i, frames in enumerate(lengths)]
        write_chapter(tmp_path / "sources", str(100 + speaker), part, utterances)
    return {path.name: path for path in (tmp_path / "sources").glob("*/*")}


@pytest.fixture
def corpus(
    tmp_path: Path, sources: dict[str, Path], write_libriheavy: Callable[..., Cuts], write_chapter: Callable[..., None]
) -> Path:
    """All of it, as it is downloaded; the recording of the dev set lies in large."""
    for part, chapter in sources.items():
        write_libriheavy(tmp_path / "corpus", part, [chapter], folder="large" if part == "dev" else part)
    for part in EVAL_PARTS:
        write_chapter(tmp_path / "corpus/LibriSpeech" / part, "7", part.replace("-", ""), [("AS EVER", 8000)])
    return tmp_path / "corpus"
