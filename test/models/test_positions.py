"""Sinusoidal positions and CAPE against their equations."""

import math

import numpy as np
import pytest
import torch

from omnirouter.models.config import ModelConfig
from omnirouter.models.encoder import Encoder
from omnirouter.models.packing import Packing
from omnirouter.models.positions import cape_positions, position_vectors, sinusoidal_positions

CPU = torch.device("cpu")
SMALL = {"layers": 2, "dim": 32, "heads": 4, "ffn_dim": 64, "experts": 2}


def cape(**fields: float) -> ModelConfig:
    return ModelConfig(positions="cape", **{**SMALL, **fields})


def augmented(lengths: list[int], seed: int, **fields: float) -> list[np.ndarray]:
    torch.manual_seed(seed)
    positions = cape_positions(cape(**fields), Packing(lengths), CPU, augment=True)
    return [part.double().numpy() for part in positions.split(lengths)]


def centred(tokens: int) -> np.ndarray:
    """Seconds from the mean of 0, 0.04, 0.08 …"""
    seconds = 0.04 * np.arange(tokens)
    return seconds - seconds.mean() if tokens else seconds


def test_sinusoidal_positions_by_hand() -> None:
    encoded = sinusoidal_positions(torch.tensor([0, 3]), 4)  # rates 1 and 1/100
    torch.testing.assert_close(encoded[0], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    wanted = torch.tensor([3.0, 0.03, 3.0, 0.03])
    torch.testing.assert_close(encoded[1], torch.cat((wanted[:2].sin(), wanted[2:].cos())))


def test_without_augmentation_positions_are_seconds_from_the_utterances_mean() -> None:
    lengths = [4, 1, 0, 3]
    positions = cape_positions(cape(), Packing(lengths), CPU, augment=False)
    wanted = [-0.06, -0.02, 0.02, 0.06, 0.0, -0.04, 0.0, 0.04]
    torch.testing.assert_close(positions, torch.tensor(wanted), rtol=0, atol=1e-7)
    slower = cape_positions(cape(stack_frames=8), Packing(lengths), CPU, augment=False)
    torch.testing.assert_close(slower, 2 * positions)


def test_vectors_are_sines_and_cosines_of_seconds() -> None:
    """E(t) = sin(ω_k t), cos(ω_k t) with ω_k = 30 · 10000^(-2k/D) a second."""
    vectors = position_vectors(cape(), Packing([5, 3]), CPU, training=False).double().numpy()
    rates = 30 * 10000.0 ** (-2 * np.arange(16) / 32)
    angles = np.concatenate((centred(5), centred(3)))[:, None] * rates
    np.testing.assert_allclose(vectors, np.concatenate((np.sin(angles), np.cos(angles)), axis=1), atol=1e-6)
    faster = position_vectors(cape(cape_rate_rad_per_s=60.0), Packing([5, 3]), CPU, training=False).numpy()
    np.testing.assert_allclose(faster[:, 0], np.sin(2 * angles[:, 0]), atol=1e-6)


def test_augmentation_is_scale_times_position_and_shifts() -> None:
    """The drawn numbers put into λ (p + Δg + Δl), utterance by utterance."""
    lengths = [30, 0, 7, 1]
    mine = augmented(lengths, seed=5)
    torch.manual_seed(5)
    global_shifts = torch.empty(4).uniform_(-60, 60).numpy()
    log_scales = torch.empty(4).uniform_(-math.log(1.1), math.log(1.1)).numpy()
    for tokens, shift, log_scale, got in zip(lengths, global_shifts, log_scales, mine, strict=True):
        local = torch.empty(tokens).uniform_(-0.02, 0.02).numpy() if tokens else np.zeros(0)
        np.testing.assert_allclose(got, math.exp(log_scale) * (centred(tokens) + shift + local), atol=2e-5)


def test_global_shift_is_one_an_utterance_and_uniform() -> None:
    lengths = [4, 9] * 1000
    parts = augmented(lengths, seed=1, cape_local_shift_s=0.0, cape_max_scale=1.0, cape_global_shift_s=5.0)
    shifts = [part - centred(len(part)) for part in parts]
    assert max(np.ptp(shift) for shift in shifts) < 1e-5
    first = np.array([shift[0] for shift in shifts])
    assert np.abs(first).max() <= 5 and first.max() > 4.9 and first.min() < -4.9
    assert first.std() == pytest.approx(5 / 3**0.5, rel=0.03) and abs(first.mean()) < 0.2


def test_local_shift_is_one_a_token_and_keeps_their_order() -> None:
    lengths = [50, 100] * 10
    parts = augmented(lengths, seed=1, cape_global_shift_s=0.0, cape_max_scale=1.0)
    shifts = np.concatenate([part - centred(len(part)) for part in parts])
    assert 0.0195 < np.abs(shifts).max() <= 0.02 + 1e-6
    assert shifts.std() == pytest.approx(0.02 / 3**0.5, rel=0.05)
    assert abs(np.corrcoef(shifts[:-1], shifts[1:])[0, 1]) < 0.1
    assert all((np.diff(part) > 0).all() for part in parts)


def test_scale_is_one_an_utterance_and_log_uniform_and_scales_the_shift_too() -> None:
    lengths = [4, 9] * 1000
    parts = augmented(lengths, seed=1, cape_local_shift_s=0.0, cape_max_scale=2.0, cape_global_shift_s=5.0)
    scales = np.array([(part[-1] - part[0]) / (0.04 * (len(part) - 1)) for part in parts])
    assert np.abs(np.log(scales)).max() <= math.log(2) + 1e-4
    assert np.log(scales).std() == pytest.approx(math.log(2) / 3**0.5, rel=0.03)
    shifts = np.array([part.mean() for part in parts]) / scales
    assert np.abs(shifts).max() <= 5.001 and abs(np.corrcoef(shifts, scales)[0, 1]) < 0.1
    assert shifts.std() == pytest.approx(5 / 3**0.5, rel=0.03)


def test_the_encoder_augments_in_training_only_and_by_the_seed() -> None:
    encoder = Encoder(cape(dropout=0.0, attention_dropout=0.0))
    x = torch.randn(1, 40, 80)
    assert torch.equal(encoder.eval()(x, [40]).x_TD, encoder(x, [40]).x_TD)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(encoder.train()(x, [40]).x_TD)
    assert torch.equal(outputs[0], outputs[1]) and not torch.allclose(outputs[0], outputs[2], atol=1e-3)
    assert not torch.allclose(outputs[0], encoder.eval()(x, [40]).x_TD, atol=1e-3)


def test_neither_padding_nor_other_utterances_move_an_utterance() -> None:
    torch.manual_seed(1)
    encoder = Encoder(cape()).eval()
    x, others = torch.randn(1, 40, 80), torch.randn(2, 200, 80)
    padded = torch.cat((torch.nn.functional.pad(x, (0, 0, 0, 160), value=1e3), others))
    torch.testing.assert_close(encoder(padded, [40, 200, 80]).x_TD[:10], encoder(x, [40]).x_TD, rtol=0, atol=1e-4)
