"""How the dev set is decoded while training, and shared out among processes."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from omnirouter.data.dataset import read_feature_dir
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.models.ctc import CtcModel
from omnirouter.training import validation
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.experiment import Inputs
from omnirouter.training.parallel import compile_blocks


@pytest.mark.parametrize("max_batch_s", [1.0, 2.5, 3.0, 100.0])
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_each_batch_is_decoded_as_by_one_process_and_all_have_as_many(
    monkeypatch: pytest.MonkeyPatch, inputs: Inputs, tmp_path: Path, ranks: int, max_batch_s: float
) -> None:
    dev = read_feature_dir(inputs.dev)
    wanted = [batch.utt_ids for batch in validation._share(dev, max_batch_s)]
    assert sorted(sum(wanted, [])) == sorted(utterance.utt_id for utterance in dev)
    monkeypatch.setattr(validation, "ranks", lambda: ranks)
    shares = []
    for rank in range(ranks):
        monkeypatch.setattr(validation, "rank", lambda rank=rank: rank)
        shares.append([batch.utt_ids for batch in validation._share(dev, max_batch_s)])
    decoded = sum(shares, [])
    assert all(batch in decoded for batch in wanted) and all(batch in wanted for batch in decoded)
    assert {len(share) for share in shares} == {-(-len(wanted) // ranks)}
    if max_batch_s == 1.0:
        assert len(wanted) > 5


def test_compiled_blocks_decode_the_dev_set_as_they_are(
    monkeypatch: pytest.MonkeyPatch, inputs: Inputs, config: ExperimentConfig
) -> None:
    def backend(*_: Any) -> None:
        raise AssertionError("is compiled")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    tokenizer, dev = Tokenizer(inputs.lang), read_feature_dir(inputs.dev)
    model = CtcModel(config.model, len(tokenizer.tokens))
    wanted = validation.dev_errors(model, tokenizer, dev, config.training)
    compile_blocks(model)
    training = dataclasses.replace(config.training, compile=True)
    assert validation.dev_errors(model, tokenizer, dev, training) == wanted
    with pytest.raises(Exception, match="is compiled"):  # as training calls them
        validation.dev_errors(model, tokenizer, dev, config.training)
