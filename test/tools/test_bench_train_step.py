"""The table of training steps: which models are timed, and what is computed of the times, by a clock of our own."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from bench import step, timing, train_step
from bench.report import Report
from bench.settings import Settings
from bench.timing import Spread

from omnirouter.data.dataset import Batch, make_batch
from omnirouter.data.sampler import BatchConfig
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel
from omnirouter.training.config import ExperimentConfig

CPU = torch.device("cpu")
TINY = ModelConfig(encoder="omnirouter", layers=2, dim=32, heads=2, ffn_dim=64, experts=3)
BATCH_MS = {"dense": 1.0, "omnirouter": 1.25, "switch": 1.0}
PEAK = 2e12


@pytest.fixture
def settings() -> Settings:
    return Settings(CPU, repeats=1, quick=True, corpus=None, configs=[])


def test_models_on_a_cpu_are_a_quarter_of_the_papers(settings: Settings) -> None:
    models = train_step._models(dataclasses.replace(settings, quick=False))
    assert {"dense_84m", "omnirouter_8_512", "switch_2_1024"} <= models.keys()
    assert not models.keys() & {"base", "dense", "switch", "omnirouter"}  # these only name one of the others
    model = models["omnirouter_8_512"].model
    assert (model.dim, model.heads, model.ffn_dim, model.layers, model.experts) == (128, 8, 1024, 4, 8)
    assert models["dense_84m"].batch.max_batch_s == step.CPU_BATCH_S


def test_quick_times_a_mixture_beside_the_dense_model_of_its_width(settings: Settings) -> None:
    dense, mixture = (config.model for config in train_step._models(settings).values())
    assert (dense.encoder, mixture.encoder) == ("dense", "omnirouter") and dense.dim == mixture.dim
    named = [step.CONFIGS / f"{name}.yaml" for name in ("dense_200m", "switch_2_1024", "omnirouter_2_1024")]
    assert len(train_step._models(dataclasses.replace(settings, configs=named))) == 3  # all that are asked for


def test_batches_are_as_the_sampler_makes_them() -> None:
    config = ExperimentConfig(batch=BatchConfig(max_batch_s=30), model=TINY)
    batches = train_step._batches(config, 50)
    assert len(batches) == 3 and all(2400 < batch.padded_frames <= 3000 for batch in batches)
    for batch in batches:
        assert 0 < batch.targets.min() and 40 < batch.targets.max() < 50
        assert batch.target_lengths == [frames // 33 for frames in batch.lengths]  # three a second


def table(settings: Settings, monkeypatch: pytest.MonkeyPatch, device: str) -> Report:
    """Take the steps of three small models, of which each takes as long as BATCH_MS says."""
    sizes = {"dim": 32, "heads": 2, "ffn_dim": 1024, "layers": 2, "experts": 8}
    models = {
        name: ExperimentConfig(model=ModelConfig(encoder=encoder, **sizes | wider), batch=BatchConfig(max_batch_s=30))
        for name, encoder, wider in (
            ("omnirouter_8_512", "omnirouter", {}), ("switch_2_768", "switch", {"dim": 64}), ("dense_84m", "dense", {})
        )
    }  # fmt: skip
    clock, build, training_step = [0.0], train_step._build, train_step.training_step

    def timed_step(model: CtcModel, config: ExperimentConfig, bf16: bool) -> Callable[[Batch], None]:
        work = training_step(model, config, bf16)

        def taking_time(batch: Batch) -> None:
            work(batch)
            clock[0] += BATCH_MS[config.model.encoder] / 1000

        assert bf16 == (device == "cuda")
        return taking_time

    monkeypatch.setattr(train_step, "_models", lambda _: models)
    monkeypatch.setattr(train_step, "_build", lambda config, vocab_size, _: build(config, vocab_size, CPU))
    monkeypatch.setattr(train_step, "training_step", timed_step)
    monkeypatch.setattr(train_step, "VOCAB", 500)
    monkeypatch.setattr(train_step, "_peak_flops", lambda _: PEAK)
    monkeypatch.setattr(train_step, "outside", lambda _: "outside")
    monkeypatch.setattr(train_step, "padding", lambda _: "padding")
    monkeypatch.setattr(timing, "synchronise", lambda _: None)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    report, *others = train_step.run(dataclasses.replace(settings, device=torch.device(device)))
    assert others == ["outside", "padding"]
    return report


def test_the_table_of_a_cpu_by_hand(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    report = table(settings, monkeypatch, "cpu")
    audio_s = sum(sum(batch.lengths) for batch in train_step._batches(ExperimentConfig(
        model=TINY, batch=BatchConfig(max_batch_s=30)), 500)) / 100  # fmt: skip
    mixture, dense, wide = report.rows  # by width
    assert [row[0] for row in report.rows] == ["omnirouter_8_512", "dense_84m", "switch_2_768"]
    assert [float(row[3]) for row in (mixture, dense)] == pytest.approx([audio_s / 3.75e-3, audio_s / 3e-3], abs=1)
    assert [row[4] for row in report.rows] == ["0.80 [0.80, 0.80]", "1.00 [1.00, 1.00]", "–"]
    # In all 8 experts with two matrices in two layers; active is the one that a token has.
    one_expert = 2 * 2 * 32 * 1024 / 1e6
    assert float(mixture[1]) - float(dense[1]) == pytest.approx(7 * one_expert, abs=0.2)
    assert mixture[2] == dense[2] == dense[1] and len(wide) == len(report.header) == 5
    assert not report.targets and "batches of 60 s" in report.notes[1]


def test_the_table_of_a_gpu_by_hand(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    report = table(settings, monkeypatch, "cuda")
    rows = {row[0]: dict(zip(report.header, row, strict=True)) for row in report.rows}
    model = ModelConfig(encoder="dense", layers=2, dim=32, heads=2, ffn_dim=1024)
    batches = train_step._batches(ExperimentConfig(model=model, batch=BatchConfig(max_batch_s=30)), 500)
    # A backward pass is two forward ones; three batches of a millisecond each.
    mfu = 3 * train_step.batch_flops(model, 500, batches) / 3e-3 / PEAK
    assert 0.2 < mfu < 0.9 and rows["dense_84m"]["MFU"] == f"{mfu:.1%}"
    assert "of a product of 8192³ in bf16, is 2 TFLOP/s" in report.notes[1]
    assert [str(target).split(" (")[0] for target in report.targets] == [
        "missed: speed of 8 experts / dense ≥ 0.85: 0.8",
        f"holds: MFU of dense_84m ≥ 0.3: {mfu:.3g}",
    ]


def test_the_peak_is_that_of_ten_products_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(train_step, "PEAK_SIZE", 8)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks) * 0.5)
    assert train_step._peak_flops(CPU) == 10 * 2 * 8**3 / 0.5


def test_flops_of_a_batch_are_those_of_its_valid_tokens() -> None:
    batch = make_batch(["a", "b"], [np.zeros((403, 80), np.float32), np.zeros((80, 80), np.float32)], [[1], [1]])
    input_, attention, ffn, router, output = 2 * 320 * 32, 2 * 8 * 32**2, 2 * 4 * 32 * 64, 2 * 2 * 32 * 3, 2 * 32 * 50
    wanted = 120 * (input_ + attention + ffn + router + output) + 2 * 4 * 32 * (100**2 + 20**2)
    assert train_step.batch_flops(TINY, 50, [batch]) == wanted


def test_targets_of_a_gpu_by_hand() -> None:
    def result(name: str, experts: int, of_dense: float, mfu: float) -> train_step.Result:
        return train_step.Result(name, ("1", "1"), experts, 9.0, Spread(*[of_dense] * 5), mfu)

    results = [
        result("dense_84m", 0, 1.0, 0.31),
        result("dense_200m", 0, 1.0, 0.39),
        result("switch_4_512", 4, 0.1, 0.1),
    ]
    results += [result("switch_8_512", 8, 0.9, 0.2), result("omnirouter_8_512", 8, 0.84, 0.2)]
    assert [str(target).split(" (")[0] for target in train_step.targets(results)] == [
        "missed: speed of 8 experts / dense ≥ 0.85: 0.84",
        "holds: MFU of dense_84m ≥ 0.3: 0.31",
        "missed: MFU of dense_200m ≥ 0.4: 0.39",
    ]
