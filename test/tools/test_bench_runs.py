"""The benchmarks run on problems of no size, and what they compute of their measurements is right."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
from bench import decode, fbank, sampler, score, step, synthetic, train_outside
from bench.settings import Settings, machine

from omnirouter.data.dataset import make_batch, read_feature_dir
from omnirouter.data.fbank import fbank as our_fbank
from omnirouter.data.sampler import BatchConfig
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel
from omnirouter.scoring.wer import total, utterance_errors
from omnirouter.training.config import ExperimentConfig, load_config

TINY = ModelConfig(encoder="omnirouter", layers=2, dim=32, heads=2, ffn_dim=64, experts=3)


@pytest.fixture
def settings() -> Settings:
    return Settings(torch.device("cpu"), repeats=1, quick=True, corpus=None, configs=[])


@pytest.fixture
def corpus(tmp_path: Path, write_tone: Callable[..., Path]) -> Path:
    """Two recordings where a corpus has them."""
    for i in (1, 2):
        write_tone(tmp_path / f"corpus/LibriSpeech/set/1/2/1-2-{i}.flac", duration_s=i)
    return tmp_path / "corpus"


def test_filter_banks_of_all_go_to_arks(settings: Settings, corpus: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(settings, corpus=corpus)
    flacs, audio_s = fbank._copy(fbank._recordings(settings), tmp_path)
    assert audio_s == 3.0 and list(flacs) == ["1-2-1", "1-2-2"]
    for name, work in fbank.contenders(flacs, tmp_path).items():
        work()
        if name == fbank.BARE:
            continue
        stored = dict(kaldiio.load_ark(str(tmp_path / name / "feats.1.ark")))
        for key, path in flacs.items():
            # lhotse's samples are within [-1, 1], its frames lie elsewhere, and its bands end 400 Hz lower.
            offset, tolerance = (2 * np.log(32768), 0.3) if name == "lhotse" else (0.0, 2e-3)
            samples, _ = soundfile.read(path, dtype="float32")
            wanted = our_fbank(samples)
            assert abs(len(stored[key]) - len(wanted)) <= 2
            loudest, ours = ((x + shift).max(axis=1) for x, shift in ((stored[key], offset), (wanted, 0.0)))
            assert np.median(loudest) == pytest.approx(np.median(ours), abs=tolerance)


def test_filter_banks_without_a_corpus_are_left_out(settings: Settings, corpus: Path) -> None:
    (report,) = fbank.run(settings)
    assert "no corpus" in report.markdown()
    (report,) = fbank.run(dataclasses.replace(settings, corpus=corpus))
    assert [row[0] for row in report.rows][:3] == [fbank.BARE, "ours", fbank.AGAIN] and len(report.targets) == 2


def test_targets_of_filter_banks_by_hand() -> None:
    times = {fbank.BARE: [1.0] * 3, "ours": [3.9] * 3, fbank.AGAIN: [3.9] * 3, "lhotse": [3.0, 4.0, 4.0]}
    assert [target.holds for target in fbank.targets(times)] == [True, True]
    times |= {"ours": [4.1] * 3, fbank.AGAIN: [4.1] * 3}
    assert [target.holds for target in fbank.targets(times)] == [False, False]
    times |= {"lhotse": [3.0, 4.0, 4.2]}  # so much noise that 4.0 is no faster than 4.1
    assert [target.holds for target in fbank.targets(times)] == [True, False]


def test_the_sampler(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "QUICK_UTTERANCES", 3000)
    monkeypatch.setattr(sampler, "BATCH_S", 100.0)
    (report,) = sampler.run(settings)
    assert report.rows[0][0] == "3,000" and report.targets[0].holds and " ≤ 30: " in str(report.targets[0])


def test_scoring(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "QUICK_UTTERANCES", 200)
    alignment, whole = score.run(settings)
    assert len(alignment.rows) == 3 and str(alignment.targets[0]).startswith("holds: seconds ≤ 60: ")
    ((what, _, per_1000_s),) = whole.rows
    assert what.startswith("200 utterances") and 0 < float(per_1000_s)
    counts = total(utterance_errors(*score.word_lists(300)))
    kinds = (counts.insertions, counts.deletions, counts.substitutions)
    assert all(0.02 < kind / counts.ref_units < 0.05 for kind in kinds)


def test_decoding(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "SMALL", TINY)
    (report,) = decode.run(settings)
    assert len(report.rows) == len(report.targets) == 1
    assert "decoding / encoder ≤ 1.15: " in str(report.targets[0])


def test_the_blank_gets_its_share_of_tokens() -> None:
    torch.manual_seed(0)
    model = CtcModel(TINY, 20).eval()
    features, lengths = torch.randn(4, 400, 80), [400] * 4
    decode._favour_blank(model, features, lengths)
    with torch.inference_mode():
        best = model(features, lengths).log_probs_TV.argmax(dim=1)
    assert (best == 0).float().mean().item() == pytest.approx(decode.BLANK_SHARE, abs=0.01)


def test_a_bare_step_is_that_of_adamw_on_the_training_loss() -> None:
    config = ExperimentConfig(model=dataclasses.replace(TINY, dropout=0.0, attention_dropout=0.0))
    torch.manual_seed(0)
    model = CtcModel(config.model, 10)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    batch = make_batch(["a", "b"], [np.ones((40, 80), np.float32), np.ones((60, 80), np.float32)], [[1, 2], [3]])
    step.training_step(model, config, bf16=False)(batch)
    for name, parameter in model.named_parameters():
        moved = (parameter.detach() - before[name]).abs().max().item()
        # Adam's first step is the learning rate times the gradient's sign.
        assert parameter.grad is not None and (not parameter.grad.any() or moved == pytest.approx(1e-3, rel=0.05)), name


@pytest.mark.parametrize(("device", "bf16"), [("cpu", False), ("cuda", True)])
def test_both_steps_are_computed_alike_on_batches_already_there(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, device: str, bf16: bool
) -> None:
    configs: list[ExperimentConfig] = []
    training = train_outside.Training(1.0, 0.0, [1.0])
    monkeypatch.setattr(train_outside, "_training_set", lambda folder, config: (None, config))
    monkeypatch.setattr(train_outside, "_train", lambda exp, config, *_: configs.append(config) or training)
    train_outside.outside(dataclasses.replace(settings, device=torch.device(device)))
    assert [config.training.precision == "bf16" for config in configs] == [bf16]
    batch = make_batch(["a"], [np.zeros((4, 80), np.float32)], [[1]])
    moved = step.on_device(batch, torch.device("meta"))
    assert moved.features.is_meta and moved.targets.is_meta and moved.lengths == [4]


def test_the_share_outside_by_hand(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, steps = [0.0], train_outside.STEPS

    def takes(seconds: float) -> None:
        clock[0] += seconds

    def whole_step(trainer: SimpleNamespace, *_: object) -> None:
        trainer.step += 1
        takes(4)

    def train(exp: Path, *_: object) -> None:
        trainer = SimpleNamespace(step=0)
        for _ in range(4 * steps):
            takes(1)
            train_outside.Trainer._train_step(trainer, [], {}, 1.0)
        exp.mkdir()
        record = {"step": 2 * steps, "time": {"wall_s": 5.0 * steps, "data_wait_share": 0.2}}
        (exp / "metrics.jsonl").write_text(json.dumps(record) + "\n")

    monkeypatch.setattr(train_outside, "_training_set", lambda folder, config: (None, config))
    monkeypatch.setattr(train_outside, "_bare_step", lambda *_: lambda: takes(3))
    monkeypatch.setattr(train_outside, "_now", lambda _: clock[0])
    monkeypatch.setattr(train_outside.Trainer, "_train_step", whole_step)
    monkeypatch.setattr(train_outside, "train", train)
    # Of 5 s a step waits for 1 and works for 4, of which the bare step takes 3.
    assert train_outside.outside(settings).rows == [["omnirouter_2_512", "5000", "0.40 [0.40, 0.40]", "0.200"]]
    assert train_outside.Trainer._train_step is whole_step


def test_a_training_step_against_the_bare_one(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(load_config(step.CONFIGS / "base.yaml"), model=TINY, batch=BatchConfig(max_batch_s=30))
    monkeypatch.setattr(train_outside, "scaled", lambda _: config)
    monkeypatch.setattr(train_outside, "STEPS", 2)
    report = train_outside.outside(settings)
    assert float(report.rows[0][1]) > 0 and "share outside ≤ 0.05: " in str(report.targets[0])


def test_padding_by_hand() -> None:
    # Two buckets, in each one batch: 2 x 100 padded frames hold 190, 2 x 300 hold 500.
    config = BatchConfig(max_batch_s=6, max_utterance_s=6, buckets=2)
    frames = np.array([100, 90, 200, 300], np.int32)
    assert train_outside.padding_share(frames, config) == pytest.approx(1 - 690 / 800)


def test_padding_with_more_buckets_is_less(settings: Settings) -> None:
    report = train_outside.padding(settings)
    assert [row[0].split()[0] for row in report.rows] == ["1575", "60"]
    assert str(report.targets[0]).startswith("holds: padding ≤ 0.05: ")


def test_synthetic_utterances_are_as_stated(tmp_path: Path) -> None:
    frames = synthetic.librispeech_frames(100_000)
    assert frames.dtype == np.int32 and frames.mean() / 100 == pytest.approx(12.3, abs=0.05)
    assert 150 <= frames.min() and frames.max() <= 2400
    synthetic.write_feature_dir(tmp_path / "set", frames[:5])
    listed = read_feature_dir(tmp_path / "set")
    assert [utterance.frames for utterance in listed] == frames[:5].tolist()
    assert [len(utterance.text.split()) for utterance in listed] == [n // 50 for n in frames[:5]]


def test_the_machine_is_described() -> None:
    text = machine(torch.device("cpu"), "tools/bench/run decode")
    assert "`tools/bench/run decode`" in text and f"torch {torch.__version__.split('+')[0]}" in text
