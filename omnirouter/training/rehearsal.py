"""The worst batch before the first step: does memory suffice for it?"""

import torch
from torch import nn

from omnirouter.data.dataset import Batch
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.distributed import raise_in_all, ranks
from omnirouter.training.step import StepGradient


def rehearse(gradient: StepGradient, model: nn.Module, config: ExperimentConfig, batch: Batch) -> None:
    """Do what a step of such batches does short of changing anything; UserError saying what to lower if memory ends.

    All processes call it at once, with the same batch.
    """
    device = next(model.parameters()).device
    message = None
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            _step(gradient, model, config, batch)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        message = _advice(config, batch, device)
        if config.training.distributed == "fsdp":  # the others wait for this one's share of the model
            raise UserError(message) from error
    finally:
        model.zero_grad(set_to_none=True)
    raise_in_all(message)


def _step(gradient: StepGradient, model: nn.Module, config: ExperimentConfig, batch: Batch) -> None:
    # AdamW's moments, which are there from the first step on. From its second batch on a step has a gradient to keep.
    moments = [torch.empty_like(parameter) for parameter in model.parameters() for _ in range(2)]
    batches = min(2, config.training.batches_per_step // ranks())
    gradient.compute([batch] * batches, len(batch.utt_ids), exchange=False)
    del moments


def _advice(config: ExperimentConfig, batch: Batch, device: torch.device) -> str:
    padded_s = len(batch.lengths) * max(batch.lengths) / FRAMES_PER_S
    training = config.training
    ways = {
        "training.activation_checkpointing=true": not training.activation_checkpointing,
        "training.precision=bf16": training.precision != "bf16",
        "training.distributed=fsdp": ranks() > 1 and training.distributed != "fsdp",
    }
    others = [way for way, is_open in ways.items() if is_open]
    return (
        f"out of memory on {device} at the largest batch, {len(batch.lengths)} utterances padded to {padded_s:.0f} s "
        f"in all; lower batch.max_batch_s, now {config.batch.max_batch_s:g}"
        + (f", or set {' or '.join(others)}" if others else "")
    )


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory has run out; torch raises a bare RuntimeError for the CPU's."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)
