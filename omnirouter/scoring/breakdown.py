"""Tables of a score directory that break the word errors down: by words confused, by utterance duration."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from omnirouter.scoring.bootstrap import bootstrap_interval
from omnirouter.scoring.wer import ErrorCounts, Pairs, percent_of, total

MOST_CONFUSIONS = 100
NOTHING = "***"  # stands in an alignment where a side has no word, as in Kaldi's per_utt
NO_RATE = "–"


def confusion_table(alignments: Mapping[str, Pairs]) -> str:
    """Return the most frequent errors of all kinds: how often, their share, how often the reference has the word."""
    found = Counter((ref or NOTHING, hyp or NOTHING) for pairs in alignments.values() for ref, hyp in pairs)
    occurs: Counter[str] = Counter()
    for (ref, _), n in found.items():
        occurs[ref] += n
    wrong = sorted((-n, ref, hyp) for (ref, hyp), n in found.items() if ref != hyp)
    errors = -sum(n for n, _, _ in wrong)
    rows = [("count", "share", "of", "reference", "hypothesis")]
    for n, ref, hyp in wrong[:MOST_CONFUSIONS]:
        of = NO_RATE if ref == NOTHING else str(occurs[ref])
        rows.append((str(-n), f"{percent_of(-n, errors):.1f}%", of, ref, hyp))
    return _table(rows, left=2)


def duration_table(utterances: Mapping[str, ErrorCounts], durations_s: Mapping[str, float]) -> str:
    """Return error rates of utterances of 0.5 to 1 s, 1 to 2 s, 2 to 4 s and so on, with their 95 % intervals.

    Both mappings have the same utterance ids. An interval is by utterance.
    """
    by_octave: dict[int, list[ErrorCounts]] = {}
    for utt_id, counts in utterances.items():
        octave = math.floor(math.log2(durations_s[utt_id]))
        by_octave.setdefault(octave, []).append(counts)
    rows = [("seconds", "utterances", "words", "WER %", "95 % interval", "ins", "del", "sub")]
    for octave, members in sorted(by_octave.items()):
        rows.append((f"{2.0**octave:g} to {2.0 ** (octave + 1):g}", *_rate_cells(members)))
    return _table([*rows, ("all", *_rate_cells(list(utterances.values())))], left=0)


def _rate_cells(utterances: Sequence[ErrorCounts]) -> tuple[str, ...]:
    counts = total(utterances)
    low, high = bootstrap_interval(utterances)
    rate = (f"{counts.percent:.2f}", f"{low:.2f} to {high:.2f}") if counts.ref_units else (NO_RATE, NO_RATE)
    edits = (counts.insertions, counts.deletions, counts.substitutions)
    return str(counts.utterances), str(counts.ref_units), *rate, *map(str, edits)


def _table(rows: Sequence[Sequence[str]], left: int) -> str:
    """Return lines of columns set to the right, but the last `left` ones to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first_left = len(widths) - left
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if place < first_left else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)
