"""Starting from another experiment's weights, with another vocabulary."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from omnirouter.data.errors import UserError
from omnirouter.data.fields import build, override, split_words
from omnirouter.data.tokenizer import train_tokenizer
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel
from omnirouter.training.config import ExperimentConfig, load_config
from omnirouter.training.experiment import Inputs, load_experiment
from omnirouter.training.initial import check_initial, initialise
from omnirouter.training.log import LOG
from omnirouter.training.run import train


def test_encoder_is_taken_whole_and_output_units_by_name(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig
) -> None:
    train(tmp_path / "exp/a", config, inputs, torch.device("cpu"))
    source, tokenizer = load_experiment(tmp_path / "exp/a")  # <blank> <unk> ▁A ▁B … ▁F, ▁ A B …
    model = CtcModel(config.model, 5)
    before = model.output.weight.clone()
    initialise(model, ["<blank>", "Z", "▁F", "Y", "▁B"], tmp_path / "exp/a")
    for name, tensor in source.encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], tensor)
    for mine, token in ((0, "<blank>"), (2, "▁F"), (4, "▁B")):
        its = tokenizer.tokens.index(token)
        assert torch.equal(model.output.weight[mine], source.output.weight[its])
        assert torch.equal(model.output.bias[mine], source.output.bias[its])
    assert torch.equal(model.output.weight[[1, 3]], before[[1, 3]])
    assert not torch.equal(model.feature_mean, source.feature_mean)  # statistics stay those of the new corpus

    other = CtcModel(dataclasses.replace(config.model, dim=64), 5)
    with pytest.raises(UserError, match="another shape"):
        initialise(other, ["<blank>"], tmp_path / "exp/a")
    dense = CtcModel(ModelConfig(**{**dataclasses.asdict(config.model), "encoder": "dense"}), 5)
    with pytest.raises(UserError, match="another shape"):
        initialise(dense, ["<blank>"], tmp_path / "exp/a")


def test_settings_that_use_the_same_tensors_otherwise_are_named(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = dataclasses.replace(config.training, max_steps=1, valid_every=1)
    train(tmp_path / "exp/a", dataclasses.replace(config, training=short), inputs, torch.device("cpu"))
    warnings: list[str] = []
    monkeypatch.setattr(LOG, "warning", lambda text, *values: warnings.append(text % values))
    for changes in ({}, {"dropout": 0.5}, {"positions": "cape", "top_k": 2}):
        initialise(CtcModel(dataclasses.replace(config.model, **changes), 5), ["<blank>"], tmp_path / "exp/a")
    (warning,) = warnings
    assert warning.splitlines()[1:] == [
        "  model.positions: sinusoidal there, cape now",
        "  model.top_k: 1 there, 2 now",
    ]


def test_a_run_from_other_weights_begins_better_than_a_random_one(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig
) -> None:
    training = dataclasses.replace(config.training, max_steps=200, valid_every=100, log_every=100)
    train(tmp_path / "exp/a", dataclasses.replace(config, training=training), inputs, torch.device("cpu"))
    train_tokenizer(["A B C D E F G"] * 9, "bpe", 17, tmp_path / "lang7")
    again = Inputs(inputs.train, inputs.dev, tmp_path / "lang7", tmp_path / "exp/a")
    short = dataclasses.replace(config.training, max_steps=1, valid_every=1)
    train(tmp_path / "exp/b", dataclasses.replace(config, training=short), again, torch.device("cpu"))
    errors = [json.loads((tmp_path / f"exp/{name}/metrics.jsonl").read_text().splitlines()[-1]) for name in "ab"]
    assert errors[1]["valid"]["wer"] <= errors[0]["valid"]["wer"] + 5 < 30


def test_another_shape_is_named_with_the_settings_that_mend_it(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig
) -> None:
    short = dataclasses.replace(config.training, max_steps=1, valid_every=1)
    layers = dataclasses.replace(config.model, moe_groups=[[1, 2], [1, 3]])
    train(tmp_path / "exp/a", dataclasses.replace(config, model=layers, training=short), inputs, torch.device("cpu"))
    wide = dataclasses.replace(config.model, dim=64, dropout=0.3)
    with pytest.raises(UserError) as error:
        check_initial(wide, tmp_path / "exp/a", tmp_path / "exp/b")
    head, *lines, last = str(error.value).splitlines()
    assert "another shape" in head
    assert lines == ["  model.dim: 32 there, 64 now", "  model.moe_groups: [[1,2],[1,3]] there, [] now"]
    settings = split_words(re.fullmatch(r'to have the same, give --set "(.*)"', last)[1], "--set")
    mended = build(ExperimentConfig, override({"model": dataclasses.asdict(wide)}, settings), "here")
    check_initial(mended.model, tmp_path / "exp/a", tmp_path / "exp/b")


def test_the_readmes_example_gives_the_shape_of_its_source() -> None:
    root = Path(__file__).parents[2]
    given = re.search(r"--init \.\./\.\./mini/asr1/exp/(\w+)(?: --set \"(.*)\")?\n", (root / "README.md").read_text())
    source = load_config(root / f"egs/mini/asr1/conf/{given[1]}.yaml")
    ours = load_config(root / "egs/an4/asr1/conf/omnirouter.yaml", (given[2] or "").split())
    shapes = [{name: t.shape for name, t in CtcModel(c.model, 5).state_dict().items()} for c in (source, ours)]
    assert shapes[0] == shapes[1]
