"""What stage 7 writes for one experiment and set: numbers, the experts of all tokens, and the figures of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnirouter.analysis.agreement_figures import agreement_figure, table_figure
from omnirouter.analysis.assignments import write_assignments
from omnirouter.analysis.curves import random_routing_figure
from omnirouter.analysis.hearing import as_json, hear, hearing_figure, hearing_table, profile_figure
from omnirouter.analysis.labels import PHONES, set_labels
from omnirouter.analysis.plot import finite, palette, write_figure
from omnirouter.analysis.ribbons import Heard, choose_utterances, ribbon_figure
from omnirouter.analysis.routing import SetRouting, routing_json, routing_table
from omnirouter.analysis.subject import Subject
from omnirouter.data.dataset import FeatureUtterance
from omnirouter.data.errors import UserError
from omnirouter.data.features import load_features
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.decoding.alignment import path_words
from omnirouter.decoding.ctm import read_ctm

MEL_FILE, MEL_PREFIX = "mel.npz", "mel_"
"""Features of the utterances that Fig. 2 shows, for figures of several experiments."""


def wanted_utterances(
    utterances: Sequence[FeatureUtterance], named: Sequence[str], count: int, seed: int, stack_frames: int
) -> list[FeatureUtterance]:
    """The named utterances, or, if none is, so many drawn by the seed; all have a token of `stack_frames` frames.

    UserError for a named one that is not there or too short.
    """
    by_id = {utterance.utt_id: utterance for utterance in utterances if utterance.frames >= stack_frames}
    for utt_id in named:
        if utt_id not in by_id:
            raise UserError(f"no utterance {utt_id!r} of at least {stack_frames} frames in this set")
    return [by_id[utt_id] for utt_id in named or choose_utterances(list(by_id), count, seed)]


def write_set(
    folder: Path,
    subject: Subject,
    routing: SetRouting,
    tokenizer: Tokenizer,
    data_dir: Path,
    shown: Sequence[FeatureUtterance],
    layers: tuple[int, int] | None = None,
) -> None:
    """Write all files of an experiment's routing on a set into a folder.

    shown: the utterances of Fig. 2; layers: those of Fig. 4.
    """
    (folder / "routing.txt").write_text(routing_table(routing.layers), encoding="utf-8")
    (folder / "routing.json").write_text(json.dumps(routing_json(routing.layers), indent=1) + "\n", encoding="utf-8")
    write_assignments(folder / "experts.npz", routing.assignments)
    _write_ribbons(folder, subject, routing, tokenizer, data_dir, shown)
    if len(routing.assignments.layers) > 1:
        write_figure(folder, "fig4_contingency", *table_figure([subject], data_dir.name, layers))
        write_figure(folder, "fig5_cramers_v", *agreement_figure([subject], data_dir.name, palette([subject.title])))
    _write_hearing(folder, subject, routing, tokenizer, data_dir)


def _write_ribbons(
    folder: Path,
    subject: Subject,
    routing: SetRouting,
    tokenizer: Tokenizer,
    data_dir: Path,
    shown: Sequence[FeatureUtterance],
) -> None:
    mels = {}
    phones = read_ctm(data_dir / PHONES) if (data_dir / PHONES).exists() else {}
    for utterance in shown:
        mel = load_features(utterance.place, utterance.utt_id)
        path = routing.paths.get(utterance.utt_id, [])
        words = path_words(path, tokenizer, routing.assignments.token_s)
        heard = Heard(utterance.utt_id, mel, words, phones.get(utterance.utt_id, []))
        write_figure(folder, f"fig2_{utterance.utt_id}", *ribbon_figure(heard, [subject], data_dir.name))
        mels[MEL_PREFIX + utterance.utt_id] = mel.astype(np.float16)
    np.savez_compressed(folder / MEL_FILE, **mels)


def _write_hearing(folder: Path, subject: Subject, routing: SetRouting, tokenizer: Tokenizer, data_dir: Path) -> None:
    labels = set_labels(routing, tokenizer.tokens, data_dir)
    hearings = hear(routing.assignments, labels)
    (folder / "hearing.txt").write_text(hearing_table(hearings), encoding="utf-8")
    measured = as_json(hearings)
    figure = hearing_figure({subject.title: measured}, data_dir.name, palette([subject.title]))
    write_figure(folder, "hearing", figure, measured)
    profile = profile_figure(routing.assignments, labels, hearings, f"{subject.title}, {data_dir.name}")
    if profile is not None:
        write_figure(folder, "hearing_profile", *profile)


def write_random_routing(folder: Path, title: str, set_name: str, measured: Mapping[str, Any]) -> None:
    """Write what random routing has made of an experiment's error rate on a set into a folder, with its Fig. 3."""
    (folder / "wer.json").write_text(json.dumps(finite(measured), indent=1) + "\n", encoding="utf-8")
    figure = random_routing_figure({title: measured}, set_name, palette([title]))
    write_figure(folder, "fig3_random_routing", *figure)
