"""One table of several models on several sets, in the form of the paper's Tables I and IV."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import yaml

import omnirouter
from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_write
from omnirouter.decoding.folders import DECODINGS, set_title, split_name
from omnirouter.scoring.bootstrap import rate_interval
from omnirouter.scoring.decodings import Decoding, check_same_set, read_decodings
from omnirouter.scoring.paired import matched_pairs, over_seeds, paired_bootstrap
from omnirouter.scoring.result_table import markdown
from omnirouter.scoring.results import HEADLINES, RATE_TITLES, UNKNOWN, Result, checkout_commit, read_result
from omnirouter.scoring.seeds import check_distinct

SIGNIFICANT = 0.05
MARK = "*"


@dataclass(frozen=True)
class Model:
    """One column: an experiment, or several that are alike but for their seeds."""

    experiments: list[Path]
    title: str
    results: list[Result]
    """Of the first set."""
    baseline: int
    """Which column it is compared with: the first of its size."""


@dataclass(frozen=True)
class Row:
    """One set, decoded in one way by all models."""

    title: str
    way: str
    """One of DECODINGS."""
    decodings: list[Decoding]
    """By model."""


def mean_relative_reduction(reference: Sequence[float], model: Sequence[float]) -> float:
    """Return the mean over sets of the relative reduction of an error rate, in percent, as the paper averages it.

    Not the reduction of the mean rate, in which sets with high rates count for more.
    """
    return 100.0 * float(np.mean([(r - m) / r if r else math.nan for r, m in zip(reference, model, strict=True)]))


def write_comparison(sizes: Sequence[Sequence[Sequence[Path]]], headline: str, output: Path) -> str:
    """Write the comparison of models to `output`; return the same text.

    sizes: the models of each size, each a list of experiments (its seeds); the first model of a size is the baseline of
    the others. The sets are those that all were decoded and scored on, but for those that their training was validated
    on. headline: raw or whisper. `UserError` where a set is not the same for all, or an experiment is named twice.
    """
    experiments = [experiment for size in sizes for column in size for experiment in column]
    check_distinct(experiments)
    sets = common_sets(experiments)
    models = _models(sizes, sets[0])
    rows = [_row(models, set_name, HEADLINES[headline]) for set_name in sets]
    text = "\n".join(
        [
            f"# Comparison: {RATE_TITLES[HEADLINES[headline]]}",
            "",
            markdown(_rate_rows(models, rows)),
            "",
            *_legend(models[0].title if len(sizes) == 1 else "the first model of its size"),
            "",
            "## Each against its baseline",
            "",
            markdown(_difference_rows(models, rows)),
            "",
            "## The models",
            "",
            markdown([_model_row(model) for model in models]),
            "",
            f"By omnirouter {omnirouter.__version__}, commit {checkout_commit()}.",
            "",
        ]
    )
    with atomic_write(output) as file:
        file.write(text)
    return text


def common_sets(experiments: Sequence[Path]) -> list[str]:
    """Return the sets on which all experiments have scores, without those that any was validated on.

    A set decoded by a beam search is one of its own, such as `test_beam`; those decoded greedily come first.
    """
    scored = [{path.parent.name for path in experiment.glob("decode_*/score")} for experiment in experiments]
    dev_sets = {_dev_set(experiment) for experiment in experiments}
    folders = [name for name in set.intersection(*scored) if split_name(name)[0] not in dev_sets]
    if not folders:
        listed = ", ".join(map(str, experiments))
        raise UserError(f"no test set on which all of these have scores: {listed}; run stages 5 and 6 of each")
    folders.sort(key=lambda name: (DECODINGS.index(split_name(name)[1]), name))
    return [name.removeprefix("decode_") for name in folders]


def _dev_set(experiment: Path) -> str:
    path = experiment / "config.yaml"
    if not path.is_file():
        raise UserError(f"{experiment}: no config.yaml; is it an experiment?")
    return Path(yaml.safe_load(path.read_bytes()).get("inputs", {}).get("dev", "")).name


def _models(sizes: Sequence[Sequence[Sequence[Path]]], set_name: str) -> list[Model]:
    """Read what the models are; their results are those on one of the sets."""
    models: list[Model] = []
    for size in sizes:
        baseline = len(models)
        for column in size:
            results = [read_result(experiment / f"decode_{set_name}" / "score") for experiment in column]
            title = f"{results[0].encoder}, {results[0].parameters}"
            models.append(Model(list(column), title, results, baseline))
    if len({model.title for model in models}) < len(models):
        models = [replace(model, title=f"{model.title}, {model.experiments[0].name}") for model in models]
    return models


def _row(models: Sequence[Model], set_name: str, rate: str) -> Row:
    """Read one row of the table."""
    row = [read_decodings([e / f"decode_{set_name}" for e in model.experiments], rate) for model in models]
    for other in row[1:]:
        check_same_set(row[0], other)
    return Row(set_title(set_name), split_name(set_name)[1], row)


def _rate_rows(models: Sequence[Model], rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the rows of the main table: the sets decoded in one way, the mean reductions over them, the next way."""
    table = []
    for way, group in groupby(rows, key=lambda row: row.way):
        alike = list(group)
        table += [_set_cells(models, row) for row in alike]
        table += _reduction_rows(models, alike, "" if way == DECODINGS[0] else f" ({way})")
    return table


