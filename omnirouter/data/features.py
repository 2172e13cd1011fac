"""Features of utterances, read where they are stored or computed, and their global mean and standard deviation."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kaldiio.matio import read_matrix_or_vector

from omnirouter.data.audio import LOSS_S
from omnirouter.data.datadir import Utterance
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S, utterance_fbank
from omnirouter.data.files import write_if_changed

Place = str | Utterance
"""Where features are: the scp entry `file:offset` of stored ones, or the audio that they are computed from."""


def load_features(place: Place, utt_id: str, frames: int | None = None) -> np.ndarray:
    """Return one utterance's features (frames, n_mels); anything else than features or audio is a UserError, as is what
    is not finite.

    frames: how many stage 2 has counted. Features that are computed may lack some, where audio ends before its header
    says, but must not differ by more.
    """
    if isinstance(place, Utterance):
        features = utterance_fbank(place)
        if frames is not None and abs(len(features) - frames) > LOSS_S * FRAMES_PER_S:
            raise UserError(f"utterance {utt_id}: {len(features)} frames, {frames} when counted; run stage 2 again")
        return features
    try:
        features = _read_matrix(place)
    except FileNotFoundError as error:
        raise UserError(f"utterance {utt_id}: cannot read its features at {place}: {error}") from error
    except Exception as error:  # garbage in an archive raises a dozen kinds
        raise UserError(
            f"utterance {utt_id}: cannot read its features at {place}: {error}; run stage 2 again"
        ) from error
    if not np.isfinite(features).all():  # audio has been checked
        raise UserError(f"utterance {utt_id}: its features are not finite; run stage 2 again")
    return features


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


SAME_STATS = 1e-5  # Kaldi's compression changes AN4's by 8e-5


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    stats_h: float = 20.0
    """Hours of training audio from which the features' mean and standard deviation are taken: all, if there are no more
    than this, else so much in utterances drawn from the set, the same in every training."""

    def __post_init__(self) -> None:
        if self.stats_h <= 0:
            raise UserError(f"features.stats_h: must be positive, is {self.stats_h}")


@dataclass(frozen=True)
class FeatureStats:
    """Global mean and standard deviation of each feature dimension."""

    mean: np.ndarray
    std: np.ndarray
    frames: int

    def save(self, path: Path) -> None:
        """Write as JSON."""
        content = {"frames": self.frames, "mean": self.mean.tolist(), "std": self.std.tolist()}
        write_if_changed(path, json.dumps(content, indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> "FeatureStats":
        """Read what `save` has written: the same numbers, to the last bit."""
        content = json.loads(path.read_text())
        return FeatureStats(np.array(content["mean"]), np.array(content["std"]), content["frames"])

    def is_close_to(self, other: "FeatureStats") -> bool:
        """Tell whether they may be of the same features, but for rounding, which another machine may do otherwise.

        Where one has k frames fewer than the other's n, its means may differ by √(k / (n - k)) deviations of the n, and
        its deviations be √(n / (n - k)) times theirs: no k frames that are taken out, whatever they hold, can move a
        mean further or leave a larger deviation. How small a one they can leave has no bound.
        """
        if self.mean.shape != other.mean.shape:
            return False
        fewer, more = sorted((self, other), key=lambda stats: stats.frames)
        lost = more.frames - fewer.frames
        mean_off = np.abs(fewer.mean - more.mean) - np.sqrt(lost / fewer.frames) * more.std
        std_off = fewer.std - np.sqrt(more.frames / fewer.frames) * more.std
        return bool((np.maximum(mean_off, std_off if lost else np.abs(std_off)) < SAME_STATS).all())


def feature_stats(matrices: Iterable[np.ndarray]) -> FeatureStats:
    """Accumulate the statistics of feature matrices (frames, n_mels) in double precision."""
    frames, total, squares = 0, np.zeros(1), np.zeros(1)
    for matrix in matrices:
        if not len(matrix):  # Kaldi's have no columns either
            continue
        x = matrix.astype(np.float64)
        frames, total, squares = frames + len(x), total + x.sum(axis=0), squares + (x * x).sum(axis=0)
    if not frames:
        raise UserError("no feature frames to take statistics of")
    mean = total / frames
    return FeatureStats(mean, np.sqrt(np.maximum(squares / frames - mean**2, 1e-10)), frames)
