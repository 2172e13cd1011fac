"""Starting weights from another experiment."""

from collections.abc import Sequence
from pathlib import Path

import torch

from omnirouter.data.errors import UserError
from omnirouter.models.ctc import CtcModel
from omnirouter.training.experiment import load_experiment
from omnirouter.training.log import LOG


def initialise(model: CtcModel, tokens: Sequence[str], exp: Path) -> None:
    """Start from another experiment's final weights.

    Output units are matched by their text, so the vocabularies may differ; the feature statistics stay the new
    corpus's.
    Raises UserError when the encoders have different shapes.
    """
    source, tokenizer = load_experiment(exp)
    theirs, ours = source.encoder.state_dict(), model.encoder.state_dict()
    odd = [k for k in sorted({*theirs, *ours}) if k not in theirs or k not in ours or theirs[k].shape != ours[k].shape]
    if odd:
        raise UserError(
            f"--init {exp}: its encoder has another shape in {len(odd)} tensors, first {odd[0]}; use its model section"
        )
    model.encoder.load_state_dict(theirs)
    place = {token: i for i, token in enumerate(tokenizer.tokens)}
    shared = [(i, place[token]) for i, token in enumerate(tokens) if token in place]
    new, old = map(list, zip(*shared, strict=True))
    with torch.no_grad():
        model.output.weight[new] = source.output.weight[old]
        model.output.bias[new] = source.output.bias[old]
    LOG.info("initialised from %s: the encoder, and %d of %d output units by name", exp, len(shared), len(tokens))
