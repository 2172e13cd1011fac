"""What a training does to the weights: its steps repeated by hand, its checkpoints, and the average it ends with."""

import dataclasses
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing import event_accumulator
from torch import Tensor

from omnirouter.data.dataset import Batch, FeatureUtterance, read_feature_dir
from omnirouter.data.sampler import BucketSampler, Position
from omnirouter.data.specaugment import SpecAugmentConfig
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.models.ctc import CtcModel
from omnirouter.scoring.wer import ErrorCounts
from omnirouter.training import checkpoint
from omnirouter.training import trainer as trainer_module
from omnirouter.training.config import ExperimentConfig, OptimConfig
from omnirouter.training.experiment import Inputs, load_experiment
from omnirouter.training.run import train
from omnirouter.training.step import StepGradient, StepLosses
from omnirouter.training.trainer import Trainer

CPU = torch.device("cpu")
STEPS = 4


@pytest.fixture
def plain(config: ExperimentConfig) -> ExperimentConfig:
    """Nothing random but the initial weights; every term of the loss and of a step weighs enough to be seen."""
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, dropout=0.0, attention_dropout=0.0, layer_drop=0.0),
        specaugment=SpecAugmentConfig(freq_masks=0, time_masks=0),
        optim=OptimConfig(lr=4e-3, warmup_steps=2, cosine_steps=2, cosine_end_ratio=0.5, weight_decay=0.5, beta1=0.8),
        training=dataclasses.replace(
            config.training, max_steps=STEPS, valid_every=STEPS, average_best=1, balance_weight=30.0
        ),
    )


