"""SpecAugment: which cells are masked, with what, and how wide."""

import numpy as np

from omnirouter.data.specaugment import SpecAugmentConfig, spec_augment

FILL = np.arange(80, dtype=np.float32)


def widths_of(config: SpecAugmentConfig, frames: int, axis: int) -> list[int]:
    features = np.full((frames, 80), -1, np.float32)
    widths = []
    for seed in range(500):
        masked = spec_augment(features, config, FILL, np.random.default_rng(seed)) != features
        widths.append(int(masked.all(axis=1 - axis).sum()))
        assert masked.any(axis=axis).sum() in (0, masked.shape[1 - axis])  # whole bands, whole frames
    return widths


def test_frequency_masks_reach_their_width_and_no_more() -> None:
    widths = widths_of(SpecAugmentConfig(freq_masks=1, freq_width=30, time_masks=0), 100, axis=1)
    assert (min(widths), max(widths)) == (0, 30)
    assert abs(np.mean(widths) - 15) < 1.5


def test_masks_lie_anywhere_from_the_first_to_the_last_band_and_frame() -> None:
    config = SpecAugmentConfig(freq_masks=1, freq_width=1, time_masks=1, time_width=1, time_ratio=1.0)
    features = np.full((20, 80), -1, np.float32)
    frames, bands = np.zeros(20, int), np.zeros(80, int)
    for seed in range(4000):
        masked = spec_augment(features, config, FILL, np.random.default_rng(seed)) != features
        frames += masked.all(axis=1)
        bands += masked.all(axis=0)
    assert frames.min() > 60 and frames.max() < 140  # half of the masks are of width 0: 100 each are expected
    assert bands.min() > 5 and bands.max() < 50  # 25 each


def test_time_masks_are_capped_by_width_and_by_ratio() -> None:
    config = SpecAugmentConfig(freq_masks=0, time_masks=1, time_width=50, time_ratio=0.1)
    assert max(widths_of(config, 1000, axis=0)) == 50
    assert max(widths_of(config, 200, axis=0)) == 20


def test_masked_cells_hold_the_feature_mean_and_the_input_is_untouched() -> None:
    features = np.full((100, 80), -1, np.float32)
    masked = spec_augment(features, SpecAugmentConfig(), FILL, np.random.default_rng(3))
    changed = masked != features
    assert changed.any() and not changed.all()
    np.testing.assert_array_equal(masked[changed], np.broadcast_to(FILL, (100, 80))[changed])
    assert (features == -1).all()
