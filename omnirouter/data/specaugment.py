"""SpecAugment: random frequency and time masks on 10 ms frames, before stacking."""

from dataclasses import dataclass

import numpy as np

from omnirouter.data.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig:
    freq_masks: int = 2
    """Number of frequency masks."""
    freq_width: int = 30
    """Largest width of a frequency mask, in mel bands."""
    time_masks: int = 10
    """Number of time masks."""
    time_width: int = 50
    """Largest width of a time mask, in 10 ms frames."""
    time_ratio: float = 0.1
    """Largest width of each time mask as a share of the utterance; the smaller bound holds. The paper says "ratio 0.1"
    only, which could also bound all masks together, or set their number by the utterance's length. The default is what
    SpecAugment, which it cites, bounds so (Park et al. 2019: no mask wider than p times the utterance). The other two
    are other methods, which no field selects; with 0.1 / time_masks here, all masks together keep within 0.1."""

    def __post_init__(self) -> None:
        for name in ("freq_masks", "freq_width", "time_masks", "time_width"):
            if getattr(self, name) < 0:
                raise UserError(f"specaugment.{name}: must not be negative, is {getattr(self, name)}")
        if not 0 <= self.time_ratio <= 1:
            raise UserError(f"specaugment.time_ratio: must lie in [0, 1], is {self.time_ratio}")


def spec_augment(
    features: np.ndarray, config: SpecAugmentConfig, fill: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return a copy of features (frames, n_mels) with masked cells replaced by `fill` (n_mels,), the feature mean.

    Each width is uniform in 0 … its bound, each start uniform over the places where the mask fits (Park et al. 2019).
    """
    masked = features.copy()
    frames, n_mels = masked.shape
    for _ in range(config.freq_masks):
        start, stop = _span(n_mels, config.freq_width, rng)
        masked[:, start:stop] = fill[start:stop]
    for _ in range(config.time_masks):
        start, stop = _span(frames, min(config.time_width, int(config.time_ratio * frames)), rng)
        masked[start:stop] = fill
    return masked


def _span(size: int, largest: int, rng: np.random.Generator) -> tuple[int, int]:
    width = int(rng.integers(0, min(largest, size) + 1))
    start = int(rng.integers(0, size - width + 1))
    return start, start + width
