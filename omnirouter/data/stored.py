"""Stored features that are there already: what fbank's jobs have made in a folder is removed, all else is kept."""

import itertools
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

FEATS, COUNTS = "feats.scp", "utt2num_frames"
BACKUP = ".backup"
"""Folder of a data directory for what was there before; Kaldi's make_fbank.sh calls it so too."""


def job_files(output: Path, kind: str) -> list[Path]:
    """Return what jobs have written in the folder `output`: `headers.1` and the like, or, for feats, `feats.1.ark`."""
    made = re.compile(rf"{kind}\.\d+(\.ark|\.scp)?(\.tmp)?")
    return [path for path in output.iterdir() if made.fullmatch(path.name)]


def remove_job_files(output: Path, kind: str) -> None:
    """Remove these files."""
    for path in job_files(output, kind):
        path.unlink()


def remove_stored(data_dir: Path, output: Path) -> None:
    """Remove the features that a data directory has in the folder `output`, its feats.scp first, if it is of these."""
    output.mkdir(parents=True, exist_ok=True)
    if is_made_here(data_dir, output):
        (data_dir / FEATS).unlink()
    remove_job_files(output, "feats")


def set_aside_foreign(data_dir: Path, output: Path) -> None:
    """Move a feats.scp that others have made, and its utt2num_frames, to .backup/ of the data directory, and say so.

    So is a link to what is not there, as on a disk that is not mounted: when it is, those would be taken for ours.
    """
    if not os.path.lexists(data_dir / FEATS) or is_made_here(data_dir, output):
        return
    names = [name for name in (COUNTS, FEATS) if os.path.lexists(data_dir / name)]
    backup = data_dir / BACKUP
    backup.mkdir(exist_ok=True)
    ending = _free_ending(backup, names)
    for name in names:  # feats.scp last: when it is gone, this is done
        (data_dir / name).rename(backup / f"{name}{ending}")
    moved = backup / f"{FEATS}{ending}"
    print(f"{data_dir / FEATS}: its features are not those in {output}; moved to {moved}", file=sys.stderr)


def is_made_here(data_dir: Path, output: Path) -> bool:
    """Tell whether a data directory has a feats.scp, all of whose archives are those that jobs write in `output`."""
    path, folder = data_dir / FEATS, output.resolve()
    if not path.exists():
        return False
    with open(path, "rb") as file:
        archives = {line.split(maxsplit=1)[-1].rpartition(b":")[0] for line in file if line.strip()}
    return all(_is_archive_of(Path(archive.decode(errors="surrogateescape")), folder) for archive in archives)


def _is_archive_of(archive: Path, folder: Path) -> bool:
    return re.fullmatch(r"feats\.\d+\.ark", archive.name) is not None and archive.parent.resolve() == folder


def _free_ending(folder: Path, names: Sequence[str]) -> str:
    """Return what makes all the names free in a folder: nothing, or a number from `.2` on, the same for all."""
    endings = itertools.chain([""], (f".{number}" for number in itertools.count(2)))
    return next(end for end in endings if not any(os.path.lexists(folder / f"{name}{end}") for name in names))
