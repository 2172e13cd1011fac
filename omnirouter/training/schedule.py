"""Learning rate schedule."""

import math

from omnirouter.training.config import OptimConfig


def learning_rate(step: int, config: OptimConfig) -> float:
    """Learning rate of a step (from 0): warm-up, cosine decay, then decay in steps."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) ** config.warmup_power / config.warmup_steps**config.warmup_power
    step -= config.warmup_steps
    end = config.cosine_end_ratio
    if step < config.cosine_steps:
        return config.lr * (end + (1 - end) * (1 + math.cos(math.pi * step / config.cosine_steps)) / 2)
    step -= config.cosine_steps
    return config.lr * end * config.step_factor ** (step // config.step_every)
