"""Memory that a batch's forward pass keeps for its backward pass: an estimate, from what autograd saves."""

from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.models.config import ModelConfig, routing_plan

FP32, INDEX = 4, 8
"""Bytes of a value, and of an index."""
GIB = 2**30


def activation_bytes(config: ModelConfig, vocab_size: int, tokens: int, bf16: bool, recompute: bool = False) -> int:
    """Estimate the memory kept for a batch of so many tokens, all taken for valid, in bytes.

    As on a GPU: attention by a fused kernel, which keeps no matrix of probabilities, dropout with masks of one byte,
    experts by the grouped product. With bf16 the products' copies of the weights are part of it. recompute: with
    activation checkpointing, of the blocks but their inputs and, once, all of one. Not counted: what is made and
    dropped again, such as the gradient of the log-probabilities, and the few bytes of CTC's own alignment.
    """
    size = 2 if bf16 else FP32
    blocks = [_block(config, plan.experts, tokens, size) for plan in routing_plan(config)]
    if recompute:
        blocks = [max(blocks), (len(blocks) - 1) * tokens * FP32 * config.dim]
    return sum(blocks) + _ends(config, vocab_size, tokens, size)


def activation_lines(config: ModelConfig, vocab_size: int, batch_s: float, bf16: bool) -> str:
    """Plain-text lines of the estimate for a batch of so many seconds, for people."""
    tokens = int(batch_s * FRAMES_PER_S) // config.stack_frames
    whole, least = (activation_bytes(config, vocab_size, tokens, bf16, recompute) for recompute in (False, True))
    precision = "bf16" if bf16 else "fp32"
    return (
        f"Activations of a batch of {batch_s:g} s in {precision}, estimated: {whole / GIB:.1f} GiB, or\n"
        f"{least / GIB:.1f} GiB with training.activation_checkpointing=true; the backward pass makes some more.\n"
    )


def _block(config: ModelConfig, experts: int, tokens: int, size: int) -> int:
    """Both parts, and in bf16 the products' copies of the weights."""
    ffn = _experts(config, experts, size) if experts else _dense(config, size)
    weights = 4 * config.dim**2 + max(1, experts) * 2 * config.dim * config.ffn_dim
    return tokens * (_attention(config, size) + ffn) + _copies(weights, size)


def _copies(weights: int, size: int) -> int:
    return 0 if size == FP32 else size * weights


def _norm(config: ModelConfig) -> int:
    """Its input, which is the residual stream, in fp32, with mean and deviation."""
    return FP32 * (config.dim + 2)


def _masks(config: ModelConfig, values: int) -> int:
    return values if config.dropout else 0


def _attention(config: ModelConfig, size: int) -> int:
    """Norm; input; query, key, value and output, each packed and padded; the softmax's normaliser; dropout's mask."""
    return _norm(config) + 9 * size * config.dim + FP32 * config.heads + _masks(config, config.dim)


def _dense(config: ModelConfig, size: int) -> int:
    """Norm, the two linear layers, dropout's mask."""
    return _norm(config) + size * config.dim + _hidden(config, size) + _masks(config, config.dim)


def _hidden(config: ModelConfig, size: int) -> int:
    """What ReLU gives, and, beside a mask, what dropout makes of it."""
    return config.ffn_dim * size + (config.ffn_dim * (size + 1) if config.dropout else 0)


def _experts(config: ModelConfig, experts: int, size: int) -> int:
    """Norm; the router's input and probabilities; for each choice the sorted input, hidden values, output, indices."""
    choice = 2 * size * config.dim + _hidden(config, size) + 3 * INDEX
    router = FP32 * (config.dim + experts)
    return _norm(config) + router + config.top_k * choice + _masks(config, config.dim)


def _ends(config: ModelConfig, vocab_size: int, tokens: int, size: int) -> int:
    """Input and output layer with their weights' copies, the last norm, and log-probabilities packed and padded."""
    stacked = config.n_mels * config.stack_frames
    values = size * (stacked + config.dim) + _masks(config, config.dim) + _norm(config) + 2 * FP32 * vocab_size
    return tokens * values + _copies(config.dim * (stacked + vocab_size), size)
