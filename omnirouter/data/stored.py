"""Stored features that are there already: what fbank's jobs have made in a folder is removed, all else is kept."""

import os
import re
import sys
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
    """Move a feats.scp that others have made, and its utt2num_frames, to .backup/ of the data directory, and say so."""
    if not (data_dir / FEATS).exists() or is_made_here(data_dir, output):
        return
    backup = _free_name(data_dir / BACKUP / FEATS)
    if (data_dir / COUNTS).exists():
        (data_dir / COUNTS).rename(_free_name(data_dir / BACKUP / COUNTS))  # first: this is done when feats.scp is gone
    (data_dir / FEATS).rename(backup)
    print(f"{data_dir / FEATS}: its features are not those in {output}; moved to {backup}", file=sys.stderr)


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


def _free_name(path: Path) -> Path:
    """Return the path, with a number after it if there is such a file already; its folder is made."""
    path.parent.mkdir(exist_ok=True)
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free
