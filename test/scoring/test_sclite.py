"""Alignment at sclite's costs: by hand, by the whole table, and against NIST's program where it is installed."""

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from omnirouter.scoring import sclite
from omnirouter.scoring.sclite import sclite_operations
from omnirouter.scoring.wer import count, pairs

SCLITE = shutil.which("sclite") or "/usr/lib/sctk/bin/sclite"  # Debian's package sctk puts it there
BY_HAND = [
    ("a b c", "a b c", "CCC"),
    ("a b c", "", "DDD"),
    ("", "a b", "II"),
    ("", "", ""),
    ("a", "b", "S"),  # 4, against 6 for an insertion and a deletion
    ("a b c d", "c d e f", "DDCCII"),  # 12, against 16 for four substitutions
    ("a b c", "c d e", "SSS"),  # 12 either way: pairs of words come first
    ("x y", "y", "DC"),
    ("a", "b c", "IS"),  # the pair at the end
    ("x a b", "a y z", "DCIS"),  # 10, against 12; the insertion first, since at the end pairs come first
    ("x a b c", "a y z", "DCSS"),  # 11, against 15
    ("b d b a c d b c", "c c a", "DDDDCDDCI"),
]


def texts(number: int, words: str, longest: int, seed: int) -> list[list[str]]:
    """Texts of few types, so that equally good alignments abound."""
    generator = random.Random(seed)
    return [generator.choices(words, k=generator.randint(0, longest)) for _ in range(number)]


def table_alignment(ref: list[str], hyp: list[str]) -> str:
    """The slow and obvious way: fill the whole table of costs, then go back from its end."""
    cost = {(i, 0): 3 * i for i in range(len(ref) + 1)} | {(0, j): 3 * j for j in range(len(hyp) + 1)}
    step = {(i, 0): "D" for i in range(len(ref) + 1)} | {(0, j): "I" for j in range(len(hyp) + 1)}
    for i in range(1, len(ref) + 1):
        for j in range(1, len(hyp) + 1):
            same = ref[i - 1] == hyp[j - 1]
            ways = [
                (cost[i - 1, j - 1] + (0 if same else 4), 0, "C" if same else "S"),
                (cost[i, j - 1] + 3, 1, "I"),
                (cost[i - 1, j] + 3, 2, "D"),
            ]
            cost[i, j], _, step[i, j] = min(ways)
    i, j, operations = len(ref), len(hyp), ""
    while i or j:
        operations += step[i, j]
        i, j = i - (operations[-1] != "I"), j - (operations[-1] != "D")
    return operations[::-1]


@pytest.mark.parametrize(("ref", "hyp", "operations"), BY_HAND)
def test_hand_made_cases(ref: str, hyp: str, operations: str) -> None:
    assert sclite_operations([ref.split()], [hyp.split()]) == [operations]


@pytest.mark.parametrize("most_cells", [1, 500, sclite.MOST_CELLS])
def test_the_whole_table_gives_the_same(monkeypatch: pytest.MonkeyPatch, most_cells: int) -> None:
    monkeypatch.setattr(sclite, "MOST_CELLS", most_cells)
    refs, hyps = texts(300, "abc", 12, seed=1), texts(300, "abc", 12, seed=2)
    refs[7], hyps[7] = ["a"] * 60, ["b", "a"] * 30
    assert sclite_operations(refs, hyps) == list(map(table_alignment, refs, hyps))


def test_characters_too() -> None:
    assert sclite_operations(["abcd", "x"], ["cdef", "x"]) == ["DDCCII", "C"]
    assert sclite_operations([], []) == []


def sclites(refs: list[list[str]], hyps: list[list[str]], folder: Path) -> list[tuple[list[int], list[list[str]]]]:
    """NIST sclite's counts (correct, substituted, deleted, inserted) and aligned lines of each utterance."""
    for name, lists in (("ref", refs), ("hyp", hyps)):
        lines = (f"{' '.join(words)} (s{i % 3}-{i:06})\n" for i, words in enumerate(lists))
        (folder / name).write_text("".join(lines))
    command = [SCLITE, "-s", "-i", "spu_id", "-r", "ref", "trn", "-h", "hyp", "trn", "-o", "pralign", "stdout"]
    printed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    pattern = r"id: \(s\d-(\d+)\)\nScores: \(#C #S #D #I\) (.*)\n(?:Attributes.*\n)?REF: (.*)\nHYP: (.*)\n"
    found = {
        int(m[1]): (list(map(int, m[2].split())), [m[3].split(), m[4].split()]) for m in re.finditer(pattern, printed)
    }
    assert sorted(found) == list(range(len(refs)))
    return [found[i] for i in range(len(refs))]


def lines_of(ref: list[str], hyp: list[str], operations: str) -> list[list[str]]:
    """Both sides as sclite prints them: stars, as wide as the other word, where a side has none."""
    pairs_ = pairs(ref, hyp, operations)
    return [[pair[side] or "*" * len(pair[1 - side] or "") for pair in pairs_] for side in (0, 1)]


@pytest.mark.skipif(not Path(SCLITE).exists(), reason="NIST sclite is not installed (Debian: sctk)")
@pytest.mark.parametrize(("words", "longest"), [("ab", 8), ("abcd", 14), ("abcdefghijklmnopq", 30)])
def test_counts_and_alignments_equal_nist_sclites(tmp_path: Path, words: str, longest: int) -> None:
    refs, hyps = texts(700, words, longest, seed=3), texts(700, words, longest, seed=4)
    refs = [ref or ["a"] for ref in refs]
    generator = random.Random(5)
    for i in range(0, 700, 2):  # half of them near the reference, as recognisers are
        hyps[i] = [word if generator.random() < 0.8 else generator.choice(words + "A") for word in refs[i]]
        hyps[i] = [word for word in hyps[i] for _ in range(generator.choice([0, 1, 1, 1, 1, 2]))]
    ours = sclite_operations(refs, hyps)
    for ref, hyp, operations, (counts, lines) in zip(refs, hyps, ours, sclites(refs, hyps, tmp_path), strict=True):
        c = count(operations)
        assert [c.correct, c.substitutions, c.deletions, c.insertions] == counts
        assert lines_of(ref, hyp, operations) == lines
