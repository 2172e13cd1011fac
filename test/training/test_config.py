"""Configuration files: bases, settings, and values out of range."""

from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.training.config import ExperimentConfig, load_config
from omnirouter.training.experiment import Inputs, open_experiment


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / "c.yaml"


def test_a_file_replaces_values_of_its_base_and_settings_replace_both(tmp_path: Path) -> None:
    path = write(tmp_path, b="model:\n  layers: 3\n  dim: 64\n", c="base: b.yaml\nmodel:\n  dim: 32\n")
    config = load_config(path, ["model.heads=2", "model.layers=5"])
    assert (config.model.layers, config.model.dim, config.model.heads) == (5, 32, 2)


VARIANTS = """
model: {layers: 3, dim: 64, heads: 4}
optim: {warmup_steps: 100}
variants:
  small: {model: {layers: 2, heads: 2}, optim: {warmup_steps: 10}}
  100: {model: {layers: 1}}
"""


@pytest.mark.parametrize(
    ("variant", "settings", "wanted"),
    [
        ("", [], (3, 64, 8, 100)),
        ("small", [], (2, 64, 8, 10)),  # heads are the based file's, whose own variant replaces nothing here
        ("small", ["optim.warmup_steps=7"], (2, 64, 8, 7)),
        ("100", [], (1, 32, 8, 100)),
    ],
)
def test_a_variant_replaces_values_of_its_file_not_those_of_a_file_based_on_it(
    tmp_path: Path, variant: str, settings: list[str], wanted: tuple[int, ...]
) -> None:
    based = "base: b.yaml\nmodel: {heads: 8}\nvariants:\n  '100': {model: {dim: 32}}\n"
    config = load_config(write(tmp_path, b=VARIANTS, c=based), settings, variant)
    assert (config.model.layers, config.model.dim, config.model.heads, config.optim.warmup_steps) == wanted


def test_an_unknown_variant_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    path = write(tmp_path, b=VARIANTS, c="base: b.yaml\n")
    with pytest.raises(UserError, match=r"c.yaml: neither .* 'large' \(known: 100, small\)"):
        load_config(path, variant="large")
    with pytest.raises(UserError, match="known: none.*give --variant="):
        load_config(write(tmp_path, c="model: {layers: 3}\n"), variant="small")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"c": "base: c.yaml"}, ["c.yaml", "based on this file"]),
        ({"c": "base: b.yaml", "b": "base: c.yaml"}, ["b.yaml", "c.yaml", "based on"]),
        ({"c": "base: b.yaml"}, ["c.yaml", "b.yaml", "not a file"]),
        ({"c": "base: 3"}, ["c.yaml", "not a file"]),
        ({"c": "model:"}, ["c.yaml", "model", "section"]),
        ({"c": "model:\n  layerz: 3"}, ["c.yaml", "layerz"]),
        ({"c": "variants: [small]"}, ["c.yaml", "variants", "small"]),
        ({"c": "variants: {small:}"}, ["c.yaml", "variants: small", "section"]),
        ({"c": "variants: {small: {optim: {warmup: 3}}}"}, ["c.yaml", "variants: small", "warmup_steps"]),
    ],
)
def test_broken_files_are_named(tmp_path: Path, files: dict[str, str], words: list[str]) -> None:
    path = write(tmp_path, **files)
    with pytest.raises(UserError) as error:
        load_config(path)
    assert all(word in str(error.value) for word in words)


def test_an_experiments_own_configuration_can_be_given_again(
    tmp_path: Path, inputs: Inputs, config: ExperimentConfig
) -> None:
    open_experiment(tmp_path / "exp", config, inputs)
    assert load_config(tmp_path / "exp/config.yaml") == config


@pytest.mark.parametrize("setting", ["model.layerz=3", "modle.layers=3", "model.layers=x", "optim.lr=.inf"])
def test_a_wrong_setting_is_not_blamed_on_the_file(tmp_path: Path, setting: str) -> None:
    path = write(tmp_path, c="model:\n  layers: 3\n")
    with pytest.raises(UserError, match="^--set: ") as error:
        load_config(path, [setting])
    assert "c.yaml" not in str(error.value)


@pytest.mark.parametrize(
    "setting",
    [
        "training.seed=-1", "training.seed=99999999999999", "training.workers=-1", "training.threads=-2",
        "training.checkpoint_every_s=0", "training.valid_batch_s=0", "training.balance_weight=-1",
        "training.z_loss_weight=-1", "training.batches_per_step=-1", "training.max_skipped_steps=-1",
        "training.max_unreadable_share=1.5",
        "training.distributed=dp", "training.precision=fp16", "optim.clip_by=max", "optim.weight_decay_on=none",
        "optim.warmup_power=0",
        "specaugment.freq_width=-1", "specaugment.time_width=-1", "specaugment.freq_masks=-1",
        "specaugment.time_masks=-1", "specaugment.time_ratio=-0.1", "specaugment.time_ratio=1.5",
        "batch.sortagrad_epochs=-1", "batch.min_utterance_s=40", "batch.min_utterance_s=-1",
        "model.moe_every=99", "optim.beta1=1.0", "optim.beta2=-0.1", "optim.weight_decay=-1",
        "optim.cosine_end_ratio=-1", "model.heads=0", "model.dim=-4",
    ],
)  # fmt: skip
def test_values_out_of_range_are_named(tmp_path: Path, setting: str) -> None:
    path = write(tmp_path, c="model:\n  layers: 3\n")
    section, key = setting.split("=")[0].split(".")
    with pytest.raises(UserError, match=rf"{section}\b.*\b{key}\b"):
        load_config(path, [setting])
