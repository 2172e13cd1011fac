"""What is known of each token of a set, other than its experts: loudness, phone, unit, speaker, accent, noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnirouter.analysis.assignments import Assignments
from omnirouter.analysis.routing import SetRouting
from omnirouter.data.fbank import SAMPLE_RATE_HZ, SHIFT_SAMPLES, WINDOW_SAMPLES
from omnirouter.data.tables import read_table
from omnirouter.decoding.ctm import Word, read_ctm

UNKNOWN = -1
PHONES = "phones.ctm"
SILENCE_RANGE_DB = 30.0
LOUD, QUIET = 95, 5  # percentiles of an utterance's token energies


@dataclass(frozen=True)
class Labels:
    """One kind of label for the tokens of a set."""

    name: str
    values: list[str]
    index_T: np.ndarray
    """Which of the values each token has, in the assignments' order; UNKNOWN where none is known."""
    bearer_T: np.ndarray | None = None
    """Which utterance, or speaker, each token belongs to, where the label is one of the whole of it."""


def set_labels(routing: SetRouting, tokens: Sequence[str], data_dir: Path) -> list[Labels]:
    """All labels that a data directory allows; `tokens` are the tokenizer's units.

    Beside Kaldi's utt2spk these may be `phones.ctm` (phones or phonemes with their times), `spk2accent` and
    `utt2noise`, of which the first word counts.
    """
    assignments = routing.assignments
    labels = [silence_labels(routing.energy_db_T, assignments)]
    if (data_dir / PHONES).exists():
        labels.append(phone_labels(read_ctm(data_dir / PHONES), assignments))
    if routing.paths:
        labels.append(unit_labels(routing.paths, tokens, assignments))
    speakers = _table(data_dir / "utt2spk")
    accents = _table(data_dir / "spk2accent")
    tables = {
        "speaker": speakers,
        "accent": {utt_id: accents[speaker] for utt_id, speaker in speakers.items() if speaker in accents},
        "noise": {utt_id: noise.split()[0] for utt_id, noise in _table(data_dir / "utt2noise").items()},
    }
    bearers = {"accent": speakers}
    return labels + [
        utterance_labels(name, table, assignments, bearers.get(name)) for name, table in tables.items() if table
    ]


def silence_labels(energy_db_T: np.ndarray, assignments: Assignments) -> Labels:
    """Call a token silence if it is quiet in its utterance: under the middle between its 5th and 95th percentile of
    energy in dB, or 30 dB under the 95th."""
    silent_T = np.zeros(len(energy_db_T), np.int64)
    for start, end in zip(assignments.offsets[:-1], assignments.offsets[1:], strict=True):
        energy_db = energy_db_T[start:end]
        if len(energy_db):
            quiet, loud = np.percentile(energy_db, [QUIET, LOUD])
            silent_T[start:end] = energy_db < max((quiet + loud) / 2, loud - SILENCE_RANGE_DB)
    return Labels("silence", ["speech", "silence"], silent_T)


def phone_labels(phones: Mapping[str, Sequence[Word]], assignments: Assignments) -> Labels:
    """Label each token with the phone at the middle of its frames."""
    names = [phone_at(phones.get(utt_id, ()), times_s) for utt_id, times_s in _token_times(assignments)]
    return _make("phone", [name for utterance in names for name in utterance])


def phone_at(phones: Sequence[Word], times_s: np.ndarray) -> list[str | None]:
    """Name the phone, of those in order of time, that lasts at each time; None where none does."""
    starts_s = np.array([phone.start_s for phone in phones])
    found = np.searchsorted(starts_s, times_s, side="right") - 1
    return [
        phones[i].text if i >= 0 and time_s < phones[i].start_s + phones[i].duration_s else None
        for i, time_s in zip(found.tolist(), times_s.tolist(), strict=True)
    ]


def _token_times(assignments: Assignments) -> list[tuple[str, np.ndarray]]:
    """Times of the middles of each utterance's tokens, in seconds; a frame's window reaches beyond its shift."""
    overhang_s = (WINDOW_SAMPLES - SHIFT_SAMPLES) / SAMPLE_RATE_HZ
    lengths = assignments.lengths().tolist()
    return [
        (utt_id, (np.arange(length) + 0.5) * assignments.token_s + overhang_s / 2)
        for utt_id, length in zip(assignments.utt_ids.tolist(), lengths, strict=True)
    ]


def unit_labels(paths: Mapping[str, Sequence[int]], tokens: Sequence[str], assignments: Assignments) -> Labels:
    """Label each token with the tokenizer's unit, or the blank, that its transcript's alignment has there."""
    names: list[str | None] = []
    for utt_id, length in zip(assignments.utt_ids.tolist(), assignments.lengths().tolist(), strict=True):
        names += [tokens[label] for label in paths[utt_id]] if utt_id in paths else [None] * length
    return _make("unit", names)


def utterance_labels(
    name: str, table: Mapping[str, str], assignments: Assignments, bearers: Mapping[str, str] | None = None
) -> Labels:
    """Give all tokens of an utterance its entry in a table; bearers: whose label it is, if not the utterance's own."""
    utt_ids = assignments.utt_ids.tolist()
    labels = _make(name, [table.get(utt_id) for utt_id in utt_ids])
    bearer_U = np.unique([(bearers or {}).get(utt_id, utt_id) for utt_id in utt_ids], return_inverse=True)[1]
    lengths = assignments.lengths()
    return Labels(name, labels.values, labels.index_T.repeat(lengths), bearer_U.repeat(lengths))


def _make(name: str, names: Sequence[str | None]) -> Labels:
    values = sorted({value for value in names if value is not None})
    index = {value: i for i, value in enumerate(values)}
    return Labels(name, values, np.array([UNKNOWN if value is None else index[value] for value in names], np.int64))


def _table(path: Path) -> dict[str, str]:
    return read_table(path) if path.exists() else {}
