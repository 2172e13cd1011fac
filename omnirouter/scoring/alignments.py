"""Aligned transcripts of scored sets, read back from `score/per_utt`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnirouter.data.errors import UserError

OPERATIONS = frozenset("CSID")
REPAIR = "remove it and score again (stage 6)"


@dataclass(frozen=True)
class Alignment:
    """An utterance's reference and hypothesis, and the edits between them."""

    ref: list[str]
    hyp: list[str]
    operations: str
    """A letter an edit: C(orrect) and S(ubstitution) take a word of each, D(eletion) and I(nsertion) of one."""

    @property
    def errors(self) -> int:
        """How many edits are not C."""
        return len(self.operations) - self.operations.count("C")


def read_alignments(path: Path) -> dict[str, Alignment]:
    """Read a `per_utt` by utterance id; `UserError` with the line if it is not as scoring writes it."""
    alignments = {}
    for utt_id, (number, rows) in _rows(path).items():
        try:
            alignments[utt_id] = _alignment(rows["ref"], rows["hyp"], rows["op"])
        except (KeyError, ValueError) as error:
            raise UserError(f"{path}:{number}: utterance {utt_id} is not as scoring writes it; {REPAIR}") from error
    return alignments


def check_same_references(sets: Mapping[Path, Mapping[str, Alignment]]) -> None:
    """Raise `UserError` unless all score directories (the keys) have the same utterances and reference words."""
    (first, expected), *others = sets.items()
    for path, alignments in others:
        odd = sorted(
            utt_id
            for utt_id in alignments.keys() | expected.keys()
            if utt_id not in alignments or utt_id not in expected or alignments[utt_id].ref != expected[utt_id].ref
        )
        if odd:
            raise UserError(
                f"{first} and {path} were scored on different references: {len(odd)} utterances, first {odd[0]}; "
                "decode and score both on the same data directory"
            )


def _rows(path: Path) -> dict[str, tuple[int, dict[str, list[str]]]]:
    """Return, by utterance, the number of its first line, and the words of its lines by their second column."""
    found: dict[str, tuple[int, dict[str, list[str]]]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if words := line.split():
            _, rows = found.setdefault(words[0], (number, {}))
            rows["".join(words[1:2])] = words[2:]
    return found


def _alignment(ref: Sequence[str], hyp: Sequence[str], operations: Sequence[str]) -> Alignment:
    """Drop the stars that fill gaps; by the operations, since `***` may be a word."""
    if not OPERATIONS.issuperset(operations):
        raise ValueError("unknown operation")
    columns = list(zip(ref, hyp, operations, strict=True))
    return Alignment(
        ref=[word for word, _, operation in columns if operation != "I"],
        hyp=[word for _, word, operation in columns if operation != "D"],
        operations="".join(operations),
    )
