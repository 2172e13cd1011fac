"""The gradient of a step: the same however its batches are shared out, and of the parts and precision it says."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from omnirouter.data.dataset import Batch, make_batch
from omnirouter.data.sampler import Position
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel, ctc_losses
from omnirouter.training.config import ExperimentConfig, OptimConfig, TrainingConfig
from omnirouter.training.distributed import rank, ranks
from omnirouter.training.step import StepGradient, left_out_layers, make_optimizer

EXPERTS = 8
TINY = {"layers": 3, "dim": 32, "heads": 2, "ffn_dim": 48, "experts": EXPERTS}
# Frames of the utterances of six batches. All that the second of two processes, or the third of three, has is batches
# of one token each, so that most experts get none there.
FRAMES = [[60, 41, 33], [4], [5], [7], [90, 20, 64, 47, 24], [6]]


def make_batches() -> list[Batch]:
    rng = np.random.default_rng(0)
    batches = []
    for number, lengths in enumerate(FRAMES):
        features = [rng.normal(0, 1, (length, 80)).astype(np.float32) for length in lengths]
        labels = [rng.integers(1, 12, max(1, length // 16)).tolist() for length in lengths]
        batch = make_batch([f"{number}-{i}" for i in range(len(lengths))], features, labels)
        batches.append(dataclasses.replace(batch, position=Position(number, 0, number)))
    return batches


def experiment(batches_per_step: int = len(FRAMES), training: dict = {}, **model: Any) -> ExperimentConfig:  # noqa: B006
    return ExperimentConfig(
        model=ModelConfig(**{**TINY, **model}),
        training=TrainingConfig(batches_per_step=batches_per_step, **training),
    )


def gradient(config: ExperimentConfig, left_out: set[int] = frozenset()) -> tuple[dict[str, Tensor | None], list[int]]:
    """The step's gradient by name, and how often each expert of the first layer was chosen in this process."""
    torch.manual_seed(1)
    model = CtcModel(config.model, 12)
    batches = make_batches()
    step = StepGradient(model, config)
    mine = batches[rank() :: ranks()]
    result = step.compute(mine, sum(map(len, FRAMES)), left_out)
    model.eval()
    chosen = torch.cat([model(b.features, b.lengths, True).routing[0].experts_TK.flatten() for b in mine])
    assert len(result.of_utterances) == len(mine)
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    return gradients, torch.bincount(chosen, minlength=EXPERTS).tolist()


def assert_close(mine: dict[str, Tensor | None], wanted: dict[str, Tensor | None]) -> None:
    assert mine.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert (mine[name] is None) == (tensor is None), name
        if tensor is not None:
            assert (mine[name] - tensor).norm() <= 1e-5 * tensor.norm(), name  # some 80 roundings of fp32


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_and_accumulation_give_the_same_gradient(
    in_processes: Callable[..., list[Any]], processes: int
) -> None:
    config = experiment(training={"balance_weight": 3.0, "z_loss_weight": 0.5}, layer_drop=0.3)
    wanted, _ = gradient(config, {1})
    assert wanted["encoder.blocks.1.attention.qkv.weight"] is None
    assert wanted["encoder.blocks.0.ffn.inner_weight"].abs().amax((1, 2)).min() > 0  # no expert is idle everywhere
    results = in_processes(processes, lambda: gradient(config, {1}))
    assert results[-1][1].count(0) >= EXPERTS - 3  # of the last process's three tokens most experts get none
    for gradients, _ in results:
        assert_close(gradients, wanted)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_ctc_gradient_is_that_of_all_utterances_at_once(
    in_processes: Callable[..., list[Any]], processes: int
) -> None:
    config = experiment(training={"balance_weight": 0.0}, dropout=0.0, attention_dropout=0.0)
    torch.manual_seed(1)
    model, batches = CtcModel(config.model, 12), make_batches()
    features = [x[:length] for b in batches for x, length in zip(b.features, b.lengths, strict=True)]
    padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    output = model(padded, sum(FRAMES, []))
    targets = torch.cat([batch.targets for batch in batches])
    ctc_losses(output, targets, sum((batch.target_lengths for batch in batches), [])).mean().backward()
    wanted = {name: parameter.grad for name, parameter in model.named_parameters()}
    results = in_processes(processes, lambda: gradient(config)) if processes > 1 else [gradient(config)]
    for gradients, _ in results:
        assert_close(gradients, wanted)


