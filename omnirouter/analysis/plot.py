"""The look of all figures, and their files: a PNG and the data that it shows, as JSON."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.figure import Figure

from omnirouter.data.files import atomic_write

# Okabe and Ito's colours, which people with any colour vision tell apart; blue, orange, green and pink come first, as
# the paper has its four experts.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#444444")
PURPLE = 0.75  # a hue that is far from all of these
GOLDEN_SHARE = 0.618  # of the circle of hues: so far apart, points on it never come close
GREY = "#888888"
DPI = 130


def colours(count: int) -> list[str]:
    """So many colours, the first ones always the same: eight that all people tell apart, then hues, light and dark."""
    hues = [((PURPLE + i * GOLDEN_SHARE) % 1, 0.8, 0.45 if i % 2 else 0.95) for i in range(count - len(COLOURS))]
    return [*COLOURS[:count], *(to_hex(hsv_to_rgb(hue)) for hue in hues)]


def palette(titles: Iterable[str]) -> dict[str, str]:
    """One colour for each experiment, by title, the same in all figures that are given the same titles."""
    listed = list(titles)
    return dict(zip(listed, colours(len(listed)), strict=True))


def new_figure(width_in: float, height_in: float, title: str) -> Figure:
    """An empty figure with a title, drawn without a display."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    return figure


def tidy(axes: Axes, x: str = "", y: str = "", title: str = "") -> None:
    """Label axes and take away the lines that carry nothing."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)


def grid_of(count: int, columns: int) -> tuple[int, int]:
    """Rows and columns for so many panels, at most `columns` side by side."""
    return math.ceil(count / columns), min(count, columns)


def panel_pairs(figure: Figure, count: int, columns: int) -> list[tuple[Axes, Axes]]:
    """So many pairs of panels, one of a pair above the other, at most `columns` pairs side by side."""
    rows, columns = grid_of(count, columns)
    panels = figure.subplots(2 * rows, columns, squeeze=False)
    pairs = [pair for row in range(rows) for pair in zip(panels[2 * row], panels[2 * row + 1], strict=True)]
    for pair in pairs[count:]:
        for axes in pair:
            axes.set_visible(False)
    return pairs[:count]


def write_figure(folder: Path, name: str, figure: Figure, data: Any) -> None:
    """Write NAME.png and NAME.json; the same figure gives the same bytes."""
    with atomic_write(folder / f"{name}.png", "wb") as file:
        figure.savefig(file, dpi=DPI, format="png", metadata={"Software": None})
    with atomic_write(folder / f"{name}.json") as file:
        file.write(json.dumps(finite(data), indent=1, ensure_ascii=False) + "\n")


def finite(data: Any) -> Any:
    """Replace what is no number by None: JSON has no NaN."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    return [finite(value) for value in data] if isinstance(data, Sequence) and not isinstance(data, str) else data