def _set_cells(models: Sequence[Model], row: Row) -> dict[str, str]:
    first = row.decodings[0]
    counts = {"utterances": str(len(first.utt_ids)), "words": str(first.units_U.sum())}
    rates = {m.title: _rate_cell(d, row.decodings[m.baseline]) for m, d in zip(models, row.decodings, strict=True)}
    return {"set": row.title, **counts, **rates}


def _reduction_rows(models: Sequence[Model], rows: Sequence[Row], ending: str) -> Iterator[dict[str, str]]:
    """Yield the mean relative reductions over the sets against each model, of those after it in its size."""
    rates = [[float(row.decodings[place].percent_S.mean()) for row in rows] for place in range(len(models))]
    for place, reference in enumerate(models):
        cells = dict.fromkeys((model.title for model in models), "")
        for other in range(place + 1, len(models)):
            if models[other].baseline == reference.baseline:
                reduction = mean_relative_reduction(rates[place], rates[other])
                cells[models[other].title] = UNKNOWN if math.isnan(reduction) else f"{reduction:.1f} %"
        if any(cells.values()):
            title = f"mean relative reduction against {reference.title}{ending}"
            yield {"set": title, "utterances": "", "words": "", **cells}


def _rate_cell(decoding: Decoding, baseline: Decoding) -> str:
    """Return rate and interval, with a mark where the rate differs significantly from the baseline's."""
    low, high = rate_interval(decoding.errors_U, decoding.units_U)
    mark = MARK if _is_significant(decoding, baseline) else ""
    return f"{decoding.percent_S.mean():.2f}{mark} [{low:.2f}, {high:.2f}]"


def _is_significant(model: Decoding, baseline: Decoding) -> bool:
    """Tell whether two rates differ over utterances and, where both have several seeds, over seeds too."""
    several = min(len(model.percent_S), len(baseline.percent_S)) > 1
    over_utterances = matched_pairs(model.errors_U, baseline.errors_U)[1] < SIGNIFICANT
    return over_utterances and (not several or over_seeds(model.percent_S, baseline.percent_S)[2] < SIGNIFICANT)


def _difference_rows(models: Sequence[Model], rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the comparison of each model with its baseline, set by set."""
    table = []
    for row in rows:
        for place, model in enumerate(models):
            if place != model.baseline:
                names = {"set": row.title, "encoder": model.title, "baseline": models[model.baseline].title}
                table.append(names | _difference_cells(row.decodings[place], row.decodings[model.baseline]))
    return table or [{"set": "none"}]


def _difference_cells(model: Decoding, baseline: Decoding) -> dict[str, str]:
    arrays = (model.errors_U, baseline.errors_U, model.units_U)
    by_utterance, by_speaker = paired_bootstrap(*arrays), paired_bootstrap(*arrays, model.speakers)
    cells = {"points": f"{by_utterance.points:+.2f}"}
    for name, difference in (("utterance", by_utterance), ("speaker", by_speaker)):
        cells[f"95 % by {name}"] = _interval(difference.low, difference.high)
        cells[f"better, by {name}"] = _known(difference.probability, ".4f")
    cells["p, matched pairs"] = f"{matched_pairs(model.errors_U, baseline.errors_U)[1]:.2g}"
    low, high, p = math.nan, math.nan, math.nan
    if min(len(model.percent_S), len(baseline.percent_S)) > 1:
        low, high, p = over_seeds(model.percent_S, baseline.percent_S)
    return {**cells, "95 % by seed": _interval(low, high), "p, seeds": _known(p, ".2g")}


def _known(value: float, form: str) -> str:
    """Return a number, or what stands for one that there is not, as of one speaker."""
    return UNKNOWN if math.isnan(value) else format(value, form)


def _interval(low: float, high: float) -> str:
    return UNKNOWN if math.isnan(low) else f"{low:+.2f} to {high:+.2f}"


def _model_row(model: Model) -> dict[str, str]:
    first, training = model.results[0], model.results[0].training
    trained = (
        f"{training.utterances} utterances, {training.words} words, {training.hours:.1f} h" if training else UNKNOWN
    )
    return {
        "encoder": model.title,
        "active": first.active_parameters,
        "trained on": trained,
        "experiments": ", ".join(result.experiment for result in model.results),
        "config": ", ".join(result.config_hash for result in model.results),
        "commit": ", ".join(dict.fromkeys(result.commit for result in model.results)),
    }


def _legend(baseline: str) -> list[str]:
    """Say how to read the tables; baseline: what a model is compared with."""
    return [
        "- Sets: all that every model was scored on, but for the one that training was validated on; (beam), (lm): "
        "decoded by beam search, without or with a language model.",
        "- Rates: means over the seeds of each; in brackets the 95 % interval over utterances (bootstrap).",
        f"- {MARK}: differs from {baseline} over utterances (matched pairs) and, where both have several seeds, over "
        f"seeds (Welch), p < {SIGNIFICANT} in each test by itself.",
        "- Mean relative reduction: the mean over the sets above, decoded in the same way, of each set's relative "
        "reduction.",
        "- Better: probability of fewer errors than the baseline's, were other utterances or speakers drawn (paired "
        "bootstrap). By seed: were other seeds trained (Welch's t-test).",
    ]
