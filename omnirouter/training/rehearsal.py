"""Memory that does not suffice: the largest batches tried before training, and what to lower when it runs out."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from omnirouter.data.dataset import Batch, TrainingData
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.data.sampler import BucketSampler, Position
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.distributed import raise_in_all, ranks
from omnirouter.training.experiment import COMPUTED_HOW
from omnirouter.training.parallel import clear_gradient
from omnirouter.training.step import StepGradient


@contextmanager
def advising(where: str, advice: str) -> Iterator[None]:
    """Turn the error of memory that has run out into a UserError with advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise UserError(f"out of memory {where}; {advice}") from error


def for_largest_batches(data: TrainingData, sampler: BucketSampler, rehearse: Callable[[Batch], None]) -> None:
    """Load the batches that need the most memory in this process, and rehearse those of which anything can be read."""
    for indices in sampler.largest():
        batch = data[Position(), indices, Position()]
        if batch.utt_ids:
            rehearse(batch)


def rehearse(
    gradient: StepGradient, model: nn.Module, config: ExperimentConfig, batch: Batch, has_moments: bool, begun: bool
) -> None:
    """Do what a step of such batches does short of changing anything; UserError saying what to lower if memory ends.

    All processes call it at once, with the same batch. has_moments: whether the optimizer has its own already. begun:
    as for `step_advice`.
    """
    device = next(model.parameters()).device
    message = None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            with advising(f"on {device} at the largest batch, {size_of(batch)}", step_advice(config, begun)):
                _step(gradient, model, config, batch, has_moments)
        except UserError as error:
            if config.training.distributed == "fsdp":  # the others wait for this one's share of the model
                raise
            message = str(error)
        finally:
            clear_gradient(model)
        raise_in_all(message)
        if ranks() > 1:
            # Until replicas exchange gradients they remember what has had one, and fail if a step leaves that out.
            gradient.compute([_first_of(batch)], ranks())
            clear_gradient(model)


def _step(gradient: StepGradient, model: nn.Module, config: ExperimentConfig, batch: Batch, has_moments: bool) -> None:
    # AdamW's moments are there from the first step on. From its second batch on a step has a gradient to keep.
    moments = [torch.empty_like(parameter) for parameter in model.parameters() for _ in range(0 if has_moments else 2)]
    batches = min(2, config.training.batches_per_step // ranks())
    gradient.compute([batch] * batches, len(batch.utt_ids), exchange=False)
    del moments


def _first_of(batch: Batch) -> Batch:
    labels = batch.target_lengths[0]
    return dataclasses.replace(
        batch, utt_ids=batch.utt_ids[:1], features=batch.features[:1], lengths=batch.lengths[:1],
        targets=batch.targets[:labels], target_lengths=[labels],
    )  # fmt: skip


def size_of(batch: Batch) -> str:
    """Say how large a batch is."""
    return f"{len(batch.lengths)} utterances padded to {batch.padded_frames / FRAMES_PER_S:.0f} s in all"


def step_advice(config: ExperimentConfig, begun: bool) -> str:
    """Say what makes a step need less memory; begun: whether there is a checkpoint, which refuses other settings."""
    training = config.training
    ways = {
        "activation_checkpointing=true": not training.activation_checkpointing,
        "precision=bf16": training.precision != "bf16",
        "distributed=fsdp": ranks() > 1 and training.distributed != "fsdp",
    }
    lower = f"lower batch.max_batch_s, now {config.batch.max_batch_s:g}"
    open_ways = [way for way, is_open in ways.items() if is_open]
    if not begun:
        return _or(lower, open_ways)
    kept = [way for way in open_ways if way.split("=")[0] in COMPUTED_HOW]
    anew = f"begin anew with --restart: {_or(lower, [way for way in open_ways if way not in kept])}"
    return f"to go on from the last checkpoint, set {_either(kept)}; or {anew}" if kept else anew


def validation_advice(config: ExperimentConfig) -> str:
    """Say what makes a validation need less memory."""
    return f"lower training.valid_batch_s, now {config.training.valid_batch_s:g}; training then goes on"


def _or(lower: str, ways: list[str]) -> str:
    return f"{lower}, or set {_either(ways)}" if ways else lower


def _either(ways: list[str]) -> str:
    return " or ".join(f"training.{way}" for way in ways)


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory has run out; torch raises a bare RuntimeError for the CPU's."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)