def losses_by_hand(model: CtcModel, utterances: list[FeatureUtterance], tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """CTC of each utterance for itself, summed, and the balance loss."""
    features = [torch.tensor(kaldiio.load_mat(utterance.place)) for utterance in utterances]
    output = model(torch.nn.utils.rnn.pad_sequence(features, batch_first=True), [len(x) for x in features])
    ctc, begin = torch.zeros(()), 0
    for utterance, x in zip(utterances, features, strict=True):
        labels = torch.tensor(tokenizer.encode(utterance.text))
        log_probs = output.log_probs_TV[begin : begin + len(x) // 4]  # a token is four frames
        begin += len(log_probs)
        ctc = ctc + F.ctc_loss(log_probs, labels, (len(log_probs),), (len(labels),), reduction="sum")
    return ctc, output.balance_loss


def adamw_by_hand(
    model: CtcModel, moments: dict[str, list[Tensor]], step: int, rate: float, optim: OptimConfig
) -> dict[str, float]:
    """Clip and take step number `step` (from 1) of AdamW, as its paper has it; returns what the gradient was before."""
    norm = sum(p.grad.double().square().sum() for p in model.parameters()).sqrt().item()
    largest = max(p.grad.abs().max().item() for p in model.parameters())
    bound, by_norm = optim.clip_norm, optim.clip_by == "norm"
    for name, p in model.named_parameters():
        gradient = p.grad * min(1.0, bound / norm) if by_norm else p.grad.clamp(-bound, bound)
        first, second = moments.setdefault(name, [torch.zeros_like(p), torch.zeros_like(p)])
        first.mul_(optim.beta1).add_((1 - optim.beta1) * gradient)
        second.mul_(optim.beta2).add_((1 - optim.beta2) * gradient.square())
        matrix = p.ndim >= 2 and name.endswith("weight") and "router" not in name
        p.data -= rate * (optim.weight_decay if matrix else 0.0) * p.data
        update = (first / (1 - optim.beta1**step)) / ((second / (1 - optim.beta2**step)).sqrt() + 1e-8)
        p.data -= rate * update
        p.grad = None
    return {"norm": norm, "clipped": (norm if by_norm else largest) > bound}


def check_records(records: list[dict[str, Any]], steps: list[dict[str, float]]) -> None:
    """Compare the records of two steps each with what these steps were by hand."""
    assert [record["step"] for record in records] == [2, 4]
    for record, pair in zip(records, (steps[:2], steps[2:]), strict=True):
        total = {name: sum(step[name] for step in pair) for name in pair[0]}
        wanted = {
            "ctc_loss": total["ctc"] / total["utterances"], "balance_loss": total["balance"] / 2, "lr": pair[1]["rate"],
            "grad_norm": total["norm"] / 2, "clipped_share": total["clipped"] / 2,
            "utterances": total["utterances"], "padding_share": 1 - total["frames"] / total["padded_frames"],
        }  # fmt: skip
        assert {name: record[name] for name in wanted} == pytest.approx(wanted, rel=1e-4)
        assert 0.05 < record["padding_share"] < 0.45  # else it could be its opposite


def check_board(folder: Path, records: list[dict[str, Any]]) -> None:
    """Compare what TensorBoard reads with the records."""
    board = event_accumulator.EventAccumulator(str(folder)).Reload()
    written = {(tag, event.step): event.value for tag in board.Tags()["scalars"] for event in board.Scalars(tag)}
    wanted = {}
    for record in records:
        for name, value in record.items():
            if name in ("valid", "time"):
                wanted |= {(f"{name}/{key}", record["step"]): number for key, number in value.items()}
            elif name == "routing":
                wanted |= {(f"routing/2/load/{i}", record["step"]): x for i, x in enumerate(value["2"]["load"], 1)}
            elif name not in ("step", "epoch"):
                wanted[name, record["step"]] = value
    assert len(wanted) > 2 * 14
    assert {key: written.get(key) for key in wanted} == pytest.approx(wanted)


@pytest.mark.parametrize(("by", "bound"), [("norm", 40.0), ("value", 5.0)])
def test_steps_and_their_records_are_those_done_by_hand(
    tmp_path: Path, inputs: Inputs, plain: ExperimentConfig, monkeypatch: pytest.MonkeyPatch, by: str, bound: float
) -> None:
    plain = dataclasses.replace(plain, optim=dataclasses.replace(plain.optim, clip_by=by, clip_norm=bound))
    boards: list[Any] = []
    make = trainer_module.tensorboard_writer
    monkeypatch.setattr(trainer_module, "tensorboard_writer", lambda *a: boards.append(make(*a)) or boards[-1])
    plain = dataclasses.replace(plain, training=dataclasses.replace(plain.training, log_every=2))
    train(tmp_path / "exp/a", plain, inputs, CPU)
    boards[0].flush()  # a thread of its own writes
    utterances, tokenizer = read_feature_dir(inputs.train), Tokenizer(inputs.lang)
    frames = np.concatenate([kaldiio.load_mat(utterance.place) for utterance in utterances]).astype(np.float64)
    torch.manual_seed(plain.training.seed)
    model = CtcModel(plain.model, len(tokenizer.tokens))
    model.feature_mean.copy_(torch.from_numpy(frames.mean(axis=0)))
    model.feature_std.copy_(torch.from_numpy(frames.std(axis=0)))
    sampler = BucketSampler([u.frames for u in utterances], plain.batch, plain.training.seed)
    batches = sampler.batches_from(Position())
    moments: dict[str, list[Tensor]] = {}
    steps = []
    for step, rate in enumerate((2e-3, 4e-3, 4e-3, 3e-3), 1):  # to the peak in two steps, half of the cosine in one
        chosen = [utterances[i] for i in next(batches)[1]]
        ctc, balance = losses_by_hand(model, chosen, tokenizer)
        (ctc / len(chosen) + plain.training.balance_weight * balance).backward()
        before = adamw_by_hand(model, moments, step, rate, plain.optim)
        lengths = [utterance.frames for utterance in chosen]
        frames_of = {"frames": sum(lengths), "padded_frames": max(lengths) * len(chosen), "utterances": len(chosen)}
        steps.append({"ctc": ctc.item(), "balance": balance.item(), "rate": rate, **before, **frames_of})
    assert {step["clipped"] for step in steps} == {False, True}
    records = [json.loads(line) for line in (tmp_path / "exp/a/metrics.jsonl").read_text().splitlines()]
    check_records([record for record in records if "ctc_loss" in record], steps)
    check_board(tmp_path / "exp/a/tensorboard", records)
    trained = torch.load(tmp_path / "exp/a/model.pt", weights_only=True)
    for name, wanted in model.state_dict().items():
        torch.testing.assert_close(trained[name], wanted, rtol=1e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_the_final_model_is_the_mean_of_the_best_checkpoints(
    tmp_path: Path, inputs: Inputs, plain: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: dict[int, dict[str, Tensor]] = {}
    original = Trainer._validate

    def validate(self: Trainer) -> None:
        weights[self.step] = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        original(self)

    monkeypatch.setattr(Trainer, "_validate", validate)
    training = dataclasses.replace(plain.training, max_steps=40, valid_every=4, average_best=3, balance_weight=0.1)
    optim = OptimConfig(lr=1e-2, warmup_steps=5, cosine_steps=400, clip_norm=5.0)
    train(tmp_path / "a", dataclasses.replace(plain, training=training, optim=optim), inputs, CPU)
    records = [json.loads(line) for line in (tmp_path / "a/metrics.jsonl").read_text().splitlines()]
    errors = [(record["valid"]["errors"], -record["step"]) for record in records if "valid" in record]
    best = [-step for _, step in sorted(errors)[:3]]
    assert max(errors)[0] > sorted(errors)[2][0]  # else any three would be the best
    final = torch.load(tmp_path / "a/model.pt", weights_only=True)
    for name, tensor in final.items():
        torch.testing.assert_close(tensor, torch.stack([weights[step][name] for step in best]).mean(dim=0))
    for step in best:
        assert (tmp_path / f"a/checkpoints/best_{step}.pt").exists()


@pytest.mark.parametrize("errors", [[9, 8, 7], [9, 8, None, 7]], ids=["at-once", "resumed"])  # each the best so far
def test_what_the_checkpoint_before_would_average_is_kept_too(
    tmp_path: Path, inputs: Inputs, plain: ExperimentConfig, monkeypatch: pytest.MonkeyPatch, errors: list[int | None]
) -> None:
    left = [*errors]

    def dev_errors(*_: object) -> ErrorCounts:
        if (found := left.pop(0)) is None:
            raise KeyboardInterrupt
        return ErrorCounts(ref_units=9, substitutions=found)

    monkeypatch.setattr(trainer_module, "dev_errors", dev_errors)
    training = dataclasses.replace(plain.training, max_steps=3, valid_every=1, average_best=1)
    while left:
        with suppress(KeyboardInterrupt):
            train(tmp_path / "a", dataclasses.replace(plain, training=training), inputs, CPU)
    files = sorted(path.name for path in (tmp_path / "a/checkpoints").iterdir())
    assert files == ["best_2.pt", "best_3.pt", "step_2.pt", "step_3.pt"]


@pytest.mark.parametrize(("every_s", "wanted"), [(1e-9, [6, 7]), (240.0, [])])
def test_a_checkpoint_is_due_by_the_clock_too(
    tmp_path: Path, inputs: Inputs, plain: ExperimentConfig, monkeypatch: pytest.MonkeyPatch, every_s: float,
    wanted: list[int],
) -> None:  # fmt: skip
    original = Trainer._train_step

    def step(self: Trainer, *arguments: object) -> None:
        if self.step == 7:
            raise RuntimeError("killed")
        original(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_step", step)
    training = dataclasses.replace(plain.training, max_steps=50, valid_every=1000, checkpoint_every_s=every_s)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "a", dataclasses.replace(plain, training=training), inputs, CPU)
    assert checkpoint.steps(tmp_path / "a/checkpoints") == wanted


def test_a_loaded_model_is_in_eval_mode(tmp_path: Path, inputs: Inputs, plain: ExperimentConfig) -> None:
    train(tmp_path / "a", plain, inputs, CPU)
    assert not any(module.training for module in load_experiment(tmp_path / "a")[0].modules())


def test_each_batch_of_each_step_has_dropout_of_its_own_and_each_step_its_blocks(
    tmp_path: Path, inputs: Inputs, plain: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All batches are the first one, as far as utterances go, and the weights stay: losses differ by dropout alone."""
    compute, losses, left_out, seen = StepGradient.compute, [], [], []

    def of_the_first(self: StepGradient, batches: list[Batch], utterances: int, without: frozenset[int]) -> StepLosses:
        seen.extend(batches)
        batches = [dataclasses.replace(seen[0], position=batch.position) for batch in batches]
        result = compute(self, batches, utterances)
        losses.extend(loss.sum().item() for _, loss in result.of_utterances)
        left_out.append(without)
        return result

    monkeypatch.setattr(Trainer, "rehearse", lambda self, batch: None)
    monkeypatch.setattr(StepGradient, "compute", of_the_first)
    model = dataclasses.replace(plain.model, dropout=0.1, layer_drop=0.5)
    training = dataclasses.replace(plain.training, max_steps=8, valid_every=8, batches_per_step=2)
    still = OptimConfig(lr=1e-12, warmup_steps=1, weight_decay=0.0)
    train(tmp_path / "exp/a", dataclasses.replace(plain, model=model, training=training, optim=still), inputs, CPU)
    assert len(losses) == 16 and np.diff(sorted(losses)).min() > 1e-3
    assert len(left_out) == 8 and len(set(left_out)) > 1
