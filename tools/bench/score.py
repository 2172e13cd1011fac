"""Error rates of a large test set, aligned, with their intervals."""

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import ascii_lowercase

from bench.report import Report, worst
from bench.settings import Settings
from bench.timing import spread
from omnirouter.data.datadir import write_table
from omnirouter.scoring.bootstrap import REPLICAS, bootstrap_interval
from omnirouter.scoring.report import ALIGNERS, RATE_FILES, score_decoding
from omnirouter.scoring.wer import count

UTTERANCES, QUICK_UTTERANCES = 100_000, 1000
WORDS, TYPES, LETTERS, ERROR_RATE, UTTERANCES_OF_A_SPEAKER = 20, 10_000, 8, 0.1, 50
MOST_S = 60.0
REPEATS = 3


def run(settings: Settings) -> list[Report]:
    """Time alignment with its intervals, and the scoring of a set as a whole."""
    utterances = QUICK_UTTERANCES if settings.quick else UTTERANCES
    refs, hyps = word_lists(utterances)
    speakers = [f"speaker{i // UTTERANCES_OF_A_SPEAKER}" for i in range(utterances)]
    repeats = min(REPEATS, settings.repeats)
    return [_alignment(refs, hyps, speakers, repeats), _whole(refs, hyps, speakers, repeats)]


def _alignment(refs: list[list[str]], hyps: list[list[str]], speakers: list[str], repeats: int) -> Report:
    """Time alignment by words and by characters, and the intervals by utterance and by speaker."""
    joined = [" ".join(words) for words in refs], [" ".join(words) for words in hyps]
    cases = [("words", name, refs, hyps) for name in ALIGNERS] + [("characters", "unit", *joined)]
    rows, figures = [], []
    for units, aligner, *sides in cases:
        measured = [_measure(aligner, *sides, speakers) for _ in range(repeats)]
        aligning, intervals = (spread(times) for times in zip(*measured, strict=True))
        both = spread([sum(times) for times in measured])
        rows.append([f"{units}, {aligner} cost", *map(str, (aligning, intervals, both))])
        figures.append((f"{units}, {aligner} cost", both.median))
    note = (
        f"{len(refs):,d} utterances of {WORDS} words, {ERROR_RATE:.0%} of them wrong; one core. Intervals by "
        f"utterance and by speaker, {REPLICAS} replicas each. Texts are not normalised. Medians [10 %, 90 %]."
    )
    header = ["alignment of", "aligning s", "intervals s", "both s"]
    return Report("Scoring: alignment and intervals", header, rows, worst("seconds", figures, MOST_S), [note])


def _whole(refs: list[list[str]], hyps: list[list[str]], speakers: list[str], repeats: int) -> Report:
    """Time what `bin/score` does, from the files that it reads to those that it writes."""
    with _decoded_set(refs, hyps, speakers) as folder:
        seconds = spread([_score(folder) for _ in range(repeats)])
    note = (
        f"What `python -m omnirouter.bin.score` does once it has started: it reads {len(refs):,d} utterances as above, "
        f"normalises both sides, aligns for {', '.join(RATE_FILES)}, takes the intervals of each and writes all files. "
        "One core. Median [10 %, 90 %]."
    )
    per_1000_s = f"{1000 * seconds.median / len(refs):.3f}"
    rows = [[f"{len(refs):,d} utterances, normalisation included", str(seconds), per_1000_s]]
    return Report("Scoring: a set as a whole", ["scoring of", "s", "s per 1000"], rows, notes=[note])


@contextmanager
def _decoded_set(refs: list[list[str]], hyps: list[list[str]], speakers: list[str]) -> Iterator[Path]:
    """Write the tables of a set and its hypotheses into a folder, as long as it is needed."""
    utt_ids = [f"utt{i:06d}" for i in range(len(refs))]
    tables = {
        "data/text": [" ".join(words) for words in refs],
        "data/utt2spk": speakers,
        "data/utt2dur": [f"{0.4 * len(words):.2f}" for words in refs],
        "hyp": [" ".join(words) for words in hyps],
    }
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "data").mkdir()
        for name, column in tables.items():
            write_table(Path(folder, name), dict(zip(utt_ids, column, strict=True)))
        yield Path(folder)


def _score(folder: Path) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    score_decoding(folder / "data", folder / "hyp", folder / "score")
    return time.perf_counter() - started


def word_lists(utterances: int) -> tuple[list[list[str]], list[list[str]]]:
    """References of random words, and hypotheses with substitutions, deletions and insertions in equal parts."""
    generator = random.Random(0)
    words = ["".join(generator.choices(ascii_lowercase, k=LETTERS)) for _ in range(TYPES)]
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
