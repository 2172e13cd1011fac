"""Error rates of a large test set, aligned, with their intervals."""

import random
import time
from collections.abc import Sequence

from bench.report import Report, worst
from bench.settings import Settings
from bench.timing import spread
from omnirouter.scoring.bootstrap import REPLICAS, bootstrap_interval
from omnirouter.scoring.report import ALIGNERS
from omnirouter.scoring.wer import count

UTTERANCES, QUICK_UTTERANCES = 100_000, 1000
WORDS, TYPES, ERROR_RATE, UTTERANCES_OF_A_SPEAKER = 20, 10_000, 0.1, 50
MOST_S = 60.0
REPEATS = 3


def run(settings: Settings) -> list[Report]:
    """Time alignment by words and by characters, and the intervals by utterance and by speaker."""
    utterances = QUICK_UTTERANCES if settings.quick else UTTERANCES
    refs, hyps = word_lists(utterances)
    speakers = [f"speaker{i // UTTERANCES_OF_A_SPEAKER}" for i in range(utterances)]
    joined = [" ".join(words) for words in refs], [" ".join(words) for words in hyps]
    cases = [("words", name, refs, hyps) for name in ALIGNERS] + [("characters", "unit", *joined)]
    rows, figures = [], []
    for units, aligner, *sides in cases:
        measured = [_measure(aligner, *sides, speakers) for _ in range(min(REPEATS, settings.repeats))]
        aligning, intervals = (spread(times) for times in zip(*measured, strict=True))
        both = spread([sum(times) for times in measured])
        rows.append([f"{units}, {aligner} cost", *map(str, (aligning, intervals, both))])
        figures.append((f"{units}, {aligner} cost", both.median))
    note = (
        f"{utterances:,d} utterances of {WORDS} words, {ERROR_RATE:.0%} of them wrong; one core. Intervals by "
        f"utterance and by speaker, {REPLICAS} replicas each. Texts are not normalised. Medians [10 %, 90 %]."
    )
    header = ["alignment of", "aligning s", "intervals s", "both s"]
    return [Report("Scoring", header, rows, worst("seconds", figures, MOST_S), [note])]


def word_lists(utterances: int) -> tuple[list[list[str]], list[list[str]]]:
    """References of random words, and hypotheses with substitutions, deletions and insertions in equal parts."""
    generator = random.Random(0)
    words = [f"word{i}" for i in range(TYPES)]
    refs = [generator.choices(words, k=WORDS) for _ in range(utterances)]
    return refs, [[heard for word in ref for heard in _hear(word, words, generator)] for ref in refs]


def _hear(word: str, words: Sequence[str], generator: random.Random) -> list[str]:
    if generator.random() >= ERROR_RATE:
        return [word]
    return generator.choice([[], [generator.choice(words)], [word, generator.choice(words)]])


def _measure(
    aligner: str, refs: Sequence[Sequence[str]], hyps: Sequence[Sequence[str]], speakers: list[str]
) -> tuple[float, float]:
    """Seconds of the alignment and its counts, and of the two intervals."""
    started = time.perf_counter()
    counts = list(map(count, ALIGNERS[aligner][0](refs, hyps)))
    aligned = time.perf_counter()
    bootstrap_interval(counts)
    bootstrap_interval(counts, speakers)
    return aligned - started, time.perf_counter() - aligned
