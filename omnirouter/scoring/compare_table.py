"""One table of several models on several sets, in the form of the paper's Tables I to IV."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

import omnirouter
from omnirouter.data.files import atomic_write
from omnirouter.decoding.folders import DECODINGS
from omnirouter.scoring.bootstrap import rate_interval
from omnirouter.scoring.compared_models import (
    Model,
    Row,
    common_sets,
    compared_pairs,
    read_dev_sets,
    read_models,
    read_rows,
    switch_of,
)
from omnirouter.scoring.decodings import Decoding
from omnirouter.scoring.paired import matched_pairs, over_seeds, paired_bootstrap
from omnirouter.scoring.result_table import markdown
from omnirouter.scoring.results import HEADLINES, RATE_TITLES, UNKNOWN, checkout_commit
from omnirouter.scoring.seeds import check_distinct, seed_interval

SIGNIFICANT = 0.05
BASELINE_MARK, SWITCH_MARK = "*", "†"


def mean_relative_reduction(reference: Sequence[float], model: Sequence[float]) -> float:
    """Return the mean over sets of the relative reduction of an error rate, in percent, as the paper averages it.

    Not the reduction of the mean rate, in which sets with high rates count for more.
    """
    return 100.0 * float(np.mean([(r - m) / r if r else math.nan for r, m in zip(reference, model, strict=True)]))


def write_comparison(sizes: Sequence[Sequence[Sequence[Path]]], headline: str, output: Path) -> str:
    """Write the comparison of models to `output`; return the same text.

    sizes: the models of each size, each a list of experiments (its seeds); the first model of a size is the baseline of
    the others. The sets are those that all were decoded and scored on; those that share utterances with what a training
    was validated on are marked, and kept out of the means. headline: raw or whisper. `UserError` where a set is not the
    same for all, or an experiment is named twice.
    """
    experiments = [experiment for size in sizes for column in size for experiment in column]
    check_distinct(experiments)
    dev = read_dev_sets(experiments)
    sets = common_sets(experiments, dev)
    models = read_models(sizes, sets[0])
    rows = read_rows(models, sets, HEADLINES[headline], dev)
    text = "\n".join(
        [
            f"# Comparison: {RATE_TITLES[HEADLINES[headline]]}",
            "",
            *_main_tables(models, rows),
            "",
            *_legend(models, dev.unscored),
            "",
            "## Each against those before it",
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


def _main_tables(models: Sequence[Model], rows: Sequence[Row]) -> list[str]:
    """Return the lines of the rates: a column a model, or a row where numbers of experts or sizes are listed."""
    kinds = {model.encoder[0] for model in models}
    if len({(model.encoder, model.results[0].parameters) for model in models}) == len(kinds):
        return [markdown(_rate_rows(models, rows))]
    by_model = [_rates_of(models, rows, place) for place in range(len(models))]
    sets = [{"set": row.title, **_counts(row)} for row in rows]
    reductions = _reductions_by_pair(models, rows)
    return [markdown(by_model), "", *([markdown(reductions), ""] if reductions else []), markdown(sets)]


def _rate_rows(models: Sequence[Model], rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the rows of Tables I and IV: test sets decoded in one way, means over them, dev sets, the next way."""
    table = []
    for (way, is_dev), group in groupby(rows, key=lambda row: (row.way, row.is_dev)):
        alike = list(group)
        for row in alike:
            rates = {model.title: _rate_cell(models, row, place) for place, model in enumerate(models)}
            table.append({"set": row.title, **_counts(row), **rates})
        if not is_dev:
            table += _reduction_rows(models, alike, "" if way == DECODINGS[0] else f" ({way})")
    return table


def _counts(row: Row) -> dict[str, str]:
    first = row.decodings[0]
    return {"utterances": str(len(first.utt_ids)), "words": str(first.units_U.sum())}


def _reduction_rows(models: Sequence[Model], rows: Sequence[Row], ending: str) -> Iterator[dict[str, str]]:
    """Yield the mean relative reductions over the sets against each model, of those after it in its size."""
    for before, pairs in groupby(compared_pairs(models), key=lambda pair: pair[0]):
        cells = dict.fromkeys((model.title for model in models), "")
        cells |= {models[place].title: _reduction(rows, before, place) for _, place in pairs}
        title = f"mean relative reduction against {models[before].title}{ending}"
        yield {"set": title, "utterances": "", "words": "", **cells}


def _reduction(rows: Sequence[Row], before: int, place: int) -> str:
    """Return the mean relative reduction over the sets from one column to another."""
    reference, model = ([float(row.decodings[column].percent_S.mean()) for row in rows] for column in (before, place))
    return _known(mean_relative_reduction(reference, model), ".1f", " %")


def _rates_of(models: Sequence[Model], rows: Sequence[Row], place: int) -> dict[str, str]:
    """Return a row of Tables II and III: what the model is, and its rates."""
    model, result = models[place], models[place].results[0]
    (kind, experts), alike = model.encoder, model.title.removeprefix(f"{result.encoder}, {result.parameters}")
    names = {"model": kind + alike, "experts": experts or UNKNOWN, "size": result.parameters}
    return names | {row.title: _rate_cell(models, row, place) for row in rows}


