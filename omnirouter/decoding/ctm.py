"""Word times in NIST's CTM format: lines `utt-id 1 start_s duration_s WORD`, an utterance being its own recording."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_write

CHANNEL = "1"


@dataclass(frozen=True)
class Word:
    """One word and where it is heard, in seconds from the beginning of its utterance."""

    start_s: float
    duration_s: float
    text: str


def write_ctm(path: Path, words: Mapping[str, Sequence[Word]]) -> None:
    """Write the words of utterances, by utterance id, then time; an utterance without words has no line."""
    with atomic_write(path) as file:
        for utt_id in sorted(words):
            for word in sorted(words[utt_id], key=lambda word: word.start_s):
                file.write(f"{utt_id} {CHANNEL} {word.start_s:.2f} {word.duration_s:.2f} {word.text}\n")


def read_ctm(path: Path) -> dict[str, list[Word]]:
    """Read the words of utterances, by utterance id, in the order of the file; `UserError` for a line that is none."""
    words: dict[str, list[Word]] = {}
    if not path.is_file():
        raise UserError(f"{path} does not exist; python -m omnirouter.bin.align makes it")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            utt_id, _, start_s, duration_s, text = line.split()
            words.setdefault(utt_id, []).append(Word(float(start_s), float(duration_s), text))
        except ValueError as error:
            raise UserError(f"{path}:{number}: expected 'utt-id 1 start_s duration_s WORD', found {line!r}") from error
    return words
