"""Minimum edit distance between a reference and a hypothesis, by words or characters, at unit cost of each edit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from rapidfuzz.distance import Levenshtein

Pairs = list[tuple[str | None, str | None]]
LETTERS = {"equal": "C", "replace": "S", "delete": "D", "insert": "I"}


@dataclass(frozen=True)
class ErrorCounts:
    """Edits that turn references into hypotheses, of one utterance or of many."""

    ref_units: int = 0
    """Words (or characters) of the references."""
    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    utterances: int = 0
    wrong_utterances: int = 0
    """Utterances with at least one error."""

    @property
    def errors(self) -> int:
        """All edits."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def correct(self) -> int:
        """Reference units that the hypothesis has right."""
        return self.ref_units - self.deletions - self.substitutions

    @property
    def percent(self) -> float:
        """The error rate in percent: WER or CER; not a number where the references have no unit at all."""
        return percent_of(self.errors, self.ref_units)

    def __str__(self) -> str:
        """The counts as Kaldi's compute-wer prints them."""
        edits = f"{self.insertions} ins, {self.deletions} del, {self.substitutions} sub"
        return f"%WER {self.percent:.2f} [ {self.errors} / {self.ref_units}, {edits} ]"


def percent_of(part: float, whole: float) -> float:
    """Return `part` in percent of `whole`; not a number if `whole` is 0."""
    return 100.0 * part / whole if whole else float("nan")


def word_units(text: str) -> list[str]:
    """Split a transcript at white space into words."""
    return text.split()


def character_units(text: str) -> str:
    """Return the characters of a transcript; a run of white space counts as one, as in ESPnet, not as none."""
    return " ".join(text.split())


def word_errors(refs: Iterable[str], hyps: Iterable[str]) -> ErrorCounts:
    """Count word errors over transcripts in the same order; `ValueError` if one list is longer."""
    return total(utterance_errors(map(word_units, refs), map(word_units, hyps)))


def utterance_errors(refs: Iterable[Sequence[str]], hyps: Iterable[Sequence[str]]) -> list[ErrorCounts]:
    """Count errors of each utterance between sequences of units (lists of words, or strings of characters)."""
    return [count(operations) for operations in unit_cost_operations(refs, hyps)]


def unit_cost_operations(refs: Iterable[Sequence[str]], hyps: Iterable[Sequence[str]]) -> list[str]:
    """Align each reference with its hypothesis at a cost of 1 for every edit.

    An alignment is a string of operations: C (correct), S (substitution), D (deletion), I (insertion).
    """
    return [_unit_cost(ref, hyp) for ref, hyp in zip(refs, hyps, strict=True)]


def count(operations: str) -> ErrorCounts:
    """Count the operations of one utterance."""
    substitutions, deletions, insertions = map(operations.count, "SDI")
    wrong = int(substitutions + deletions + insertions > 0)
    return ErrorCounts(len(operations) - insertions, insertions, deletions, substitutions, 1, wrong)


def total(counts: Sequence[ErrorCounts]) -> ErrorCounts:
    """Add up the counts of utterances."""
    names = [field.name for field in fields(ErrorCounts)]
    return ErrorCounts(**{name: sum(getattr(count, name) for count in counts) for name in names})


def pairs(ref: Sequence[str], hyp: Sequence[str], operations: str) -> Pairs:
    """Pair units along operations: (a, a) is correct, (a, b) substituted, (None, b) inserted, (a, None) deleted."""
    refs, hyps = iter(ref), iter(hyp)
    return [(None if op == "I" else next(refs), None if op == "D" else next(hyps)) for op in operations]


def _unit_cost(ref: Sequence[str], hyp: Sequence[str]) -> str:
    steps = Levenshtein.opcodes(ref, hyp).as_list()
    return "".join(LETTERS[tag] * max(b - a, d - c) for tag, a, b, c, d in steps)
