"""The bare training step, and the models that it is timed with."""

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from omnirouter.data.dataset import Batch
from omnirouter.models.ctc import CtcModel, ctc_loss
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.trainer import make_optimizer

CONFIGS = Path(__file__).resolve().parents[2] / "egs/libriheavy/asr1/conf"
SHARE = 4
"""On a CPU the models have this part of the paper's width, inner width and depth."""
CPU_BATCH_S, CPU_VOCAB, VOCAB = 60.0, 500, 8192


def scaled(config: ExperimentConfig) -> ExperimentConfig:
    """A configuration at a SHARE-th of width, inner width and depth, heads as they are, with small batches."""
    old = config.model
    sizes = {"dim": old.dim // SHARE, "ffn_dim": old.ffn_dim // SHARE, "layers": old.layers // SHARE}
    batch = dataclasses.replace(config.batch, max_batch_s=CPU_BATCH_S)
    return dataclasses.replace(config, model=dataclasses.replace(old, **sizes), batch=batch)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch with features and labels in a device's memory."""
    return dataclasses.replace(batch, features=batch.features.to(device), targets=batch.targets.to(device))


def training_step(model: CtcModel, config: ExperimentConfig, bf16: bool) -> Callable[[Batch], None]:
    """What a step cannot do without: forward pass, losses, backward pass, optimizer.

    bf16: under autocast; the losses are in fp32.
    """
    optimizer, device = make_optimizer(model, config.optim), next(model.parameters()).device
    autocast = torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()

    def step(batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            output = model(batch.features.to(device), batch.lengths)
        ctc = ctc_loss(output, batch.targets.to(device), batch.target_lengths)
        (ctc / len(batch.lengths) + config.training.balance_weight * output.balance_loss).backward()
        optimizer.step()

    return step
