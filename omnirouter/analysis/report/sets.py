"""The part of the report on one set: the list of its utterances, and their details in pieces loaded when looked at."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from omnirouter.analysis.report.audio import Sound, write_sounds
from omnirouter.analysis.report.details import FIELDS, Decoded, detail, read_decoded
from omnirouter.analysis.report.scripts import write_script
from omnirouter.data.datadir import Utterance, read_data_dir
from omnirouter.data.errors import UserError
from omnirouter.scoring.alignments import check_same_references

UTTERANCES_A_PIECE = 50


@dataclass(frozen=True)
class ReportedSet:
    """A set to report on, and where it has been decoded."""

    name: str
    """As in the folder's name after `decode_`: of the data directory, and of the way of decoding if not greedy."""
    number: int
    experiments: Sequence[Path | None]
    """All experiments of the report; None for those not scored on this set."""
    data_dir: Path | None
    """For audio, speakers and lengths."""


class AudioFolder:
    """The folder `audio` of a report, in which the utterances of a data directory are once, however often decoded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[tuple[str, ...], list[Sound]] = {}

    def add(self, utterances: Sequence[Utterance]) -> tuple[int, list[Sound]]:
        """Write utterances; return the number of their subfolder, and their sounds.

        Those that cannot be read are counted on stderr; `UserError` if there are no others.
        """
        key = tuple(f"{utt.recording} {utt.utt_id}" for utt in utterances)
        number = list(self._written).index(key) if key in self._written else len(self._written)
        if key not in self._written:
            sounds = write_sounds(utterances, self._folder / str(number))
            self._written[key] = list(tqdm(sounds, "audio", len(utterances), unit="utt", disable=None))
            _check_sounds(self._written[key])
        return number, self._written[key]


def write_set(
    reported: ReportedSet, folder: Path, audio: AudioFolder | None, allow_pipes: bool = False
) -> dict[str, Any]:
    """Write a set's scripts into `folder`, and its audio unless that is None; return what the page's index needs."""
    decoded = [read_decoded(path, reported.name) if path else None for path in reported.experiments]
    scored = [one for one in decoded if one]
    check_same_references({one.score: one.alignments for one in scored})
    utt_ids = sorted(scored[0].alignments)
    utterances = _utterances(reported, utt_ids, allow_pipes)
    number, sounds = audio.add(utterances) if audio else (None, [])
    _write_list(reported, folder, utt_ids, utterances, sounds, decoded)
    for start in range(0, len(utt_ids), UTTERANCES_A_PIECE):
        part = slice(start, start + UTTERANCES_A_PIECE)
        outlines = [sound.outline for sound in sounds[part]]
        piece = {"outlines": outlines, **_columns(decoded, utt_ids[part])}
        write_script(folder, f"set{reported.number}-{start // UTTERANCES_A_PIECE}", piece)
    return {
        "name": reported.name,
        "piece": UTTERANCES_A_PIECE,
        "layers": [one and one.layers for one in decoded],
        "audio": number,
    }


def _columns(decoded: Sequence[Decoded | None], utt_ids: Sequence[str]) -> dict[str, list[list[Any] | None]]:
    """Return the details of utterances by field, experiment and utterance: what is alike stands together, to pack."""
    details = [one and [detail(one, utt_id) for utt_id in utt_ids] for one in decoded]
    return {field: [mine and [about.get(field) for about in mine] for mine in details] for field in FIELDS}


def _write_list(
    reported: ReportedSet,
    folder: Path,
    utt_ids: Sequence[str],
    utterances: Sequence[Utterance],
    sounds: Sequence[Sound],
    decoded: Sequence[Decoded | None],
) -> None:
    """Write what is needed to list, sort and search the utterances, a column each."""
    scored = [one.alignments for one in decoded if one]
    columns = {
        "ids": utt_ids,
        "speakers": [utt.speaker for utt in utterances],
        "lengths_s": [round(sound.duration_s, 2) for sound in sounds]
        or [utt.duration_s and round(utt.duration_s, 2) for utt in utterances],
        "audio": [not sound.problem for sound in sounds],
        "texts": [" ".join(scored[0][utt_id].ref) for utt_id in utt_ids],
        "errors": [one and [one.alignments[utt_id].errors for utt_id in utt_ids] for one in decoded],
        "differ": [len({tuple(mine[utt_id].hyp) for mine in scored}) > 1 for utt_id in utt_ids],  # the hypotheses
    }
    write_script(folder, f"set{reported.number}", columns)


def _utterances(reported: ReportedSet, utt_ids: Sequence[str], allow_pipes: bool) -> list[Utterance]:
    """Return the utterances of the data directory in the order of `utt_ids`; an empty list without a directory."""
    if reported.data_dir is None:
        return []
    found = {utt.utt_id: utt for utt in read_data_dir(reported.data_dir, allow_pipes, labelled=False)}
    lacking = [utt_id for utt_id in utt_ids if utt_id not in found]
    if lacking:
        raise UserError(
            f"{reported.data_dir}: {len(lacking)} scored utterances are not in it, first {lacking[0]}; "
            f"name with --data the directory of which decode_{reported.name} was made"
        )
    return [found[utt_id] for utt_id in utt_ids]


def _check_sounds(sounds: Sequence[Sound]) -> None:
    """Say which audio lacks."""
    problems = [sound.problem for sound in sounds if sound.problem]
    if problems and len(problems) == len(sounds):
        raise UserError(f"{problems[0]}; no audio of this set can be read: --no-audio makes a report without")
    if problems:
        print(f"{len(problems)} of {len(sounds)} utterances without audio, first: {problems[0]}", file=sys.stderr)