def test_balance_and_z_loss_are_means_over_the_batches() -> None:
    def of(batches: list[Batch], **weights: float) -> Tensor:
        torch.manual_seed(1)
        config = experiment(len(batches), {"balance_weight": 0.0, **weights}, dropout=0.0, attention_dropout=0.0)
        model = CtcModel(config.model, 12)
        StepGradient(model, config).compute(batches, 10**12)  # so many utterances that CTC counts for nothing
        return model.encoder.routers[0].weight.grad

    first, second = make_batches()[0], make_batches()[4]
    for name in ("balance_weight", "z_loss_weight"):
        both, one, other = (of(batches, **{name: 1.0}) for batches in ([first, second], [first], [second]))
        torch.testing.assert_close(both, (one + other) / 2)
        assert not torch.allclose(one, other)


def test_layer_drop_depends_on_seed_and_step_alone() -> None:
    config = experiment(layers=20, layer_drop=0.25)
    drawn = [left_out_layers(config, step) for step in range(200)]
    assert drawn == [left_out_layers(config, step) for step in range(200)]
    assert 0.22 < sum(map(len, drawn)) / 4000 < 0.28  # standard error 0.007
    shares = np.mean([[layer in layers for layer in range(20)] for layers in drawn], axis=0)
    assert 0.1 < shares.min() and shares.max() < 0.4
    other = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=2))
    assert drawn != [left_out_layers(other, step) for step in range(200)]
    assert left_out_layers(experiment(layers=20), 0) == frozenset()


def test_layer_drop_leaves_a_block_and_changes_no_other_draw() -> None:
    drawn = [left_out_layers(experiment(layers=3, layer_drop=0.9), step) for step in range(300)]
    assert max(map(len, drawn)) == 2 and set().union(*drawn) == {0, 1, 2}
    assert sum(len(layers) == 2 for layers in drawn) > 270  # 97 in 100 have drawn two or all three
    assert left_out_layers(experiment(layers=1, layer_drop=0.99), 0) == frozenset()


def test_recomputing_in_a_step_changes_no_bit() -> None:
    gradients = [gradient(experiment(training={"activation_checkpointing": on}))[0] for on in (False, True)]
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


@pytest.mark.parametrize(("on", "calls"), [(False, 1), (True, 2)])
def test_blocks_are_computed_again_for_the_backward_pass_if_so_configured(on: bool, calls: int) -> None:
    config = experiment(training={"activation_checkpointing": on})
    model, begun = CtcModel(config.model, 12), []
    for block in model.encoder.blocks:
        block.register_forward_pre_hook(lambda *_: begun.append(1))
    StepGradient(model, config).compute(make_batches()[:1], len(FRAMES[0]))
    assert len(begun) == calls * len(model.encoder.blocks)


def exchanges() -> list[int]:
    """How often replicas exchange gradients for one batch, for four, and for four whose gradient is not wanted."""
    config, counts = experiment(batches_per_step=8), []
    step = StepGradient(CtcModel(config.model, 12), config)

    def exchange(_: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        counts[-1] += 1
        return allreduce_hook(None, bucket)

    step._module.register_comm_hook(None, exchange)
    for batches, wanted in ((1, True), (1, True), (4, True), (4, False)):
        counts.append(0)
        step.compute(make_batches()[:batches], 10, exchange=wanted)
    return counts[1:]  # after the first time DDP cuts the gradient up anew


def test_replicas_exchange_gradients_once_a_step(in_processes: Callable[..., list[Any]]) -> None:
    for one, four, none in in_processes(2, exchanges):
        assert one == four > 0 == none


def test_clipping_by_norm_and_by_value() -> None:
    for by, bound in (("norm", 0.5), ("value", 0.01)):
        config = dataclasses.replace(experiment(), optim=OptimConfig(clip_by=by, clip_norm=bound))
        torch.manual_seed(1)
        model = CtcModel(config.model, 12)
        step = StepGradient(model, config)
        step.compute(make_batches(), sum(map(len, FRAMES)))
        before = torch.cat([p.grad.flatten() for p in model.parameters()])
        norm, _ = step.clip()
        after = torch.cat([p.grad.flatten() for p in model.parameters()])
        assert norm == pytest.approx(float(before.double().norm()), rel=1e-4) and norm > 0.5
        wanted = before * bound / norm if by == "norm" else before.clamp(-bound, bound)
        torch.testing.assert_close(after, wanted)
        assert not torch.equal(before, after)


def test_weight_decay_of_all_parameters_if_the_configuration_says_so() -> None:
    model = CtcModel(experiment().model, 12)
    groups = make_optimizer(model, OptimConfig(weight_decay_on="all", weight_decay=0.5)).param_groups
    assert [len(group["params"]) for group in groups] == [len(list(model.parameters())), 0]
    assert groups[0]["weight_decay"] == 0.5
