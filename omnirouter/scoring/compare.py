"""Comparison of two experiments on one set, as text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from omnirouter.scoring.decodings import Decoding, check_same_set, find_decoding, read_decodings
from omnirouter.scoring.paired import Difference, matched_pairs, over_seeds, paired_bootstrap
from omnirouter.scoring.report import RATE_FILES
from omnirouter.scoring.seeds import check_distinct

EXPLANATION = """\
Intervals at 95 %. By utterance, by speaker: were other utterances, or other speakers, drawn, the same for A and B
(paired bootstrap); the probability that A beats B is the share of such draws in which it has fewer errors.
Matched pairs: two-sided test of no difference in the errors of an utterance (Gillick and Cox, 1989)."""
SEEDS_EXPLANATION = "By seed: were other seeds trained, on these utterances (Welch's t-test)."


def compare(names_A: Sequence[str], names_B: Sequence[str], set_name: str | None, exp: Path, rate: str) -> str:
    """Compare A and B, each one experiment or several seeds of one; return the text to print.

    Names are those of decode directories, or of experiments and then with `set_name`; see `find_decoding`. `UserError`
    where the two were not scored on the same utterances, or have a decode directory in common.
    """
    folders_A, folders_B = ([find_decoding(name, set_name, exp) for name in names] for names in (names_A, names_B))
    check_distinct([*folders_A, *folders_B])
    a, b = read_decodings(folders_A, rate), read_decodings(folders_B, rate)
    check_same_set(a, b)
    counts = f"{len(a.utt_ids)} utterances of {len(set(a.speakers))} speakers, {a.units_U.sum()} units"
    several = min(len(a.errors_SU), len(b.errors_SU)) > 1
    lines = [f"{counts}: {RATE_FILES[rate]}", "", *_system("A", a), *_system("B", b), "", *_difference(a, b)]
    lines += [_by_seed(a, b)] if several else []
    return "\n".join([*lines, "", EXPLANATION, *([SEEDS_EXPLANATION] if several else [])])


def _system(letter: str, decoding: Decoding) -> list[str]:
    """Return the line of A or B: its error rate, and that of each seed."""
    percent_S = decoding.percent_S
    each = f", mean of {', '.join(f'{p:.2f}' for p in percent_S)}" if len(percent_S) > 1 else ""
    return [f"{letter}  {percent_S.mean():6.2f} %  {decoding.name}{each}"]


def _difference(a: Decoding, b: Decoding) -> list[str]:
    by_utterance = paired_bootstrap(a.errors_U, b.errors_U, a.units_U)
    by_speaker = paired_bootstrap(a.errors_U, b.errors_U, a.units_U, a.speakers)
    statistic, p = matched_pairs(a.errors_U, b.errors_U)
    relative = 100.0 * by_utterance.points / np.mean(b.percent_S) if np.mean(b.percent_S) else np.nan
    return [
        f"A - B         {by_utterance.points:+.2f} points, {relative:+.1f} % of B",
        f"by utterance  {_interval(by_utterance)}",
        f"by speaker    {_interval(by_speaker) if len(set(a.speakers)) > 1 else 'one speaker: no interval'}",
        f"matched pairs t = {statistic:.2f}, p = {p:.2g}",
    ]


def _interval(difference: Difference) -> str:
    return f"[{difference.low:+.2f}, {difference.high:+.2f}], A beats B with probability {difference.probability:.4f}"


def _by_seed(a: Decoding, b: Decoding) -> str:
    low, high, p = over_seeds(a.percent_S, b.percent_S)
    return f"by seed       [{low:+.2f}, {high:+.2f}], p = {p:.2g}"
