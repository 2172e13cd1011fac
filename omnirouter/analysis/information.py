"""Mutual information between experts and labels, and how much of it chance alone would show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omnirouter.analysis.assignments import Assignments
from omnirouter.analysis.labels import UNKNOWN, Labels

SHUFFLES = 20
SEED = 0


@dataclass(frozen=True)
class Information:
    """What the experts of one MoE layer and one kind of label tell of each other."""

    label: str
    layer: int
    bits: float
    """Mutual information, as counted (plug-in), in bits a token."""
    chance_bits: float
    """Its mean over shuffled labels."""
    chance_highest_bits: float
    """Its highest value over shuffled labels."""
    expert_bits: float
    """Entropy of the experts."""
    label_bits: float
    """Entropy of the labels."""
    tokens: int

    @property
    def normalised(self) -> float:
        """Mutual information above chance, as a share of the most that it could be: 0 chance, 1 one tells the other.

        0 where either never varies.
        """
        most = min(self.expert_bits, self.label_bits) - self.chance_bits
        return (self.bits - self.chance_bits) / most if most > 0 else 0.0


def mutual_information(table: np.ndarray) -> float:
    """Mutual information of a contingency table, in bits."""
    return entropy(table.sum(0)) + entropy(table.sum(1)) - entropy(table)


def entropy(counts: np.ndarray) -> float:
    """Entropy of the distribution with these counts, in bits."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def label_table(experts_T: np.ndarray, index_T: np.ndarray, experts: int, values: int) -> np.ndarray:
    """Count the tokens of known label by expert and label: (experts, values)."""
    known = index_T != UNKNOWN
    joint = experts_T[known].astype(np.int64) * values + index_T[known]
    return np.bincount(joint, minlength=experts * values).reshape(experts, values)


def shuffled(labels: Labels, rng: np.random.Generator) -> np.ndarray:
    """Labels that have nothing to do with the experts, but hang together as before: (T,).

    Labels of utterances, or of speakers, change places with those of others. The rest is moved round along the set:
    what follows what stays, since neighbouring tokens, whose experts are alike too, tell less than as many apart.
    """
    if labels.bearer_T is None:
        return np.roll(labels.index_T, rng.integers(1, max(2, len(labels.index_T))))
    _, first, bearer_T = np.unique(labels.bearer_T, return_index=True, return_inverse=True)
    return rng.permutation(labels.index_T[first])[bearer_T]


def measure(assignments: Assignments, labels: Labels, shuffles: int = SHUFFLES) -> list[Information]:
    """Mutual information of a kind of label with the experts of each MoE layer; chance by seeded shuffles."""
    rng = np.random.default_rng(SEED)
    others = [shuffled(labels, rng) for _ in range(shuffles)]
    return [_measure_layer(assignments, i, labels, others) for i in range(len(assignments.layers))]


def _measure_layer(assignments: Assignments, i: int, labels: Labels, others: Sequence[np.ndarray]) -> Information:
    experts_T, size = assignments.experts_LT[i], (int(assignments.n_experts[i]), len(labels.values))
    table = label_table(experts_T, labels.index_T, *size)
    chance = [mutual_information(label_table(experts_T, other_T, *size)) for other_T in others]
    return Information(
        label=labels.name,
        layer=int(assignments.layers[i]),
        bits=mutual_information(table),
        chance_bits=float(np.mean(chance)),
        chance_highest_bits=max(chance),
        expert_bits=entropy(table.sum(1)),
        label_bits=entropy(table.sum(0)),
        tokens=int(table.sum()),
    )


def preferred(table: np.ndarray, values: Sequence[str], count: int) -> list[list[tuple[str, float]]]:
    """The labels that each expert (row) has most beyond its share: those of the largest difference, with the share of
    the label's tokens that it gets, at most `count` of them."""
    expected = np.outer(table.sum(1), table.sum(0)) / max(table.sum(), 1)
    lists = []
    for row, excess in zip(table, table - expected, strict=True):
        best = [j for j in np.argsort(-excess, kind="stable")[:count] if excess[j] > 0]
        lists.append([(values[j], float(row[j] / table[:, j].sum())) for j in best])
    return lists
