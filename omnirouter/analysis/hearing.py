"""Beyond the paper: what the experts of each layer hear, measured and drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omnirouter.analysis.assignments import Assignments
from omnirouter.analysis.information import SHUFFLES, Information, label_table, measure, preferred
from omnirouter.analysis.labels import Labels
from omnirouter.analysis.plot import GREY, colours, grid_of, new_figure, tidy

PREFERRED = 5  # labels listed for each expert
PROFILED = 40  # labels drawn in a profile, the most frequent ones
PROFILES = ("phone", "unit")  # what a profile is drawn of: the first of these that there is
MEANINGS = {
    "silence": "silence or speech, by energy",
    "phone": "phone",
    "unit": "aligned unit or blank",
    "speaker": "speaker",
    "accent": "accent",
    "noise": "kind of noise",
}


@dataclass(frozen=True)
class Hearing:
    """What the experts of all MoE layers tell of one kind of label."""

    label: str
    values: list[str]
    information: list[Information]
    """By layer."""
    preferred: list[list[list[tuple[str, float]]]]
    """By layer and expert: labels that it gets most beyond its share, and the share of each that it gets."""


def hear(assignments: Assignments, labels: Sequence[Labels]) -> list[Hearing]:
    """Measure each kind of label."""
    return [
        Hearing(kind.name, kind.values, measure(assignments, kind), _all_preferred(assignments, kind))
        for kind in labels
    ]


def _all_preferred(assignments: Assignments, kind: Labels) -> list[list[list[tuple[str, float]]]]:
    tables = [_table(assignments, i, kind) for i in range(len(assignments.layers))]
    return [preferred(table, kind.values, PREFERRED) for table in tables]


def _table(assignments: Assignments, i: int, kind: Labels) -> np.ndarray:
    experts = int(assignments.n_experts[i])
    return label_table(assignments.experts_LT[i], kind.index_T, experts, len(kind.values))


def as_json(hearings: Sequence[Hearing]) -> dict[str, Any]:
    """The measurements as data, by kind of label."""
    return {
        hearing.label: {
            "values": len(hearing.values),
            "layers": [{**asdict(info), "normalised": info.normalised} for info in hearing.information],
            "preferred": hearing.preferred,
        }
        for hearing in hearings
    }


def hearing_table(hearings: Sequence[Hearing]) -> str:
    """Plain-text table, for people."""
    lines = [
        f"Mutual information of expert and label, in bits a token; chance: mean of {SHUFFLES} shuffles of the labels.",
        "Share: what is above chance, of the most that could be (0 chance, 1 one tells the other).",
        "",
        "label    values  layer     bits   chance  highest    share",
    ]
    for hearing in hearings:
        for info in hearing.information:
            bits = f"{info.bits:8.4f} {info.chance_bits:8.4f} {info.chance_highest_bits:8.4f} {info.normalised:8.3f}"
            lines.append(f"{hearing.label:8s} {len(hearing.values):6d} {info.layer:6d} {bits}")
    lines += ["", "What each expert gets beyond its share, and how much of that label's tokens it gets:"]
    for hearing in hearings:
        for info, experts in zip(hearing.information, hearing.preferred, strict=True):
            for expert, best in enumerate(experts, 1):
                listed = ", ".join(f"{value} {share:.0%}" for value, share in best)
                lines.append(f"{hearing.label:8s} layer {info.layer} expert {expert}: {listed}")
    return "\n".join(lines) + "\n"


def hearing_figure(measured: Mapping[str, Mapping[str, Any]], set_name: str, colour_of: Mapping[str, str]) -> Figure:
    """Draw, for each kind of label, how much the experts of each layer tell of it.

    measured: what `as_json` gives, by the experiment's title; colour_of: its colour.
    """
    kinds = list(dict.fromkeys(kind for experiment in measured.values() for kind in experiment))
    rows, columns = grid_of(len(kinds), 3)
    title = f"What experts tell, {set_name}: mutual information above chance, as a share of the most possible"
    figure = new_figure(3.9 * max(columns, 2), 3.0 * rows + 1.0, title)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axes, kind in zip(panels, kinds, strict=False):
        for name, experiment in measured.items():
            if kind in experiment:
                _draw_kind(axes, experiment[kind]["layers"], colour_of[name], name)
        values = max(experiment[kind]["values"] for experiment in measured.values() if kind in experiment)
        tidy(
            axes,
            "MoE layer",
            "share of the possible" if axes in panels[::columns] else "",
            f"{MEANINGS.get(kind, kind)} ({values} values)",
        )
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    panels[0].set_ylim(top=max(0.05, panels[0].get_ylim()[1]))
    handles, names = panels[0].get_legend_handles_labels()
    shown = dict(zip(names, handles, strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _draw_kind(axes: Axes, layers: Sequence[Mapping[str, Any]], colour: str, name: str) -> None:
    numbers = [layer["layer"] for layer in layers]
    most = [min(layer["expert_bits"], layer["label_bits"]) - layer["chance_bits"] for layer in layers]
    above = [layer["chance_highest_bits"] - layer["chance_bits"] for layer in layers]
    chance = [part / whole if whole > 0 else 0.0 for part, whole in zip(above, most, strict=True)]
    axes.fill_between(
        numbers, 0, chance, color=GREY, alpha=0.3, lw=0, label=f"up to the highest of {SHUFFLES} shuffles"
    )
    axes.plot(numbers, [layer["normalised"] for layer in layers], "o-", color=colour, markersize=4, label=name)


def profile_figure(
    assignments: Assignments, labels: Sequence[Labels], hearings: Sequence[Hearing], title: str
) -> tuple[Figure, dict[str, Any]] | None:
    """Draw which expert gets which phone (or unit), in the layer that tells most of it; None where neither is known."""
    known = {kind.name: (kind, hearing) for kind, hearing in zip(labels, hearings, strict=True)}
    name = next((name for name in PROFILES if name in known), None)
    if name is None:
        return None
    kind, hearing = known[name]
    best = int(np.argmax([info.normalised for info in hearing.information]))
    table = _table(assignments, best, kind)
    shown = np.argsort(-table.sum(0), kind="stable")[:PROFILED]
    shares = table[:, shown] / np.maximum(table[:, shown].sum(0), 1)
    order = np.lexsort((-shares.max(0), shares.argmax(0)))
    values = [kind.values[j] for j in shown[order]]
    layer = int(assignments.layers[best])
    figure = _draw_profile(shares[:, order], values, f"{title}: experts of layer {layer} by {MEANINGS[name]}")
    return figure, {"label": name, "layer": layer, "values": values, "table": table[:, shown[order]].tolist()}


def _draw_profile(shares: np.ndarray, values: Sequence[str], title: str) -> Figure:
    figure = new_figure(max(7.0, 0.27 * len(values) + 2.0), 3.8, title)
    axes = figure.subplots()
    bottom = np.zeros(len(values))
    for expert, (row, colour) in enumerate(zip(shares, colours(len(shares)), strict=True), 1):
        axes.bar(range(len(values)), 100 * row, bottom=bottom, color=colour, width=0.85, label=f"expert {expert}")
        bottom += 100 * row
    is_long = max(map(len, values)) > 4
    axes.set_xticks(range(len(values)), values, rotation=90 if is_long else 0, fontsize=9)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.set_ylim(0, 100)
    tidy(axes, "", "tokens, %")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    return figure
