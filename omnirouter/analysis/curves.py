"""Fig. 3, error rates under random routing, and Fig. 6, training: losses, load and entropy over the steps."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omnirouter.analysis.plot import GREY, grid_of, new_figure, panel_pairs, tidy
from omnirouter.data.errors import UserError

MOST_POINTS = 400  # of a curve; longer ones are averaged
MARKERS = "osD^vPX*"


def read_random_routing(path: Path) -> dict[str, Any]:
    """Read what `python -m omnirouter.bin.random_routing` has written."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: no JSON ({error}); run omnirouter.bin.random_routing again") from error


def random_routing_figure(
    measured: Mapping[str, Mapping[str, Any]], set_name: str, colour_of: Mapping[str, str]
) -> tuple[Figure, dict[str, Any]]:
    """Draw Fig. 3: relative change of the WER over the share of tokens that go to random experts, by title.

    colour_of: an experiment's colour, by title.

    UserError where experiments were measured with different options.
    """
    options = {title: entry["options"] for title, entry in measured.items()}
    first_title, first = next(iter(options.items()))
    for title, other in options.items():
        if other != first:
            raise UserError(f"random routing of {first_title} and {title} was measured with {first} and {other}")
    figure = new_figure(7.2, 4.8, f"Random routing, {set_name}")
    axes = figure.subplots()
    series = {title: _series(entry["points"]) for title, entry in measured.items()}
    for marker, (title, points) in zip(MARKERS * len(series), series.items(), strict=False):
        p = [point["share"] for point in points]
        low, mean, high = ([point[key] for point in points] for key in ("lowest", "mean", "highest"))
        label = f"{title}: WER {points[0]['wer']:.2f} % at p = 0"
        axes.plot(p, mean, marker=marker, color=colour_of[title], markersize=5, label=label)
        axes.fill_between(p, low, high, color=colour_of[title], alpha=0.2, lw=0)
    tidy(axes, "share p of tokens sent to a random expert", "relative change of the WER, %", _describe(first))
    axes.legend(fontsize=8, frameon=False)
    return figure, {"options": first, "experiments": series}


def _describe(options: Mapping[str, Any]) -> str:
    draw = "drawn in each layer by itself" if options["draw"] == "layer" else "one draw a token for all layers"
    among = "among all experts" if options["may_keep"] else "among the other experts"
    wer = "raw WER" if options["headline"] == "raw" else "WER after Whisper's normaliser"
    how = f"{draw}, {among}, scaled by the {options['scale']} expert's probability"
    return f"{how}\n{wer}; line: mean of the draws, band: lowest to highest"


