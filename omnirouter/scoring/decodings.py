"""Scored decodings as arrays: errors of each utterance, to compare experiments on the same set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnirouter.data.errors import UserError
from omnirouter.data.files import named_folder
from omnirouter.data.tables import read_table
from omnirouter.scoring.alignments import read_alignments
from omnirouter.scoring.report import RATE_FILES
from omnirouter.scoring.results import read_rate
from omnirouter.scoring.seeds import check_seeds

AGAIN = "score it again (stage 6)"


@dataclass(frozen=True)
class Decoding:
    """Errors of each utterance of a set, by one experiment or, on the mean, by several seeds of one."""

    name: str
    utt_ids: list[str]
    speakers: list[str]
    """Of each utterance."""
    references: dict[str, str]
    """Words of each utterance, as they are."""
    errors_SU: np.ndarray
    """Seeds × utterances."""
    units_U: np.ndarray
    """Reference words (or characters)."""
    counted: str
    """What was counted, and how it was aligned if not at unit cost."""

    @property
    def errors_U(self) -> np.ndarray:
        """Mean errors over the seeds."""
        return self.errors_SU.mean(axis=0)

    @property
    def percent_S(self) -> np.ndarray:
        """Error rate of each seed, in percent; not a number without a reference unit."""
        with np.errstate(invalid="ignore"):
            return 100.0 * self.errors_SU.sum(axis=1) / self.units_U.sum()


def find_decoding(name: str, set_name: str | None, exp: Path) -> Path:
    """Return the decode directory that `name` means: itself, or that of an experiment (a path, or a name in `exp`).

    A folder beside the experiments' may have the name of one, such as the package's: the one with the score is meant.
    """
    if (Path(name) / "score").is_dir():
        return Path(name)
    folders = [folder for folder in dict.fromkeys((Path(name), exp / name)) if folder.is_dir()]
    if not folders:
        raise UserError(f"{name}: neither a directory with a score, nor an experiment, nor a name in {exp}")
    if set_name is None:
        raise UserError(f"{name}: give the set as --set, or a directory decode_SET with a score")
    for folder in folders:
        if (folder / f"decode_{set_name}" / "score").is_dir():
            return folder / f"decode_{set_name}"
    looked = ", ".join(map(str, folders))
    raise UserError(f"{looked}: no decode_{set_name}/score; decode and score that set (stages 5 and 6)")


def read_decodings(paths: Sequence[Path], rate: str) -> Decoding:
    """Read decode directories of several seeds (or one) as one; `rate` is a key of RATE_FILES.

    `UserError` where the experiments above them differ in more than the seed.
    """
    check_seeds([path.parent for path in paths])
    decodings = [_read_decoding(path, rate) for path in paths]
    for other in decodings[1:]:
        check_same_set(decodings[0], other)
    first = decodings[0]
    errors_SU = np.concatenate([decoding.errors_SU for decoding in decodings])
    name = ", ".join(decoding.name for decoding in decodings)
    return Decoding(name, first.utt_ids, first.speakers, first.references, errors_SU, first.units_U, first.counted)


def check_same_set(a: Decoding, b: Decoding) -> None:
    """Raise `UserError` unless both are of the same utterances, references and speakers, and aligned alike."""
    if only := sorted(set(a.utt_ids) ^ set(b.utt_ids)):
        where = a.name if only[0] in a.references else b.name
        what = f"{len(only)} utterances are in one only, such as {only[0]} of {where}"
        raise UserError(f"{a.name} and {b.name} are of other sets: {what}")
    for utt_id in a.utt_ids:
        if a.references[utt_id] != b.references[utt_id]:
            raise UserError(f"{a.name} and {b.name} were scored by other references, such as of {utt_id}; {AGAIN}")
    if a.speakers != b.speakers or not np.array_equal(a.units_U, b.units_U):
        raise UserError(f"{a.name} and {b.name}: other speakers or another count of words; score both again (stage 6)")
    if a.counted != b.counted:
        raise UserError(f"{a.name} counts {a.counted}; {b.name} counts {b.counted}; score both with the same --align")


def _read_decoding(path: Path, rate: str) -> Decoding:
    folder, table = named_folder(path), path / "score" / "utt2errors"
    if not table.is_file():
        raise UserError(f"{table}: missing, as in scores of an older version; {AGAIN}")
    rows = [(utt_id, *value.split()) for utt_id, value in sorted(read_table(table).items())]
    column = 2 + list(RATE_FILES).index(rate)
    try:
        counts_U2 = np.array([list(map(int, row[column].split("/"))) for row in rows]).reshape(-1, 2)
    except (ValueError, IndexError) as error:
        raise UserError(f"{table}: not a file of stage 6; {AGAIN}") from error
    name = f"{named_folder(folder.parent).name}/{folder.name}"
    utt_ids, speakers = [row[0] for row in rows], [row[1] for row in rows]
    references = read_references(path / "score" / "per_utt")
    if references.keys() != set(utt_ids):
        raise UserError(f"{path / 'score'}: per_utt and utt2errors are of other utterances; {AGAIN}")
    counted = read_rate(path / "score" / rate).counted
    return Decoding(name, utt_ids, speakers, references, counts_U2[None, :, 0], counts_U2[:, 1], counted)


def read_references(per_utt: Path) -> dict[str, str]:
    """Return the words of each utterance's transcript, as they are, from a score's `per_utt`."""
    if not per_utt.is_file():
        raise UserError(f"{per_utt}: missing; {AGAIN}")
    return {utt_id: " ".join(alignment.ref) for utt_id, alignment in read_alignments(per_utt).items()}
