"""Models to compare, of one or several sizes, and their decodings of the sets that all were scored on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import yaml

from omnirouter.data.errors import UserError
from omnirouter.decoding.folders import DECODINGS, set_title, split_name
from omnirouter.scoring.decodings import Decoding, check_same_set, read_decodings, read_references
from omnirouter.scoring.results import Result, read_result


@dataclass(frozen=True)
class Model:
    """One column: an experiment, or several that are alike but for their seeds."""

    experiments: list[Path]
    title: str
    results: list[Result]
    """Of the first set."""
    baseline: int
    """The number of the column which is the first of its size."""

    @property
    def encoder(self) -> tuple[str, str]:
        """The kind of encoder, and how many experts it has, as `encoder_name` joins them; dense: none."""
        kind, _, experts = self.results[0].encoder.partition(", ")
        return kind, experts.removesuffix(" experts")


@dataclass(frozen=True)
class Row:
    """One set, decoded in one way by all models."""

    title: str
    way: str
    """One of DECODINGS."""
    is_dev: bool
    """Whether a model was validated on any of its utterances."""
    decodings: list[Decoding]
    """By model."""


@dataclass(frozen=True)
class DevSets:
    """What models were validated on, by which their steps and weights were chosen."""

    names: set[str]
    utterances: set[tuple[str, str]]
    """Ids and transcripts: another set may hold the same, as LibriSpeech's dev does dev_clean's."""
    unscored: list[str]
    """Experiments without scores on theirs, from which its utterances would be known."""


def compared_pairs(models: Sequence[Model]) -> list[tuple[int, int]]:
    """Return the pairs of columns of one size, by number: each with all that stand before it."""
    return [(a, b) for a, b in combinations(range(len(models)), 2) if models[a].baseline == models[b].baseline]


def switch_of(models: Sequence[Model], place: int) -> int | None:
    """Return the number of the Switch column of the same size and as many experts as an Omni-router's before it.

    The paper compares these two. None: the column is no Omni-router, or there is no such column.
    """
    kind, experts = models[place].encoder
    pairs = [(a, b) for a, b in compared_pairs(models) if b == place and kind == "omnirouter"]
    return next((a for a, _ in pairs if models[a].encoder == ("switch", experts)), None)


def common_sets(experiments: Sequence[Path], dev: DevSets) -> list[str]:
    """Return the sets on which all experiments have scores; `UserError` without one that none was validated on.

    A set decoded by a beam search is one of its own, such as `test_beam`.
    """
    scored = [{path.parent.name for path in experiment.glob("decode_*/score")} for experiment in experiments]
    folders = sorted(set.intersection(*scored))
    if all(split_name(name)[0] in dev.names for name in folders):
        listed = ", ".join(map(str, experiments))
        raise UserError(f"no test set on which all of these have scores: {listed}; run stages 5 and 6 of each")
    return [name.removeprefix("decode_") for name in folders]


def read_dev_sets(experiments: Sequence[Path]) -> DevSets:
    """Read what the experiments were validated on: the names from their configs, the utterances from the scores."""
    names, utterances, unscored = set(), set(), []
    for experiment in experiments:
        path = experiment / "config.yaml"
        if not path.is_file():
            raise UserError(f"{experiment}: no config.yaml; is it an experiment?")
        name = Path(yaml.safe_load(path.read_bytes()).get("inputs", {}).get("dev", "")).name
        names.add(name)
        references = _references(experiment, name)
        utterances.update(references.items())
        if not references:
            unscored.append(experiment.name)
    return DevSets(names, utterances, unscored)


def _references(experiment: Path, set_name: str) -> dict[str, str]:
    """Return the transcripts of a set, as any score of it has them, however it was decoded; none without one."""
    tables = sorted(experiment.glob("decode_*/score/per_utt"))
    of_set = [path for path in tables if split_name(path.parents[1].name)[0] == set_name]
    return read_references(of_set[0]) if of_set else {}


def read_models(sizes: Sequence[Sequence[Sequence[Path]]], set_name: str) -> list[Model]:
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


def read_rows(models: Sequence[Model], sets: Sequence[str], rate: str, dev: DevSets) -> list[Row]:
    """Read the rows of the table: those decoded greedily first, and of one way of decoding the test sets first."""
    rows = [_read_row(models, set_name, rate, dev) for set_name in sets]
    return sorted(rows, key=lambda row: (DECODINGS.index(row.way), row.is_dev))


def _read_row(models: Sequence[Model], set_name: str, rate: str, dev: DevSets) -> Row:
    decodings = [read_decodings([e / f"decode_{set_name}" for e in model.experiments], rate) for model in models]
    for other in decodings[1:]:
        check_same_set(decodings[0], other)
    name, way = split_name(set_name)
    is_dev = name in dev.names or not dev.utterances.isdisjoint(decodings[0].references.items())
    return Row(set_title(set_name) + (" (dev)" if is_dev else ""), way, is_dev, decodings)
