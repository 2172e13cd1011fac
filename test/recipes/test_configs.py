"""Every configuration of every recipe is built and tried with one training step."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from omnirouter.data.dataset import make_batch
from omnirouter.models.ctc import CtcModel, ctc_loss, parameter_counts
from omnirouter.models.zoo import model_parts, tokens_of, total
from omnirouter.training.config import ExperimentConfig, load_config
from omnirouter.training.schedule import learning_rate
from omnirouter.training.step import StepGradient, make_optimizer

EGS = Path(__file__).resolve().parents[2] / "egs"
CONFIGS = sorted(EGS.glob("*/asr1/conf/*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_a_config_trains_one_step(path: Path) -> None:
    torch.manual_seed(0)
    config = load_config(path)
    if config.model.layers == 16:  # the paper's sizes: the layers are alike, and two fit in any memory
        config = load_config(path, ["model.layers=2"])
    model = CtcModel(config.model, 50)
    optimizer = make_optimizer(model, config.optim)
    features = [torch.randn(frames, config.model.n_mels).numpy() for frames in (120, 75)]
    batch = make_batch(["a", "b"], features, [[1, 2, 3], [4]])
    output = model(batch.features, batch.lengths)
    loss = ctc_loss(output, batch.targets, batch.target_lengths) + config.training.balance_weight * output.balance_loss
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    optimizer.step()
    changed = model(batch.features, batch.lengths)
    assert not torch.equal(changed.log_probs_TV, output.log_probs_TV)


@pytest.mark.parametrize("recipe", sorted({path.parent for path in CONFIGS}), ids=lambda folder: folder.parts[-3])
def test_the_three_encoders_of_a_recipe_are_alike_in_active_parameters(recipe: Path) -> None:
    configs = {kind: load_config(recipe / f"{kind}.yaml").model for kind in ("dense", "switch", "omnirouter")}
    assert {kind: config.encoder for kind, config in configs.items()} == {kind: kind for kind in configs}
    with torch.device("meta"):
        active = {kind: parameter_counts(CtcModel(config, 50))[1] for kind, config in configs.items()}
    router = configs["omnirouter"].dim * configs["omnirouter"].experts
    assert active["omnirouter"] == active["dense"] + router
    assert active["switch"] == active["dense"] + router * configs["switch"].layers


def variants(path: Path) -> list[str]:
    """The variants of a recipe's configurations, or one without a name."""
    return list(yaml.safe_load((path.parent / "base.yaml").read_text()).get("variants", [""]))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_a_plateau_outlasts_a_step_of_the_rate(path: Path) -> None:
    for variant in variants(path):
        config = load_config(path, variant=variant)
        optim, training = config.optim, config.training
        has_steps = optim.warmup_steps + optim.cosine_steps + optim.step_every < training.max_steps
        assert has_steps == (path.parts[-4] == "libriheavy")
        assert not has_steps or training.patience * training.valid_every > optim.step_every
        assert has_steps or optim.warmup_steps + optim.cosine_steps == training.max_steps


PRINTED = {
    "specaugment": {"freq_masks": 2, "freq_width": 30, "time_masks": 10, "time_width": 50, "time_ratio": 0.1},
    "optim": {"lr": 1e-3, "step_factor": 0.5, "weight_decay": 0.01, "clip_norm": 0.1},
    "training": {"balance_weight": 10},
}
READ_INTO_IT = {"warmup_power": 1, "weight_decay_on": "matrices", "beta1": 0.9, "beta2": 0.98, "clip_by": "norm"}


@pytest.mark.parametrize("recipe", ["", "libriheavy", "librispeech"], ids=lambda recipe: recipe or "defaults")
def test_training_is_as_v_c_prints_it(recipe: str) -> None:
    """All that does not go by the size of the corpus, and what the fields say they take where V-C says nothing."""
    paths = [path for path in CONFIGS if path.parts[-4] == recipe]
    assert bool(paths) == bool(recipe)
    for config in map(load_config, paths) if recipe else [ExperimentConfig()]:
        for section, fields in {**PRINTED, "optim": PRINTED["optim"] | READ_INTO_IT}.items():
            values = dataclasses.asdict(getattr(config, section))
            assert {name: values[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (6399, 1e-3),  # end of the warm-up
        (9400, 0.75e-3),  # half of the cosine
        (12_400, 0.5e-3),
        (28_399, 0.5e-3),
        (28_400, 0.25e-3),  # the first halving
        (44_399, 0.25e-3),
        (44_400, 0.125e-3),
        (99_999, 1e-3 / 64),
    ],
)
def test_the_rate_of_libriheavy_by_hand(step: int, rate: float) -> None:
    assert learning_rate(step, load_config(EGS / "libriheavy/asr1/conf/base.yaml").optim) == pytest.approx(rate)


