"""Agreement between layers, and names of experts by which it shows: a layer's experts matched with another's."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from omnirouter.analysis.assignments import Assignments
from omnirouter.models.agreement import contingency, cramers_v


def layer_table(assignments: Assignments, row: int, column: int) -> np.ndarray:
    """Contingency table of two MoE layers (by position, 0 the lowest): tokens by expert, (N of row, N of column)."""
    a_T, b_T = (torch.from_numpy(assignments.experts_LT[layer].astype(np.int64)) for layer in (row, column))
    shape = int(assignments.n_experts[row]), int(assignments.n_experts[column])
    return contingency(a_T, b_T, shape).numpy()


def v_matrix(assignments: Assignments) -> np.ndarray:
    """Cramér's V of all pairs of MoE layers: (L, L); NaN where a layer uses one expert only."""
    size = len(assignments.layers)
    matrix = np.full((size, size), np.nan)
    for i in range(size):
        for j in range(i, size):
            matrix[i, j] = matrix[j, i] = cramers_v(torch.from_numpy(layer_table(assignments, i, j)))
    return matrix


def best_match(table: np.ndarray) -> np.ndarray:
    """Give each expert of the columns the name of a row's expert so that most tokens keep theirs (Hungarian method).

    Experts left over, where there are more columns than rows, get the names from the number of rows on.
    """
    rows, columns = linear_sum_assignment(table, maximize=True)
    names = np.full(table.shape[1], -1)
    names[columns] = rows
    spare = names < 0
    names[spare] = table.shape[0] + np.arange(spare.sum())
    return names


def matched_experts(assignments: Assignments, routers: Sequence[int]) -> np.ndarray:
    """Experts with names matched upwards, each layer's to those of the layer below, as in the paper's Fig. 2: (L, T).

    routers: which router each MoE layer has; a layer that shares the one of the layer below keeps its names, since
    there an expert's number means the same.
    """
    matched_LT = assignments.experts_LT.astype(np.int64)
    names = np.arange(assignments.n_experts[0])
    for i in range(1, len(matched_LT)):
        if routers[i] != routers[i - 1]:
            below = names  # what the experts of the layer below are called
            table = np.zeros((below.max() + 1, assignments.n_experts[i]), np.int64)
            table[below] = layer_table(assignments, i - 1, i)
            names = best_match(table)
        matched_LT[i] = names[matched_LT[i]]
    return matched_LT
