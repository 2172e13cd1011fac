"""Every configuration of every recipe is built and tried with one training step."""

from pathlib import Path

import pytest
import torch

from omnirouter.data.dataset import make_batch
from omnirouter.models.ctc import CtcModel, ctc_loss, parameter_counts
from omnirouter.training.config import load_config
from omnirouter.training.trainer import make_optimizer

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


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_a_plateau_outlasts_a_step_of_the_rate(path: Path) -> None:
    config = load_config(path)
    optim, training = config.optim, config.training
    has_steps = optim.warmup_steps + optim.cosine_steps + optim.step_every < training.max_steps
    assert has_steps == (path.parts[-4] == "libriheavy")
    assert not has_steps or training.patience * training.valid_every > optim.step_every


@pytest.mark.parametrize("subset, divisor", [("medium", 2.5), ("small", 16)])
def test_the_schedules_of_libriheavy_are_one_schedule(subset: str, divisor: float) -> None:
    large, smaller = (load_config(EGS / f"libriheavy/asr1/conf/{name}.yaml") for name in ("omnirouter", subset))
    counts = ("warmup_steps", "cosine_steps", "step_every")
    assert [getattr(smaller.optim, name) * divisor for name in counts] == [
        getattr(large.optim, name) for name in counts
    ]
    assert smaller.training.max_steps * divisor == large.training.max_steps
    assert smaller.model == large.model
