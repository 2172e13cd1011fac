"""One table of several models on several sets, in the form of the paper's Tables I and IV."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

import omnirouter
from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_write
from omnirouter.decoding.folders import split_name
from omnirouter.scoring.bootstrap import percentiles, replica_sums
from omnirouter.scoring.decodings import Decoding, check_same_set, read_decodings
from omnirouter.scoring.paired import matched_pairs, over_seeds, paired_bootstrap
from omnirouter.scoring.result_table import markdown
from omnirouter.scoring.results import HEADLINES, RATE_TITLES, Result, checkout_commit, read_result

SIGNIFICANT = 0.05
MARK = "*"


@dataclass(frozen=True)
class Model:
    """One column: an experiment, or several that are alike but for their seeds."""

    experiments: list[Path]
    title: str
    results: list[Result]
    """Of the first set."""


def mean_relative_reduction(reference: Sequence[float], model: Sequence[float]) -> float:
    """Return the mean over sets of the relative reduction of an error rate, in percent, as the paper averages it.

    Not the reduction of the mean rate, in which sets with high rates count for more.
    """
    return 100.0 * float(np.mean([(r - m) / r if r else math.nan for r, m in zip(reference, model, strict=True)]))


def write_comparison(columns: Sequence[Sequence[Path]], headline: str, output: Path) -> str:
    """Write the comparison of models, each a list of experiments (its seeds), to `output`; return the same text.

    The first model is the baseline. The sets are those that all were decoded and scored on, but for those that their
    training was validated on. headline: raw or whisper. `UserError` where a set is not the same for all.
    """
    sets = common_sets([experiment for column in columns for experiment in column])
    models = [_model(column, sets[0]) for column in columns]
    titles = [model.title for model in models]
    if len(set(titles)) < len(titles):
        models = [Model(m.experiments, f"{m.title}, {m.experiments[0].name}", m.results) for m in models]
    table = [_decodings(models, set_name, HEADLINES[headline]) for set_name in sets]
    text = "\n".join(
        [
            f"# Comparison: {RATE_TITLES[HEADLINES[headline]]}",
            "",
            markdown(_rate_rows(models, sets, table)),
            "",
            *_legend(models[0].title),
            "",
            f"## Each against {models[0].title}",
            "",
            markdown(_difference_rows(models, sets, table)),
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

    A set decoded by a beam search is one of its own, such as `test_beam`.
    """
    scored = [{path.parent.name for path in experiment.glob("decode_*/score")} for experiment in experiments]
    dev_sets = {_dev_set(experiment) for experiment in experiments}
    sets = [name.removeprefix("decode_") for name in set.intersection(*scored) if split_name(name)[0] not in dev_sets]
    if not sets:
        listed = ", ".join(map(str, experiments))
        raise UserError(f"no test set on which all of these have scores: {listed}; run stages 5 and 6 of each")
    return sorted(sets)


def _dev_set(experiment: Path) -> str:
    path = experiment / "config.yaml"
    if not path.is_file():
        raise UserError(f"{experiment}: no config.yaml; is it an experiment?")
    return Path(yaml.safe_load(path.read_bytes()).get("inputs", {}).get("dev", "")).name


def _model(experiments: Sequence[Path], set_name: str) -> Model:
    """Read what the experiments of a column are; their results are those on one of the sets."""
    results = [read_result(experiment / f"decode_{set_name}" / "score") for experiment in experiments]
    return Model(list(experiments), f"{results[0].encoder}, {results[0].parameters}", results)


def _decodings(models: Sequence[Model], set_name: str, rate: str) -> list[Decoding]:
    """Read one row of the table."""
    row = [read_decodings([e / f"decode_{set_name}" for e in model.experiments], rate) for model in models]
    for other in row[1:]:
        check_same_set(row[0], other)
    return row


def _rate_rows(
    models: Sequence[Model], sets: Sequence[str], table: Sequence[Sequence[Decoding]]
) -> list[dict[str, str]]:
    """Return the rows of the main table: a set each, then the mean relative reductions against each model."""
    rows = []
    for set_name, row in zip(sets, table, strict=True):
        cells = {m.title: _rate_cell(decoding, row[0]) for m, decoding in zip(models, row, strict=True)}
        rows.append({"set": set_name, **cells})
    rates = [[float(row[column].percent_S.mean()) for row in table] for column in range(len(models))]
    for place, reference in enumerate(models[:-1]):
        reductions = [mean_relative_reduction(rates[place], model) for model in rates]
        cells = {
            m.title: f"{x:.1f} %" if i > place else "" for i, (m, x) in enumerate(zip(models, reductions, strict=True))
        }
        rows.append({"set": f"mean relative reduction against {reference.title}", **cells})
    return rows


