"""Which share of the tokens each expert gets, layer by layer and set by set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omnirouter.analysis.assignments import Assignments
from omnirouter.analysis.plot import colours, new_figure, tidy


def load_figure(sets_of: Mapping[str, Mapping[str, Assignments]]) -> tuple[Figure, dict[str, Any]]:
    """Draw the load of each expert for each experiment (by title), set and layer."""
    figure = new_figure(9.0, 0.7 + 2.5 * len(sets_of), "Use of the experts, by layer and set; dashes: equal shares")
    data: dict[str, Any] = {}
    for axes, (title, sets) in zip(figure.subplots(len(sets_of), 1, squeeze=False).flat, sets_of.items(), strict=True):
        layers = next(iter(sets.values())).layers.tolist()
        data[title] = {name: {"layers": layers, "load": assignments.loads()} for name, assignments in sets.items()}
        _draw(axes, layers, {name: entry["load"] for name, entry in data[title].items()})
        order = f" (bars of each layer: {', '.join(sets)})" if len(sets) > 1 else f", {next(iter(sets))}"
        tidy(axes, "MoE layer", "tokens, %", f"{title}{order}")
    return figure, data


def _draw(axes: Axes, layers: Sequence[int], by_set: Mapping[str, list[list[float]]]) -> None:
    most = max(len(load) for layer_loads in by_set.values() for load in layer_loads)
    width = 0.8 / len(by_set)
    for s, layer_loads in enumerate(by_set.values()):
        at = np.arange(len(layers)) + (s - (len(by_set) - 1) / 2) * width
        bottom = np.zeros(len(layers))
        for expert, colour in enumerate(colours(most)):
            shares = np.array([100 * load[expert] if expert < len(load) else 0.0 for load in layer_loads])
            label = f"expert {expert + 1}" if s == 0 else None
            axes.bar(at, shares, width * 0.92, bottom=bottom, color=colour, label=label)
            bottom += shares
    for expert in range(1, most):
        axes.axhline(100 * expert / most, color="white", lw=0.8, ls="--")
    axes.set_xticks(range(len(layers)), layers)
    axes.set_ylim(0, 100)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False, ncols=1 + most // 9)
