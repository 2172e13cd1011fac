"""Curves of trainings for the report, from their `metrics.jsonl`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirouter.analysis.curves import MOST_POINTS, read_lines, thinned


@dataclass(frozen=True)
class Curve:
    """A quantity that `metrics.jsonl` records during training."""

    title: str
    value_of: Callable[[dict[str, Any]], float | None]
    """Its value on a line of the file; None on lines without it."""
    is_log: bool = False
    """On a logarithmic axis, unless a value is zero."""


def mean_agreement(line: dict[str, Any]) -> float | None:
    """Return the mean over layers of Cramér's V between the experts of a layer and of the one below."""
    values = [layer["cramers_v"] for layer in line.get("routing", {}).values() if layer["cramers_v"] is not None]
    return sum(values) / len(values) if values else None


CURVES = (
    Curve("CTC loss (training), nats/utterance", lambda line: line.get("ctc_loss"), is_log=True),
    Curve("Word error rate on the dev set, %", lambda line: line.get("valid", {}).get("wer"), is_log=True),
    Curve(
        "Load-balancing loss, sum over layers", lambda line: line.get("balance_loss") if line.get("routing") else None
    ),
    Curve("Cramér's V of adjacent layers, mean", mean_agreement),
)


def read_curves(experiments: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the curves that any of the experiments has, each with a series of steps and values an experiment."""
    lines = [read_lines(path / "metrics.jsonl") for path in experiments]
    curves = []
    for curve in CURVES:
        series = [make_series([(line["step"], curve.value_of(line)) for line in training]) for training in lines]
        values = [value for one in series for value in one["y"]]
        if values:
            is_log = curve.is_log and min(values) > 0
            curves.append({"title": curve.title, "log": is_log, "series": series})
    return curves


def make_series(points: Sequence[tuple[int, float | None]], most: int = MOST_POINTS) -> dict[str, list[float]]:
    """Return steps `x` and values `y`, at most so many: means of neighbours, without what is not finite."""
    kept = [(x, y) for x, y in points if y is not None and math.isfinite(y)]
    if not kept:
        return {"x": [], "y": []}
    steps, values = (thinned(column, most) for column in zip(*kept, strict=True))
    return {"x": [round(step, 1) for step in steps], "y": [float(f"{value:.5g}") for value in values]}
