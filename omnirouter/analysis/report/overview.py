"""What the report says of experiments as wholes: names, results, routing, figures."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omnirouter.data.errors import UserError
from omnirouter.decoding.folders import split_name
from omnirouter.scoring.result_table import LEGEND, REPORT_COLUMNS, SEEDS_LEGEND, table_row
from omnirouter.scoring.results import HEADLINES, Rate, read_result
from omnirouter.scoring.seeds import seed_groups

FIGURES_OF_ALL_SETS = ("routing_in_training", "load")
"""Of an experiment's `figures`; Fig. 6, of all experiments, is drawn by the page itself."""


def experiment_names(experiments: Sequence[Path]) -> list[str]:
    """Return the names of the experiments' folders, or the paths of those that share a name."""
    counts = Counter(path.name for path in experiments)
    return [path.name if counts[path.name] == 1 else str(path) for path in experiments]


def set_names(experiments: Sequence[Path], chosen: Sequence[str]) -> list[str]:
    """Return the sets on which any experiment was scored, or those chosen of them; `UserError` for another one."""
    found = sorted({score.parent.name.removeprefix("decode_") for path in experiments for score in _scores(path)})
    for name in chosen:
        if name not in found:
            raise UserError(
                f"no experiment was scored on {name!r}: there is no decode_{name}/score; "
                f"those scored are: {', '.join(found) or 'none'}"
            )
    return list(dict.fromkeys(chosen)) or found


def data_name(set_name: str) -> str:
    """Return the name of the data directory that a set, as here named after its decoding, was decoded from."""
    return split_name(f"decode_{set_name}")[0]


def is_scored(experiment: Path, set_name: str) -> bool:
    """Tell whether an experiment has a score on a set."""
    return (experiment / f"decode_{set_name}/score").is_dir()


def result_tables(experiments: Sequence[Path], sets: Sequence[str], headline: str) -> dict[str, Any]:
    """Return the rows of the table of results and of that of means over seeds, as `exp/RESULTS.md` has them.

    `rate` of a row is the leading rate and its interval as numbers, or nothing; `experiment` the experiment's number.
    `more` names the columns that few readers need.
    """
    names, rate = experiment_names(experiments), HEADLINES[headline]
    rows, by_parent = [], {}
    for set_name in sets:
        for number, path in enumerate(experiments):
            if is_scored(path, set_name):
                result = read_result(path / f"decode_{set_name}/score")
                cells = table_row(result, rate) | {"experiment": names[number]}
                rows.append({"experiment": number, "cells": cells, "rate": _interval(result.rates[rate])})
                by_parent.setdefault(path.parent.resolve(), []).append(result)
    seeds = [group.row(headline) for parent, results in by_parent.items() for group in seed_groups(parent, results)]
    legends = {"legend": LEGEND, "seeds_legend": SEEDS_LEGEND}
    return {"rows": rows, "seeds": seeds, "more": REPORT_COLUMNS, **legends}


def read_routing(experiment: Path, set_name: str) -> list[dict[str, Any]] | None:
    """Return the layers of stage 7's `routing.json`; None without one."""
    path = experiment / f"routing_{data_name(set_name)}/routing.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))["layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not as stage 7 writes it; remove {path.parent} and analyse again") from error


def most_experts(sets: Sequence[dict[str, Any]], routing: Sequence[Sequence[list[dict[str, Any]] | None]]) -> int:
    """Return how many experts, or names of matched ones, any layer of a report has.

    sets: as `write_set` describes them; routing: by set and experiment.
    """
    named = [layers["names"] for one in sets for layers in one["layers"] if layers]
    loaded = [len(layer["load"]) for by_set in routing for layers in by_set for layer in layers or ()]
    return max([*named, *loaded], default=0)


def set_figures(experiment: Path, set_name: str) -> list[Path]:
    """Return the figures that stage 7 has made of an experiment on a set, in order of their names."""
    folders = [experiment / f"{kind}_{data_name(set_name)}" for kind in ("routing", "random_routing")]
    return sorted((path for folder in folders for path in folder.glob("*.png")), key=lambda path: path.name)


def general_figures(experiment: Path) -> list[Path]:
    """Return those of an experiment's routing that are of no single set."""
    paths = [experiment / f"figures/{name}.png" for name in FIGURES_OF_ALL_SETS]
    return [path for path in paths if path.is_file()]


def copy_figures(figures: Sequence[Path], folder: Path) -> list[str]:
    """Copy figures into `folder`, and return their names without the suffix."""
    for path in figures:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)
    return [path.stem for path in figures]


def _interval(rate: Rate) -> list[float] | None:
    """Return a rate and the bounds of its interval; None where there was no word to divide by."""
    numbers = [float(value) for value in (rate.percent, rate.low, rate.high)]
    return numbers if all(map(math.isfinite, numbers)) else None


def _scores(experiment: Path) -> list[Path]:
    return [path for path in experiment.glob("decode_*/score") if path.is_dir()]