def _rate_cell(decoding: Decoding, baseline: Decoding) -> str:
    """Return rate and interval, with a mark where the rate differs significantly from the baseline's."""
    sums_R2 = replica_sums(np.stack([decoding.errors_U, decoding.units_U], axis=1))
    low, high = percentiles(100.0 * sums_R2[:, 0] / np.maximum(sums_R2[:, 1], 1))
    mark = MARK if _is_significant(decoding, baseline) else ""
    return f"{decoding.percent_S.mean():.2f}{mark} [{low:.2f}, {high:.2f}]"


def _is_significant(model: Decoding, baseline: Decoding) -> bool:
    """Tell whether two rates differ over utterances and, where both have several seeds, over seeds too."""
    several = min(len(model.percent_S), len(baseline.percent_S)) > 1
    over_utterances = matched_pairs(model.errors_U, baseline.errors_U)[1] < SIGNIFICANT
    return over_utterances and (not several or over_seeds(model.percent_S, baseline.percent_S)[2] < SIGNIFICANT)


def _difference_rows(
    models: Sequence[Model], sets: Sequence[str], table: Sequence[Sequence[Decoding]]
) -> list[dict[str, str]]:
    """Return the comparison of each model with the first, set by set."""
    rows = []
    for set_name, row in zip(sets, table, strict=True):
        for model, decoding in zip(models[1:], row[1:], strict=True):
            rows.append({"set": set_name, "encoder": model.title, **_difference_cells(decoding, row[0])})
    return rows or [{"set": "none"}]


def _difference_cells(model: Decoding, baseline: Decoding) -> dict[str, str]:
    arrays = (model.errors_U, baseline.errors_U, model.units_U)
    by_utterance, by_speaker = paired_bootstrap(*arrays), paired_bootstrap(*arrays, model.speakers)
    cells = {"points": f"{by_utterance.points:+.2f}"}
    for name, difference in (("utterance", by_utterance), ("speaker", by_speaker)):
        cells[f"95 % by {name}"] = f"{difference.low:+.2f} to {difference.high:+.2f}"
        cells[f"better, by {name}"] = f"{difference.probability:.4f}"
    cells["p, matched pairs"] = f"{matched_pairs(model.errors_U, baseline.errors_U)[1]:.2g}"
    if min(len(model.percent_S), len(baseline.percent_S)) > 1:
        low, high, p = over_seeds(model.percent_S, baseline.percent_S)
        return {**cells, "95 % by seed": f"{low:+.2f} to {high:+.2f}", "p, seeds": f"{p:.2g}"}
    return {**cells, "95 % by seed": "–", "p, seeds": "–"}


def _model_row(model: Model) -> dict[str, str]:
    first, training = model.results[0], model.results[0].training
    trained = f"{training.utterances} utterances, {training.words} words, {training.hours:.1f} h" if training else "–"
    return {
        "encoder": model.title,
        "active": first.active_parameters,
        "trained on": trained,
        "experiments": ", ".join(result.experiment for result in model.results),
        "config": ", ".join(result.config_hash for result in model.results),
        "commit": ", ".join(dict.fromkeys(result.commit for result in model.results)),
    }


def _legend(baseline: str) -> list[str]:
    return [
        "- Sets: all that every model was scored on, but for the one that training was validated on.",
        "- Means over the seeds of each; in brackets the 95 % interval over utterances (bootstrap).",
        f"- {MARK}: differs from {baseline} over utterances (matched pairs) and, where both have several seeds, over "
        f"seeds (Welch), p < {SIGNIFICANT} in each test by itself.",
        "- Mean relative reduction: the mean over the sets above of each set's relative reduction.",
        "- Better: probability of fewer errors than the baseline's, were other utterances or speakers drawn (paired "
        "bootstrap). By seed: were other seeds trained (Welch's t-test).",
    ]
