"""Positions of tokens as vectors: sinusoidal, or CAPE (Likhomanenko et al. 2021, arXiv 2106.03143)."""

import math

import torch
from torch import Tensor

from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.models.config import ModelConfig
from omnirouter.models.packing import Packing


def position_vectors(config: ModelConfig, packing: Packing, device: torch.device, training: bool) -> Tensor:
    """Vector of each packed token's position in its utterance: (T, dim)."""
    if config.positions == "sinusoidal":
        return sinusoidal_positions(packing.positions(device), config.dim)
    seconds = cape_positions(config, packing, device, training)
    return sinusoidal_positions(config.cape_rate_rad_per_s * seconds, config.dim)


def sinusoidal_positions(positions_T: Tensor, dim: int) -> Tensor:
    """Sine and cosine of each position at dim/2 geometric wavelengths of 2π to 10000·2π (Vaswani et al.): (T, dim)."""
    rate = torch.exp(torch.arange(0, dim, 2, device=positions_T.device) * (-torch.log(torch.tensor(10000.0)) / dim))
    angle = positions_T.float().unsqueeze(1) * rate
    return torch.cat((angle.sin(), angle.cos()), dim=1)


def cape_positions(config: ModelConfig, packing: Packing, device: torch.device, augment: bool) -> Tensor:
    """Seconds from the middle of each token's own utterance; augmented as the fields cape_* say: (T,).

    Of n tokens the mean position is (n - 1) / 2. Augmented, p becomes λ (p + Δg + Δl): λ and Δg are drawn once an
    utterance, Δl for each token.
    """
    utterance_T = packing.utterances(device)
    lengths = torch.tensor(packing.lengths).to(device, non_blocking=True)
    token_s = config.stack_frames / FRAMES_PER_S
    positions = (packing.positions(device) - (lengths[utterance_T] - 1) / 2) * token_s
    if not augment:
        return positions
    shift, log_scale = config.cape_global_shift_s, math.log(config.cape_max_scale)
    global_shifts = torch.empty(len(lengths), device=device).uniform_(-shift, shift)
    scales = torch.empty(len(lengths), device=device).uniform_(-log_scale, log_scale).exp()
    local_shifts = torch.empty_like(positions).uniform_(-config.cape_local_shift_s, config.cape_local_shift_s)
    return scales[utterance_T] * (positions + global_shifts[utterance_T] + local_shifts)
