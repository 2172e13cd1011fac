"""Starting weights from another experiment."""

from collections.abc import Sequence
from pathlib import Path

import torch

from omnirouter.data.errors import UserError
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel
from omnirouter.models.encoder import Encoder
from omnirouter.training.experiment import load_experiment
from omnirouter.training.log import LOG


def check_initial(config: ModelConfig, init: Path, exp: Path) -> None:
    """Raise UserError when a model of this configuration for `exp` cannot start from the weights of `init`."""
    if init.resolve() == exp.resolve():
        raise UserError(f"--init {init}: that is the experiment itself; give the new one a --name of its own")
    with torch.device("meta"):
        ours = Encoder(config)
    _compare(load_experiment(init)[0].encoder, ours, init)


def initialise(model: CtcModel, tokens: Sequence[str], exp: Path) -> None:
    """Start from another experiment's final weights.

    Output units are matched by their text, so the vocabularies may differ; the feature statistics stay the new
    corpus's.
    Raises UserError when the encoders have different shapes.
    """
    source, tokenizer = load_experiment(exp)
    _compare(source.encoder, model.encoder, exp)
    model.encoder.load_state_dict(source.encoder.state_dict())
    place = {token: i for i, token in enumerate(tokenizer.tokens)}
    shared = [(i, place[token]) for i, token in enumerate(tokens) if token in place]
    new, old = map(list, zip(*shared, strict=True))
    with torch.no_grad():
        model.output.weight[new] = source.output.weight[old]
        model.output.bias[new] = source.output.bias[old]
    LOG.info("initialised from %s: the encoder, and %d of %d output units by name", exp, len(shared), len(tokens))


def _compare(source: Encoder, target: Encoder, exp: Path) -> None:
    theirs, ours = source.state_dict(), target.state_dict()
    odd = [k for k in sorted({*theirs, *ours}) if k not in theirs or k not in ours or theirs[k].shape != ours[k].shape]
    if odd:
        raise UserError(
            f"--init {exp}: its encoder has another shape in {len(odd)} tensors, first {odd[0]}; use its model section"
        )