def _reductions_by_pair(models: Sequence[Model], rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the mean relative reductions over the test sets decoded in one way, a pair of models a row."""
    test_sets = {way: [row for row in rows if row.way == way and not row.is_dev] for way in DECODINGS}
    means = {f"mean relative reduction, {way}": alike for way, alike in test_sets.items() if alike}
    return [
        {"encoder": models[place].title, "baseline": models[before].title}
        | {title: _reduction(alike, before, place) for title, alike in means.items()}
        for before, place in compared_pairs(models)
        if means
    ]


def _rate_cell(models: Sequence[Model], row: Row, place: int) -> str:
    """Return rate and intervals of one model, with marks where the rate differs significantly from the others'."""
    decoding, baseline, switch = row.decodings[place], models[place].baseline, switch_of(models, place)
    low, high = rate_interval(decoding.errors_U, decoding.units_U)
    marks = BASELINE_MARK if _is_significant(decoding, row.decodings[baseline]) else ""
    if switch not in (None, baseline) and _is_significant(decoding, row.decodings[switch]):
        marks += SWITCH_MARK
    cell = f"{decoding.percent_S.mean():.2f}{marks} [{low:.2f}, {high:.2f}]"
    if len(decoding.percent_S) == 1:
        return cell
    low, high = seed_interval(decoding.percent_S.tolist())
    return f"{cell}, seeds [{low:.2f}, {high:.2f}]"


def _is_significant(model: Decoding, other: Decoding) -> bool:
    """Tell whether two rates differ over utterances and, where both have several seeds, over seeds too."""
    several = min(len(model.percent_S), len(other.percent_S)) > 1
    over_utterances = matched_pairs(model.errors_U, other.errors_U)[1] < SIGNIFICANT
    return over_utterances and (not several or over_seeds(model.percent_S, other.percent_S)[2] < SIGNIFICANT)


def _difference_rows(models: Sequence[Model], rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the comparison of each model with those before it in its size, set by set."""
    table = []
    for row in rows:
        for before, place in compared_pairs(models):
            names = {"set": row.title, "encoder": models[place].title, "baseline": models[before].title}
            table.append(names | _difference_cells(row.decodings[place], row.decodings[before]))
    return table or [{"set": "none"}]


def _difference_cells(model: Decoding, other: Decoding) -> dict[str, str]:
    arrays = (model.errors_U, other.errors_U, model.units_U)
    by_utterance, by_speaker = paired_bootstrap(*arrays), paired_bootstrap(*arrays, model.speakers)
    cells = {"points": f"{by_utterance.points:+.2f}"}
    for name, difference in (("utterance", by_utterance), ("speaker", by_speaker)):
        cells[f"95 % by {name}"] = _interval(difference.low, difference.high)
        cells[f"better, by {name}"] = _known(difference.probability, ".4f")
    cells["p, matched pairs"] = f"{matched_pairs(model.errors_U, other.errors_U)[1]:.2g}"
    low, high, p = math.nan, math.nan, math.nan
    if min(len(model.percent_S), len(other.percent_S)) > 1:
        low, high, p = over_seeds(model.percent_S, other.percent_S)
    return {**cells, "95 % by seed": _interval(low, high), "p, seeds": _known(p, ".2g")}


def _known(value: float, form: str, unit: str = "") -> str:
    """Return a number, or what stands for one that there is not, as of one speaker."""
    return UNKNOWN if math.isnan(value) else format(value, form) + unit


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


def _legend(models: Sequence[Model], unscored: Sequence[str]) -> list[str]:
    """Say how to read the tables; unscored: experiments whose dev sets' utterances are not known."""
    names = ", ".join(unscored)
    baseline = models[0].title if not any(model.baseline for model in models) else "the first model of its size"
    switches = [switch_of(models, place) not in (None, model.baseline) for place, model in enumerate(models)]
    marks = [f"{BASELINE_MARK}: differs from {baseline}"]
    marks += [f"{SWITCH_MARK}: differs from Switch of its size and number of experts"] if any(switches) else []
    return [
        "- Sets: all that every model was scored on; (beam), (lm): decoded by beam search, without or with a language "
        "model. (dev): a training was validated, that is, its steps and weights were chosen, on utterances of it.",
        *([f"- Known by name only, without scores on it, is the dev set of: {names}."] if names else []),
        "- Rates: means over the seeds of each; in brackets the 95 % interval over utterances (bootstrap) and, of "
        "several seeds, that over seeds (Student), on the same utterances.",
        f"- {'; '.join(marks)}: over utterances (matched pairs) and, where both have several seeds, over seeds "
        f"(Welch), p < {SIGNIFICANT} in each test by itself.",
        "- Mean relative reduction: the mean over the sets, but (dev), decoded in the same way, of each set's relative "
        "reduction.",
        "- Better: probability of fewer errors than the baseline's, were other utterances or speakers drawn (paired "
        "bootstrap). By seed: were other seeds trained (Welch's t-test).",
    ]