def _series(points: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Mean and range of the draws of each share."""
    series = []
    for share in sorted({point["share"] for point in points}):
        draws = [point for point in points if point["share"] == share]
        changes = np.array([point["change_percent"] for point in draws], dtype=float)  # nan of null: no change of 0 %
        wer = float(np.mean([point["wer"] for point in draws]))
        series.append(
            {
                "share": share, "draws": len(draws), "wer": wer,
                "mean": float(changes.mean()), "lowest": float(changes.min()), "highest": float(changes.max()),
            }
        )  # fmt: skip
    return series


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return all lines of a `metrics.jsonl`, none without such a file; `UserError` for one that is no record."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    parsed = []
    for number, line in enumerate(lines, start=1):
        try:
            parsed.append(json.loads(line))
            parsed[-1]["step"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}:{number}: not a line of training's; remove it, or train on") from error
    return parsed


def read_metrics(exp: Path) -> list[dict[str, Any]]:
    """The records of training steps in an experiment's metrics.jsonl, without those of validations; maybe none yet."""
    path = exp / "metrics.jsonl"
    if not path.exists():
        raise UserError(f"{path} does not exist; stage 4 makes it")
    return [record for record in read_lines(path) if "ctc_loss" in record]


def thinned(values: Sequence[float], most: int = MOST_POINTS) -> list[float]:
    """Means of as many neighbours as leave at most so many values."""
    size = -(-len(values) // most)
    return [float(np.mean(values[i : i + size])) for i in range(0, len(values), size)]


def loss_figure(
    metrics: Mapping[str, Sequence[Mapping[str, Any]]], colour_of: Mapping[str, str]
) -> tuple[Figure, dict[str, Any]]:
    """Draw Fig. 6, the training CTC loss of experiments by title, and beside it the balance loss of those with one."""
    names = ("step", "ctc_loss", "balance_loss")
    data = {
        title: {name: thinned([record[name] for record in records]) for name in names if name in records[0]}
        for title, records in metrics.items()
    }
    balanced = [title for title, curves in data.items() if any(curves.get("balance_loss", ()))]
    ratios = [1.25, 1.0] if balanced else [1.0]
    figure = new_figure(4.7 * sum(ratios), 4.6, "Training")
    panels = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
    for title, curves in data.items():
        panels[0].plot(curves["step"], curves["ctc_loss"], color=colour_of[title], lw=1.2, label=title)
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_formatter(_number)
    panels[0].yaxis.set_minor_formatter(_number)
    tidy(panels[0], "training step", "nats an utterance, log scale", "CTC loss")
    panels[0].legend(fontsize=8, frameon=False)
    for title in balanced:
        panels[1].plot(data[title]["step"], data[title]["balance_loss"], color=colour_of[title], lw=1.2)
        tidy(panels[1], "training step", "sum over the MoE layers", "load-balancing loss, unweighted (eq. 5)")
    return figure, data


def _number(value: float, _: object = None) -> str:
    """A tick's label on a logarithmic axis: plain numbers, and of those between powers of ten 2 and 5 only."""
    digits = f"{value:.0e}"
    return f"{value:g}" if digits[0] in "125" else ""


def routing_in_training_figure(
    metrics: Mapping[str, Sequence[Mapping[str, Any]]],
) -> tuple[Figure, dict[str, Any]] | None:
    """Draw, for each mixture of experts, the shares of each layer's experts and the entropy of its router over time."""
    moe = {title: records for title, records in metrics.items() if records[0].get("routing")}
    if not moe:
        return None
    rows, columns = grid_of(len(moe), 3)
    figure = new_figure(max(7.0, 4.4 * columns + 1.0), 6.4 * rows, "Routing in training")
    pairs = panel_pairs(figure, len(moe), 3)
    data: dict[str, Any] = {}
    for (load_axes, entropy_axes), (title, records) in zip(pairs, moe.items(), strict=True):
        data[title] = _layer_curves(records)
        _draw_layers(load_axes, entropy_axes, data[title])
        tidy(load_axes, "", "busiest (line) and idlest (dots)\nexpert, % of tokens; dashes: 1/N", title)
        tidy(entropy_axes, "training step", "entropy of the router, nats; dashes: ln N")
        load_axes.legend(title="layer", fontsize=7, title_fontsize=7, frameon=False, ncols=2)
    return figure, data


def _layer_curves(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Curves of each layer: its largest and smallest load and its entropy, at the steps where it has been seen."""
    curves = {}
    for layer in sorted({layer for record in records for layer in record["routing"]}, key=int):
        seen = [(record["step"], record["routing"][layer]) for record in records if layer in record["routing"]]
        curves[layer] = {
            "step": thinned([step for step, _ in seen]),
            "largest_load": thinned([max(figures["load"]) for _, figures in seen]),
            "smallest_load": thinned([min(figures["load"]) for _, figures in seen]),
            "entropy": thinned([figures["entropy"] for _, figures in seen]),
            "experts": len(seen[0][1]["load"]),
        }
    return curves


def _draw_layers(load_axes: Axes, entropy_axes: Axes, curves: Mapping[str, Mapping[str, Any]]) -> None:
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.92, len(curves)))
    for shade, (layer, curve) in zip(shades, curves.items(), strict=True):
        load_axes.plot(curve["step"], 100 * np.array(curve["largest_load"]), color=shade, lw=1.0, label=layer)
        load_axes.plot(curve["step"], 100 * np.array(curve["smallest_load"]), color=shade, lw=1.0, ls=":")
        entropy_axes.plot(curve["step"], curve["entropy"], color=shade, lw=1.0)
    for experts in {curve["experts"] for curve in curves.values()}:
        load_axes.axhline(100 / experts, color=GREY, lw=0.8, ls="--")
        entropy_axes.axhline(np.log(experts), color=GREY, lw=0.8, ls="--")
    load_axes.set_ylim(0, 100)
    for axes in (load_axes, entropy_axes):
        axes.xaxis.get_major_locator().set_params(nbins=5)
    entropy_axes.set_ylim(bottom=0)
