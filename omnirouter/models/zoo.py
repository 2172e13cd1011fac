"""What a model costs, part by part: parameters, arithmetic and memory, without building it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.models.config import ModelConfig, routing_plan
from omnirouter.models.ctc import CtcModel
from omnirouter.models.experts import Experts

TRAINING_BYTES_PER_PARAMETER = 4 * 4  # fp32: the weight, its gradient, and AdamW's two moments
GIB = 2**30


@dataclass(frozen=True)
class Part:
    """One part of a model, or all of it."""

    name: str
    parameters: int
    active_parameters: int
    """Parameters that one token meets: of a layer's N experts, the top_k that it is sent to."""
    flops: int
    """Multiplications and additions of the forward pass of one utterance."""

    @property
    def training_bytes(self) -> int:
        """Memory of weights, gradients and Adam's moments in fp32; activations come on top."""
        return self.parameters * TRAINING_BYTES_PER_PARAMETER


def model_parts(config: ModelConfig, vocab_size: int, tokens: int) -> list[Part]:
    """Cost of each part of a model, FLOPs those of an utterance of so many tokens."""
    if vocab_size < 2:
        raise UserError(f"a vocabulary of {vocab_size}: CTC needs the blank and at least one unit")
    with torch.device("meta"):
        model = CtcModel(config, vocab_size)
    flops = _flops_per_token(config, vocab_size, tokens)
    return [
        Part(name, _count(modules), _count(modules) - _idle(modules, config.top_k), tokens * flops[name])
        for name, modules in _modules(model).items()
    ]


def total(parts: Sequence[Part]) -> Part:
    """Sum of all parts."""
    return Part(
        "total",
        sum(part.parameters for part in parts),
        sum(part.active_parameters for part in parts),
        sum(part.flops for part in parts),
    )


def tokens_of(config: ModelConfig, utterance_s: float) -> int:
    """Tokens of an utterance; UserError where there are none."""
    frames = utterance_s * FRAMES_PER_S
    if not config.stack_frames <= frames < math.inf:
        raise UserError(f"an utterance of {utterance_s:g} s: give at least a token of {config.stack_frames} frames")
    return round(frames) // config.stack_frames


def info_table(config: ModelConfig, vocab_size: int, utterance_s: float) -> str:
    """Plain-text table of a model's parts, for people."""
    parts = model_parts(config, vocab_size, tokens_of(config, utterance_s))
    lines = [
        f"{'part':12s} {'parameters':>13s} {'active/token':>13s} {'GFLOPs/s audio':>15s} {'training GiB':>13s}",
        *(_row(part, utterance_s) for part in (*parts, total(parts))),
        f"GFLOPs per second of audio: matrix products of the forward pass, full attention over {utterance_s:g} s.",
        "Training memory: weights, gradients and Adam's moments in fp32; activations (below) come on top.",
    ]
    return "\n".join(lines) + "\n"


def _row(part: Part, utterance_s: float) -> str:
    gflops, gib = part.flops / utterance_s / 1e9, part.training_bytes / GIB
    return f"{part.name:12s} {part.parameters:13,d} {part.active_parameters:13,d} {gflops:15.3f} {gib:13.3f}"


def _modules(model: CtcModel) -> dict[str, list[nn.Module]]:
    """Each part's modules; together they hold every parameter once."""
    encoder = model.encoder
    ffns = [(block.ffn, plan.experts) for block, plan in zip(encoder.blocks, encoder.plan, strict=True)]
    return {
        "input": [encoder.input],
        "attention": [block.attention for block in encoder.blocks],
        "dense FFN": [ffn for ffn, experts in ffns if not experts],
        "experts": [ffn for ffn, experts in ffns if experts],
        "routers": [encoder.routers],
        "norms": [encoder.final_norm, *(n for b in encoder.blocks for n in (b.attention_norm, b.ffn_norm))],
        "output": [model.output],
    }


def _count(modules: Sequence[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def _idle(modules: Sequence[nn.Module], top_k: int) -> int:
    """Parameters of the experts that a token is not sent to."""
    experts = [module for module in modules if isinstance(module, Experts)]
    return sum(_count([module]) * (len(module.inner_weight) - top_k) // len(module.inner_weight) for module in experts)


def _flops_per_token(config: ModelConfig, vocab_size: int, tokens: int) -> dict[str, int]:
    """Of matrix products, two for each multiplication; a token attends to all `tokens` of its utterance."""
    experts = [layer.experts for layer in routing_plan(config) if layer.experts]
    ffn = 4 * config.dim * config.ffn_dim
    return {
        "input": 2 * config.n_mels * config.stack_frames * config.dim,
        "attention": config.layers * (8 * config.dim**2 + 4 * config.dim * tokens),
        "dense FFN": (config.layers - len(experts)) * ffn,
        "experts": len(experts) * config.top_k * ffn,
        "routers": 2 * config.dim * sum(experts),
        "norms": 0,
        "output": 2 * config.dim * vocab_size,
    }
