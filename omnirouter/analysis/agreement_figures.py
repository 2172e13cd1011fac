"""Fig. 4 and 5: contingency tables of two layers, and Cramér's V between layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omnirouter.analysis import paper
from omnirouter.analysis.matching import best_match, layer_table, v_matrix
from omnirouter.analysis.plot import GREY, grid_of, new_figure, panel_pairs, tidy
from omnirouter.analysis.subject import ENCODERS, Subject
from omnirouter.data.errors import UserError
from omnirouter.models.agreement import cramers_v

MOST_EXPERTS, MOST_LAYERS = 12, 16  # of a table, and of a matrix, whose numbers are still legible


def default_layers(subject: Subject) -> tuple[int, int]:
    """Which two adjacent MoE layers to show: those that stand as 14 and 15 of the paper's 16 do, one below the top."""
    layers = subject.assignments.layers.tolist()
    at = max(0, len(layers) - 3)
    return layers[at], layers[at + 1]


def table_figure(
    subjects: Sequence[Subject], set_name: str, layers: tuple[int, int] | None = None
) -> tuple[Figure, dict[str, Any]]:
    """Draw Fig. 4: for each experiment its table of two layers, by number, and below it the paper's of its encoder."""
    rows, columns = grid_of(len(subjects), 4)
    title = f"Experts of two layers, {set_name}: tokens (% of their row)"
    figure = new_figure(max(5.5, 4.3 * columns), 8.2 * rows, title)
    data = {}
    for subject, (ours, theirs) in zip(subjects, panel_pairs(figure, len(subjects), 4), strict=True):
        pair = layers or default_layers(subject)
        table, experts = _matched_table(subject, pair)
        v = _v(table)
        _draw_table(ours, table, experts, pair, f"{subject.title}\nCramér's V {v:.3f}, {table.sum():,} tokens")
        data[subject.name] = {"layers": pair, "columns": experts, "table": table.tolist(), "cramers_v": v}
        encoder = subject.config.encoder
        printed, printed_v = paper.TABLES[encoder], paper.CRAMERS_V[encoder]
        title = f"paper, {ENCODERS[encoder]}, 16 layers\nCramér's V {printed_v:.3f}, {printed.sum()} tokens"
        _draw_table(theirs, printed, [1, 2, 3, 4], paper.LAYERS, title)
        data[subject.name]["paper"] = {"layers": paper.LAYERS, "table": printed.tolist(), "cramers_v": printed_v}
    return figure, data


def _matched_table(subject: Subject, pair: tuple[int, int]) -> tuple[np.ndarray, list[int]]:
    """The table with its columns in the order that matches the rows best, and the columns' experts from 1."""
    layers = subject.assignments.layers.tolist()
    for layer in pair:
        if layer not in layers:
            raise UserError(f"{subject.name}: layer {layer} is no MoE layer; those are {', '.join(map(str, layers))}")
    table = layer_table(subject.assignments, *(layers.index(layer) for layer in pair))
    order = np.argsort(best_match(table), kind="stable")
    return table[:, order], (order + 1).tolist()


def _v(table: np.ndarray) -> float:
    return cramers_v(torch.from_numpy(table))


def _draw_table(axes: Axes, table: np.ndarray, columns: Sequence[int], pair: Sequence[int], title: str) -> None:
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(table.shape[1]), [f"$e_{{{j}}}$" for j in columns])
    axes.set_yticks(range(table.shape[0]), [f"$e_{{{i}}}$" for i in range(1, table.shape[0] + 1)])
    axes.set_xlabel(f"expert of layer {pair[1]}")
    axes.set_ylabel(f"expert of layer {pair[0]}")
    axes.set_title(title, fontsize=9)
    if max(table.shape) <= MOST_EXPERTS:
        size = 7 if max(table.shape) < 9 else 5
        for (i, j), count in np.ndenumerate(table):
            colour = "white" if shares[i, j] > 0.6 else "black"
            axes.text(j, i, f"{count:,}\n({shares[i, j]:.0%})", ha="center", va="center", fontsize=size, color=colour)


def agreement_figure(
    subjects: Sequence[Subject], set_name: str, colour_of: Mapping[str, str]
) -> tuple[Figure, dict[str, Any]]:
    """Draw Fig. 5, Cramér's V of adjacent layers, with the V of the paper's Fig. 4; under it V of all pairs.

    colour_of: an experiment's colour, by title.
    """
    rows, columns = grid_of(len(subjects), 3)
    figure = new_figure(4.2 * max(columns, 2), 3.6 + 3.9 * rows, f"Agreement of the layers' experts, {set_name}")
    above, below = figure.subfigures(2, 1, height_ratios=[3.6, 3.9 * rows])
    matrices = {subject.name: v_matrix(subject.assignments) for subject in subjects}
    _draw_adjacent(above.subplots(), subjects, matrices, colour_of)
    panels = below.subplots(rows, columns, squeeze=False).flat
    for axes, subject in zip(panels, subjects, strict=False):
        _draw_matrix(axes, matrices[subject.name], subject)
    for axes in list(panels)[len(subjects) :]:
        axes.set_visible(False)
    data = {
        subject.name: {
            "layers": subject.assignments.layers.tolist(),
            "tokens": subject.assignments.experts_LT.shape[1],
            "adjacent": np.diag(matrices[subject.name], 1).tolist(),
            "matrix": matrices[subject.name].tolist(),
        }
        for subject in subjects
    }
    return figure, {"experiments": data, "paper": {"layers": paper.LAYERS, "cramers_v": paper.CRAMERS_V}}


def _draw_adjacent(
    axes: Axes, subjects: Sequence[Subject], matrices: Mapping[str, np.ndarray], colour_of: Mapping[str, str]
) -> None:
    for subject in subjects:
        layers, values = subject.assignments.layers.tolist(), np.diag(matrices[subject.name], 1)
        axes.plot(layers[1:], values, "o-", color=colour_of[subject.title], label=subject.title)
    axes.xaxis.get_major_locator().set_params(integer=True)
    for encoder, style in (("omnirouter", "--"), ("switch", ":")):
        v = paper.CRAMERS_V[encoder]
        axes.axhline(v, color=GREY, linestyle=style)
        label = f"paper, {ENCODERS[encoder]}:\n{v:.3f} (layers 14–15 of 16)"
        axes.annotate(label, (1.01, v), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=GREY)
    axes.set_ylim(0, 1)
    title = "0: independent, 1: one layer's expert tells the other's"
    tidy(axes, "MoE layer, each with the one below it", "Cramér's V", title)
    axes.legend(fontsize=8)


def _draw_matrix(axes: Axes, matrix: np.ndarray, subject: Subject) -> None:
    layers = subject.assignments.layers.tolist()
    axes.imshow(matrix, cmap="viridis", vmin=0, vmax=1, origin="lower")
    axes.set_xticks(range(len(layers)), layers)
    axes.set_yticks(range(len(layers)), layers)
    axes.set_title(f"{subject.title}: V of all pairs", fontsize=9)
    axes.set_xlabel("MoE layer")
    axes.set_ylabel("MoE layer")
    if len(layers) <= MOST_LAYERS:
        for (i, j), value in np.ndenumerate(matrix):
            colour = "black" if value > 0.6 else "white"
            axes.text(
                j, i, f"{value:.2f}", ha="center", va="center", fontsize=7 if len(layers) < 9 else 5, color=colour
            )
