"""What training goes on without: steps that are not finite, and utterances that are unreadable or not wanted."""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from omnirouter.data.dataset import Batch
from omnirouter.data.errors import UserError
from omnirouter.data.index import Index
from omnirouter.training.distributed import gathered, raise_in_all
from omnirouter.training.log import LOG

LEAVE_OUT = "leave_out"
"""The file of an experiment directory that lists utterances to leave out: made by the user, read at every start."""


class SkippedSteps:
    """Counts steps whose loss or gradient is not finite."""

    def __init__(self, most: int, exp: Path) -> None:
        self._most, self._exp = most, exp
        self.count = 0

    def add(self, step: int, utt_ids: Sequence[str]) -> None:
        """Count a step, in all processes, and name its utterances; UserError when it has happened too often."""
        self.count += 1
        what = f"step {step}: loss or gradient not finite; utterances {', '.join(utt_ids)}"
        LOG.warning("%s; the step is skipped, %d of at most %d", what, self.count, self._most)
        advice = (
            f"more than training.max_skipped_steps, now {self._most}. If the log names the same utterances each time, "
            f"write their ids, one a line, into {self._exp / LEAVE_OUT}, or raise this field, and give the command "
            "again; if not, the training diverges: --restart with a lower optim.lr"
        )
        raise_in_all(f"{what}; {self.count} steps skipped, {advice}" if self.count > self._most else None)


class Unreadable:
    """The utterances found so far whose features cannot be had."""

    def __init__(self, most: int, left_out: Collection[str] = ()) -> None:
        """most: how many there may be, without those that are `left_out` in any case."""
        self._most, self._left_out = most, frozenset(left_out)
        self._known: set[str] = set()

    @property
    def utt_ids(self) -> list[str]:
        """Ids, sorted."""
        return sorted(self._known)

    def restore(self, utt_ids: Iterable[str]) -> None:
        """Take up those found before."""
        self._known = set(utt_ids) - self._left_out

    def count_new(self, batches: Sequence[Batch]) -> int:
        """Return how many that batches lack are not known yet."""
        return sum(len(batch.unreadable.keys() - self._known) for batch in batches)

    def add_from_all(self, batches: Sequence[Batch]) -> None:
        """Take note of what the batches of all processes lack; UserError when it is too much."""
        mine = {utt_id: reason for batch in batches for utt_id, reason in batch.unreadable.items()}
        raise_in_all(self.add({utt_id: why for its in gathered(mine) for utt_id, why in its.items()}))

    def add(self, reasons: Mapping[str, str]) -> str | None:
        """Name those in the log that are not known yet; returns what to tell the user when they are too many."""
        last = ""
        for utt_id in sorted(reasons.keys() - self._known - self._left_out):
            self._known.add(utt_id)
            last = f"utterance {utt_id}: {reasons[utt_id]}"
            if len(self._known) <= self._most:
                LOG.warning("training goes on without %s (%d of at most %d)", last, len(self._known), self._most)
        if len(self._known) <= self._most:
            return None
        return (
            f"{last}; unreadable so far: {len(self._known)}, more than training.max_unreadable_share allows, "
            f"{self._most}; mend them, or raise it, and give the command again"
        )


def read_left_out(path: Path) -> dict[str, int]:
    """Utterances that a list of those to leave out names, and the line of each; none if there is no list.

    UserError for a line that is not UTF-8.
    """
    lines = enumerate(path.read_bytes().splitlines() if path.exists() else (), 1)
    utterances = {_decoded(path, number, line): number for number, line in lines}
    utterances.pop("", None)  # of empty lines
    return utterances


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        what = f"{path}:{number}: not UTF-8: byte {error.start + 1} of the line is 0x{line[error.start]:02x}"
        raise UserError(f"{what}; write the utterance's id as in the data directory's files") from error


def left_out_rows(path: Path, index: Index) -> list[int]:
    """Rows of an index that a list of utterances to leave out names; UserError if it has others."""
    rows = []
    for utt_id, number in read_left_out(path).items():
        row = bisect_left(range(len(index)), utt_id, key=index.utt_id)
        if row == len(index) or index.utt_id(row) != utt_id:
            raise UserError(f"{path}:{number}: {utt_id!r} is no utterance of the training set; correct or remove it")
        rows.append(row)
    if rows:
        LOG.info("%d utterances are left out, as %s says", len(rows), path)
    return rows
