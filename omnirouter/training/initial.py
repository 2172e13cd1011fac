"""Starting weights from another experiment."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from omnirouter.data.errors import UserError
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel
from omnirouter.models.encoder import Encoder
from omnirouter.training.experiment import load_experiment
from omnirouter.training.log import LOG

SHAPE_FIELDS = (
    "encoder", "layers", "dim", "heads", "ffn_dim", "experts", "moe_every", "moe_groups", "n_mels", "stack_frames",
)  # fmt: skip
"""Fields of the model's configuration that say which tensors the encoder has, of what shape, and how they are read."""
READING_FIELDS = ("heads", "n_mels", "stack_frames", "positions", "cape_rate_rad_per_s", "top_k")
"""Fields with which an encoder may make other use of tensors of the same shape."""


def check_initial(config: ModelConfig, init: Path, exp: Path) -> None:
    """Raise UserError when a model of this configuration for `exp` cannot start from the weights of `init`."""
    if init.resolve() == exp.resolve():
        raise UserError(f"--init {init}: that is the experiment itself; give the new one a --name of its own")
    with torch.device("meta"):
        ours = Encoder(config)
    _check_shapes(load_experiment(init)[0].encoder, ours, init)


def initialise(model: CtcModel, tokens: Sequence[str], exp: Path) -> None:
    """Start from another experiment's final weights.

    Output units are matched by their text, so the vocabularies may differ; the feature statistics stay the new
    corpus's.
    Raises UserError when the encoders have different shapes.
    """
    source, tokenizer = load_experiment(exp)
    _check_shapes(source.encoder, model.encoder, exp)
    model.encoder.load_state_dict(source.encoder.state_dict())
    if lines := _differences(source.encoder, model.encoder, READING_FIELDS):
        LOG.warning("--init %s: its encoder was trained with other settings:%s", exp, "".join(lines.values()))
    place = {token: i for i, token in enumerate(tokenizer.tokens)}
    shared = [(i, place[token]) for i, token in enumerate(tokens) if token in place]
    new, old = map(list, zip(*shared, strict=True))
    with torch.no_grad():
        model.output.weight[new] = source.output.weight[old]
        model.output.bias[new] = source.output.bias[old]
    LOG.info("initialised from %s: the encoder, and %d of %d output units by name", exp, len(shared), len(tokens))


def _check_shapes(source: Encoder, target: Encoder, exp: Path) -> None:
    """Raise UserError, with the settings that would mend it, when the encoders' weights have different shapes."""
    theirs, ours = ({name: t.shape for name, t in encoder.state_dict().items()} for encoder in (source, target))
    if theirs == ours:
        return
    lines = _differences(source, target, SHAPE_FIELDS)
    settings = " ".join(f"model.{name}={_yaml(getattr(source.config, name))}" for name in lines)
    raise UserError(
        f"--init {exp}: its encoder has another shape:{''.join(lines.values())}\n"
        f'to have the same, give --set "{settings}"'
    )


def _differences(source: Encoder, target: Encoder, fields: Sequence[str]) -> dict[str, str]:
    """Return a line, with the line end before it, for each field that differs."""
    values = {name: (getattr(source.config, name), getattr(target.config, name)) for name in fields}
    return {
        name: f"\n  model.{name}: {_yaml(there)} there, {_yaml(here)} now"
        for name, (there, here) in values.items()
        if there != here
    }


def _yaml(value: Any) -> str:
    """Write a field's value so that it is one word of --set."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
