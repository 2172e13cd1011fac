"""Alignment as NIST's sclite makes it: a substitution costs 4, an insertion or a deletion 3."""

from collections.abc import Iterable, Sequence

import numpy as np

SUBSTITUTION, GAP = 4, 3
MOST_CELLS = 10_000_000
"""Of the cost tables in memory at a time."""
NEVER = 1 << 20
"""More than any cost, for a step out of the table."""
LETTERS = np.frombuffer(b"CSDI", np.uint8)


def sclite_operations(refs: Iterable[Sequence[str]], hyps: Iterable[Sequence[str]]) -> list[str]:
    """Align each reference with its hypothesis at sclite's costs; see `unit_cost_operations` for what is returned.

    Of several cheapest alignments it is sclite's own: from the end, first a pair of words, then an insertion, then a
    deletion. Words are compared as with its option -s, as they are; what it reads into { / } and ( ) is left alone.
    """
    pairs = list(zip(refs, hyps, strict=True))
    numbers: dict[str, int] = {}
    coded = [[[numbers.setdefault(unit, len(numbers)) for unit in side] for side in pair] for pair in pairs]
    order = sorted(range(len(pairs)), key=lambda i: (len(coded[i][0]), len(coded[i][1])))
    operations = [""] * len(pairs)
    for batch in _batches([coded[i] for i in order]):
        places, order = order[: len(batch)], order[len(batch) :]
        for place, text in zip(places, _align(batch), strict=True):
            operations[place] = text
    return operations


def _batches(pairs: list[list[list[int]]]) -> Iterable[list[list[list[int]]]]:
    """Cut a list, shortest references first, so that a batch's padded cost tables have at most MOST_CELLS."""
    batch: list[list[list[int]]] = []
    longest = 0
    for pair in pairs:
        wider = max(longest, len(pair[1]))
        if batch and (len(batch) + 1) * (len(pair[0]) + 1) * (wider + 1) > MOST_CELLS:
            yield batch
            batch, wider = [], len(pair[1])
        batch.append(pair)
        longest = wider
    if batch:
        yield batch


def _align(pairs: list[list[list[int]]]) -> list[str]:
    """Align pairs of coded sequences, all at once."""
    ref_NR, ref_lengths = _padded([ref for ref, _ in pairs], -1)
    hyp_NH, hyp_lengths = _padded([hyp for _, hyp in pairs], -2)
    cost_NRH = _costs(ref_NR, hyp_NH)
    at, i, j = np.arange(len(pairs)), ref_lengths.copy(), hyp_lengths.copy()
    steps = []
    while (i + j).any():
        differ = ref_NR[at, i - 1] != hyp_NH[at, j - 1]
        pair = np.where((i > 0) & (j > 0), cost_NRH[at, i - 1, j - 1] + SUBSTITUTION * differ, NEVER)
        deletion = np.where(i > 0, cost_NRH[at, i - 1, j] + GAP, NEVER)
        insertion = np.where(j > 0, cost_NRH[at, i, j - 1] + GAP, NEVER)
        kind = np.where(pair <= np.minimum(deletion, insertion), differ, np.where(deletion < insertion, 2, 3))
        steps.append(np.where(i + j > 0, LETTERS[kind], 0))
        i, j = np.maximum(i - (kind != 3), 0), np.maximum(j - (kind != 2), 0)
    letters_NS = np.stack(steps[::-1], axis=1) if steps else np.zeros((len(pairs), 0))
    return [row.tobytes().replace(b"\0", b"").decode() for row in letters_NS.astype(np.uint8)]


def _costs(ref_NR: np.ndarray, hyp_NH: np.ndarray) -> np.ndarray:
    """Return the least cost of each beginning of the reference and each of the hypothesis, N × (R + 1) × (H + 1).

    Along a row, insertions make a running minimum: cost[j] = min over k ≤ j of best[k] + GAP (j - k).
    """
    n, rows, columns = len(ref_NR), ref_NR.shape[1], hyp_NH.shape[1]
    ramp_H = GAP * np.arange(columns + 1, dtype=np.int32)
    cost_NRH = np.empty((n, rows + 1, columns + 1), np.int32)
    cost_NRH[:, 0] = ramp_H
    for row in range(rows):
        above_NH = cost_NRH[:, row]
        best_NH = above_NH + GAP
        pair_NH = above_NH[:, :-1] + SUBSTITUTION * (ref_NR[:, row, None] != hyp_NH)
        best_NH[:, 1:] = np.minimum(best_NH[:, 1:], pair_NH)
        cost_NRH[:, row + 1] = np.minimum.accumulate(best_NH - ramp_H, axis=1) + ramp_H
    return cost_NRH


def _padded(sequences: list[list[int]], filler: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sequences as rows of one array, at least one column wide, and their lengths."""
    lengths = np.array([len(sequence) for sequence in sequences])
    padded = np.full((len(sequences), max(lengths.max(), 1)), filler, np.int32)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = [unit for sequence in sequences for unit in sequence]
    return padded, lengths
