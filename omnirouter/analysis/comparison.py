"""The figures of several experiments on one set, side by side as in the paper."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnirouter.analysis.agreement_figures import agreement_figure, table_figure
from omnirouter.analysis.assignments import Assignments, read_assignments
from omnirouter.analysis.curves import (
    loss_figure,
    random_routing_figure,
    read_metrics,
    read_random_routing,
    routing_in_training_figure,
)
from omnirouter.analysis.hearing import hearing_figure
from omnirouter.analysis.load_figure import load_figure
from omnirouter.analysis.plot import palette, write_figure
from omnirouter.analysis.ribbons import Heard, ribbon_figure
from omnirouter.analysis.set_figures import MEL_FILE, MEL_PREFIX
from omnirouter.analysis.subject import Subject, read_config, read_subject, title_of
from omnirouter.data.errors import UserError
from omnirouter.decoding.ctm import Word


def write_comparison(
    exps: Collection[Path], set_name: str | None, output: Path, layers: tuple[int, int] | None = None
) -> list[str]:
    """Write the figures of experiments on a set into a folder, beside what is there; return what had to be left out.

    Without a set, only the figures of training and of all sets. Dense encoders are in those of training only.
    UserError where training or stage 7 has not made an input.
    """
    names = [exp.name for exp in exps]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two experiments are called {name}: figures could not tell them apart")
    configs = {exp: read_config(exp) for exp in exps}
    metrics = {title_of(exp.name, config): read_metrics(exp) for exp, config in configs.items()}
    colour_of = palette(metrics)
    moe = [exp for exp in exps if configs[exp].encoder != "dense"]
    subjects = [read_subject(exp, set_name) for exp in moe] if set_name else []
    output.mkdir(parents=True, exist_ok=True)
    left_out = _write_training(output, metrics, colour_of)
    sets_of = {title_of(exp.name, configs[exp]): _all_sets(exp) for exp in moe}
    if any(sets_of.values()):
        write_figure(output, "load", *load_figure({title: sets for title, sets in sets_of.items() if sets}))
    if set_name is None:
        return left_out
    if not subjects:
        return [*left_out, "Fig. 2 to 5: none of these experiments is a mixture of experts"]
    left_out += _write_ribbons(output, moe, subjects, set_name)
    _write_hearing(output, moe, subjects, set_name, colour_of)
    layered = [subject for subject in subjects if len(subject.assignments.layers) > 1]
    if layered:
        write_figure(output, "fig4_contingency", *table_figure(layered, set_name, layers))
        write_figure(output, "fig5_cramers_v", *agreement_figure(layered, set_name, colour_of))
    return left_out + _write_random_routing(output, moe, subjects, set_name, colour_of)


def _write_training(
    output: Path, metrics: Mapping[str, Sequence[Mapping[str, Any]]], colour_of: Mapping[str, str]
) -> list[str]:
    """Draw Fig. 6 and routing in training of the experiments with a training step on record; name the others."""
    recorded = {title: records for title, records in metrics.items() if records}
    if recorded:
        write_figure(output, "fig6_training_loss", *loss_figure(recorded, colour_of))
    routing = routing_in_training_figure(recorded)
    if routing is not None:
        write_figure(output, "routing_in_training", *routing)
    missing = [title for title in metrics if title not in recorded]
    return [f"{title} in Fig. 6: no training step in its metrics.jsonl (see training.log_every)" for title in missing]


def _all_sets(exp: Path) -> dict[str, Assignments]:
    """The expert assignments of every set on which stage 7 has run, by the set's name."""
    files = sorted(exp.glob("routing_*/experts.npz"))
    return {path.parent.name.removeprefix("routing_"): read_assignments(path) for path in files}


def _write_ribbons(output: Path, exps: Sequence[Path], subjects: Sequence[Subject], set_name: str) -> list[str]:
    """Draw Fig. 2 of the utterances that stage 7 has drawn for all experiments; words as the first aligns them.

    Say so where there are none.
    """
    folders = [exp / f"routing_{set_name}" for exp in exps]
    drawn = [_load_mels(folder / MEL_FILE) for folder in folders]
    shared = sorted(set.intersection(*(set(mels) for mels in drawn)))
    for utt_id in shared:
        data = json.loads((folders[0] / f"fig2_{utt_id}.json").read_text(encoding="utf-8"))
        words, phones = ([Word(**word) for word in data.get(kind, ())] for kind in ("words", "phones"))
        heard = Heard(utt_id, drawn[0][utt_id].astype(np.float32), words, phones)
        write_figure(output, f"fig2_{utt_id}", *ribbon_figure(heard, subjects, set_name))
    titles = ", ".join(subject.title for subject in subjects)
    how = f"stage 7 has drawn no utterance of {set_name} for all; omnirouter.bin.analyse_routing --utts names them"
    return [] if shared else [f"Fig. 2 of {titles}: {how}"]


def _load_mels(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        raise UserError(f"{path} does not exist; stage 7 makes it")
    with np.load(path) as arrays:
        return {name.removeprefix(MEL_PREFIX): matrix for name, matrix in arrays.items()}


def _write_hearing(
    output: Path, exps: Sequence[Path], subjects: Sequence[Subject], set_name: str, colour_of: Mapping[str, str]
) -> None:
    measured = {}
    for exp, subject in zip(exps, subjects, strict=True):
        path = exp / f"routing_{set_name}" / "hearing.json"
        if not path.exists():
            raise UserError(f"{path} does not exist; stage 7 makes it")
        measured[subject.title] = json.loads(path.read_text(encoding="utf-8"))
    write_figure(output, "hearing", hearing_figure(measured, set_name, colour_of), measured)


def _write_random_routing(
    output: Path, exps: Sequence[Path], subjects: Sequence[Subject], set_name: str, colour_of: Mapping[str, str]
) -> list[str]:
    """Draw Fig. 3 of the experiments that have been decoded for it, which stage 7 does if told to; name the others."""
    measured: dict[str, Any] = {}
    missing: dict[str, list[str]] = {}
    for exp, subject in zip(exps, subjects, strict=True):
        path = exp / f"random_routing_{set_name}" / "wer.json"
        if path.exists():
            measured[subject.title] = read_random_routing(path)
        elif subject.config.top_k > 1:
            missing.setdefault("it is of the top-1 expert only (model.top_k)", []).append(subject.title)
        else:
            how = f"not measured on {set_name}; --random-routing of stage 7 does it, or omnirouter.bin.random_routing"
            missing.setdefault(how, []).append(subject.title)
    if measured:
        write_figure(output, "fig3_random_routing", *random_routing_figure(measured, set_name, colour_of))
    return [f"Fig. 3 of {', '.join(titles)}: {reason}" for reason, titles in missing.items()]
