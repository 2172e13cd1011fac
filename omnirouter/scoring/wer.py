"""Minimum edit distance between a reference and a hypothesis, by words or characters, at unit cost of each edit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest

from rapidfuzz.distance import Levenshtein


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
    return [_count(ref, hyp) for ref, hyp in zip(refs, hyps, strict=True)]


def total(counts: Sequence[ErrorCounts]) -> ErrorCounts:
    """Add up the counts of utterances."""
    names = [field.name for field in fields(ErrorCounts)]
    return ErrorCounts(**{name: sum(getattr(count, name) for count in counts) for name in names})


def align(ref: Sequence[str], hyp: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """Pair the units of a reference and a hypothesis along the edits that `utterance_errors` counts.

    `(a, a)` is correct, `(a, b)` a substitution, `(None, b)` an insertion, `(a, None)` a deletion.
    """
    pairs: list[tuple[str | None, str | None]] = []
    for step in Levenshtein.opcodes(ref, hyp):
        pairs += zip_longest(ref[step.src_start : step.src_end], hyp[step.dest_start : step.dest_end])
    return pairs


def _count(ref: Sequence[str], hyp: Sequence[str]) -> ErrorCounts:
    tags = [edit[0] for edit in Levenshtein.editops(ref, hyp).as_list()]
    insertions, deletions, substitutions = (tags.count(tag) for tag in ("insert", "delete", "replace"))
    return ErrorCounts(len(ref), insertions, deletions, substitutions, 1, int(bool(tags)))
