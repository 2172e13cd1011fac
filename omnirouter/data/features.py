"""Stored features: reading them, and their global mean and standard deviation."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kaldiio.matio import read_matrix_or_vector

from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_write


def load_features(place: str, utt_id: str) -> np.ndarray:
    """Read one utterance's features (frames, n_mels) from an scp entry `file:offset`; anything else is a UserError."""
    try:
        return _read_matrix(place)
    except FileNotFoundError as error:
        raise UserError(f"utterance {utt_id}: cannot read its features at {place}: {error}") from error
    except Exception as error:  # garbage in an archive raises a dozen kinds
        raise UserError(
            f"utterance {utt_id}: cannot read its features at {place}: {error}; run stage 2 again"
        ) from error


def _read_matrix(place: str) -> np.ndarray:
    # Not kaldiio.load_mat: it runs an entry that ends in "|" as a shell command, and unpickles what an archive holds.
    match = re.fullmatch(r"(.+):(\d+)", place)
    if not match:
        raise ValueError("that is no file:offset")
    if not Path(match[1]).is_file():
        where = "" if Path(match[1]).is_absolute() else f" relative to the current directory {Path.cwd()}"
        hint = "run stage 2 again" + (", or go to the directory where it ran" if where else "")
        raise FileNotFoundError(f"no such file{where}; {hint}")
    with open(match[1], "rb") as ark:
        ark.seek(int(match[2]))
        if ark.read(2) != b"\0B":
            raise ValueError("no Kaldi matrix begins there")
        ark.seek(-2, 1)
        matrix = read_matrix_or_vector(ark)
    if matrix.ndim != 2:
        raise ValueError("a vector, not a matrix")
    return matrix


@dataclass(frozen=True)
class FeatureStats:
    """Global mean and standard deviation of each feature dimension."""

    mean: np.ndarray
    std: np.ndarray
    frames: int

    def save(self, path: Path) -> None:
        """Write as JSON."""
        content = {"frames": self.frames, "mean": self.mean.tolist(), "std": self.std.tolist()}
        with atomic_write(path) as file:
            json.dump(content, file, indent=1)
            file.write("\n")


def feature_stats(matrices: Iterable[np.ndarray]) -> FeatureStats:
    """Accumulate the statistics of feature matrices (frames, n_mels) in double precision."""
    frames, total, squares = 0, np.zeros(1), np.zeros(1)
    for matrix in matrices:
        x = matrix.astype(np.float64)
        frames, total, squares = frames + len(x), total + x.sum(axis=0), squares + (x * x).sum(axis=0)
    if not frames:
        raise UserError("no feature frames to take statistics of")
    mean = total / frames
    return FeatureStats(mean, np.sqrt(np.maximum(squares / frames - mean**2, 1e-10)), frames)