@pytest.mark.parametrize("variant, divisor", [("large", 1), ("medium", 2.5), ("small", 16)])
def test_the_schedules_of_libriheavy_are_one_schedule_for_every_model(variant: str, divisor: float) -> None:
    paths = [path for path in CONFIGS if path.parts[-4] == "libriheavy"]
    assert len(paths) > 12
    for large, config in ((load_config(path), load_config(path, variant=variant)) for path in paths):
        counts = [[c.warmup_steps, c.cosine_steps, c.step_every] for c in (config.optim, large.optim)]
        assert [count * divisor for count in counts[0]] == counts[1]
        assert config.training.max_steps * divisor == large.training.max_steps == 100000
        assert config.model == large.model and config.batch == large.batch


@pytest.mark.parametrize("variant, speech_h", [("960", 960), ("460", 460), ("100", 100 * (1 + 1 / 0.9 + 1 / 1.1))])
def test_the_schedules_of_librispeech_are_of_some_fifty_epochs(variant: str, speech_h: float) -> None:
    config = load_config(EGS / "librispeech/asr1/conf/switch.yaml", variant=variant)
    epochs = config.training.max_steps * config.batch.max_batch_s / 3600 / speech_h
    assert 50 < epochs < 57 and config.training.max_steps == 100 * config.training.valid_every


def test_a_model_of_the_papers_takes_steps_as_its_configuration_says() -> None:
    """156M parameters with 8192 units: nothing is cut but the lengths, and what other ranks of eight would do."""
    config = load_config(EGS / "libriheavy/asr1/conf/omnirouter_2_512.yaml")
    torch.manual_seed(0)
    model, rng = CtcModel(config.model, 8192), np.random.default_rng(0)
    assert round(parameter_counts(model)[0] / 1e6, 1) == 155.5 and config.training.precision == "bf16"
    gradient, optimizer = StepGradient(model, config), make_optimizer(model, config.optim)
    assert config.training.batches_per_step == 16
    batches = [
        make_batch(
            [f"{i}a", f"{i}b"],
            [rng.normal(size=(frames, 80)).astype(np.float32) for frames in (100, 60)],
            [rng.integers(2, 8192, 8).tolist(), [8191, 2]],
        )
        for i in range(16 // 8)
    ]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for step in (config.optim.warmup_steps - 1, config.optim.warmup_steps):  # at the peak rate
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = learning_rate(step, config.optim)
        result = gradient.compute(batches, 4)
        assert gradient.clip()[1] and result.telemetry.is_finite()
        optimizer.step()
    assert all((new != old).any() for new, old in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("recipe", "cheapest", "units"), [("libriheavy", "dense_84m", 8192), ("librispeech", "dense", 5000)]
)
def test_the_loading_processes_suffice_by_the_arithmetic_beside_them(recipe: str, cheapest: str, units: int) -> None:
    folder = EGS / recipe / "asr1/conf"
    model, comment = load_config(folder / f"{cheapest}.yaml").model, (folder / "base.yaml").read_text()
    comment = re.sub(r"\n +# ", " ", comment)
    gflops = total(model_parts(model, units, tokens_of(model, 15.0))).flops / 15 / 1e9
    assert f"{gflops:.3f} GFLOPs per second of audio for {cheapest}" in comment
    audio_s_per_s = 0.30 * 989_000 / (3 * gflops)
    (stated,) = re.findall(r"0\.30 x 989 000 / [\d.]+ = (\d+) 000 s of audio a second", comment)
    assert int(stated) == round(audio_s_per_s / 1000)
    of_a_process = int(re.search(r"a process .*?gave (\d+(?: \d{3})?)", comment)[1].replace(" ", ""))
    for path in (path for path in CONFIGS if path.parent == folder):
        assert load_config(path).training.workers * of_a_process >= audio_s_per_s
