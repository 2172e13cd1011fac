"""Experiments that differ in nothing but the seed of their training, taken together."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from omnirouter.data.errors import UserError
from omnirouter.data.fields import differences
from omnirouter.scoring.bootstrap import CONFIDENCE
from omnirouter.scoring.results import HEADLINES, RATE_TITLES, Result, training_cells


@dataclass(frozen=True)
class SeedGroup:
    """Results on one set of experiments that are alike but for their seeds; one result a seed, two or more of them."""

    results: list[Result]
    seeds: list[int]

    def row(self, headline: str) -> dict[str, str]:
        """Return the cells of the group by column title, for the rate that `headline` (raw, whisper) names."""
        rates = [result.rates[HEADLINES[headline]] for result in self.results]
        percents = [rate.exact_percent for rate in rates]
        low, high = seed_interval(percents)
        first = self.results[0]
        return {
            "set": first.set_name,
            "experiment": ", ".join(result.experiment for result in self.results),
            "encoder": first.encoder,
            "parameters": first.parameters,
            "active": first.active_parameters,
            "utterances": rates[0].utterances,
            "words": rates[0].units,
            "seeds": ", ".join(map(str, self.seeds)),
            f"mean {RATE_TITLES[HEADLINES[headline]]}": f"{statistics.fmean(percents):.2f}",
            "s.d.": f"{statistics.stdev(percents):.2f}",
            "95 % interval over seeds": f"{low:.2f} to {high:.2f}",
            **training_cells(self.results),
        }


def seed_groups(exp: Path, results: Iterable[Result]) -> list[SeedGroup]:
    """Group results below `exp` by set and by their config but for the seed; groups of one seed are left out.

    Of experiments that have their seed in common too, the first counts: the others are the same training.
    """
    groups: dict[tuple[str, str], dict[int, Result]] = {}
    for result in results:
        seed, rest = _split_config(exp / result.experiment / "config.yaml")
        if seed is not None:
            key = result.set_name, json.dumps(rest, sort_keys=True)
            groups.setdefault(key, {}).setdefault(seed, result)
    several = (dict(sorted(group.items())) for group in groups.values() if len(group) > 1)
    return [SeedGroup(list(group.values()), list(group)) for group in several]


def check_seeds(experiments: Sequence[Path]) -> None:
    """Raise `UserError` unless these folders, if there are several, differ in the seed of training and nothing else."""
    if len(experiments) == 1:
        return  # which need not be a trained one
    found: dict[int, Path] = {}
    first = None
    for path in experiments:
        seed, rest = _split_config(path / "config.yaml")
        if seed is None:
            raise UserError(f"{path / 'config.yaml'}: no training.seed in it, by which to tell seeds of one training")
        if seed in found:
            raise UserError(f"{found[seed]} and {path} are both of seed {seed}; name one decoding of each seed")
        found[seed], first = path, first or rest
        if changes := differences(first, rest):
            fields = ", ".join(change.partition(":")[0] for change in changes)
            both = f"{experiments[0]} and {path}"
            raise UserError(f"{both} are no seeds of one training: they differ in {fields}; compare them apart")


def check_distinct(paths: Sequence[Path]) -> None:
    """Raise `UserError` where a folder is named twice."""
    for place, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:place]]:
            raise UserError(f"{path} is named twice; name each once")


def seed_interval(values: list[float]) -> tuple[float, float]:
    """Return Student's 95 % interval of the mean over seeds: where it would fall with other seeds, on the same set."""
    from scipy.stats import t  # slow to import, and most tables have no seeds

    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return mean - half, mean + half


def _split_config(path: Path) -> tuple[int | None, dict[str, Any]]:
    """Return the seed of an experiment and the rest of its config, inputs by their contents; without one, None."""
    config = yaml.safe_load(path.read_bytes()) if path.is_file() else None
    if not config or "seed" not in config.get("training", {}):
        return None, {}
    config["inputs"] = sorted((config.get("inputs", {}).get("digests") or {}).values())
    seed = config["training"].pop("seed")
    return seed, config
