"""A training step of each model of the paper: throughput, what is spent outside the model, and padding."""

import dataclasses
import gc
import itertools

import numpy as np
import torch

from bench.report import Report, Target, worst
from bench.settings import Settings
from bench.step import CONFIGS, CPU_BATCH_S, CPU_VOCAB, SHARE, VOCAB, scaled, training_step
from bench.synthetic import LENGTHS, librispeech_frames
from bench.timing import Spread, interleaved, ratio, spread
from bench.train_outside import outside, padding
from omnirouter.data.dataset import Batch, make_batch
from omnirouter.data.sampler import BucketSampler, Position
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel, parameter_counts
from omnirouter.models.zoo import model_parts, total
from omnirouter.training.config import ExperimentConfig, load_config
from omnirouter.training.parallel import compile_blocks

LEAST_OF_DENSE = 0.85
LEAST_MFU = {"dense_84m": 0.30, "dense_200m": 0.40}
BACKWARD = 2
"""FLOPs of the backward pass, in forward passes."""
PEAK_SIZE = 8192
QUICK = ("dense_84m", "omnirouter_8_512")
"""What --quick times: of one width, since a mixture is compared with the dense model of its width."""

Models = dict[str, ExperimentConfig]


def run(settings: Settings) -> list[Report]:
    """Time the steps of the models, then a whole training, and count the padding."""
    return [_throughput(settings), outside(settings), padding(settings)]


def _models(settings: Settings) -> Models:
    """The configurations to time, by name; those that only name another one are left out."""
    standard = [CONFIGS / f"{name}.yaml" for name in QUICK] if settings.quick else sorted(CONFIGS.glob("*_*.yaml"))
    models = {path.stem: load_config(path) for path in settings.configs or standard}
    return models if settings.device.type == "cuda" else {name: scaled(config) for name, config in models.items()}


def _throughput(settings: Settings) -> Report:
    models, rows, results = _models(settings), [], []
    cuda = settings.device.type == "cuda"
    peak = _peak_flops(settings.device) if cuda else None
    for _, group in itertools.groupby(
        sorted(models.items(), key=lambda item: item[1].model.dim), lambda i: i[1].model.dim
    ):
        results += _time_group(dict(group), settings, VOCAB if cuda else CPU_VOCAB, peak)
        gc.collect()
    for result in results:
        mfu = [f"{result.mfu:.1%}"] if cuda else []
        rows.append([result.name, *result.sizes, f"{result.audio_s_per_s:.0f}", str(result.of_dense or "–"), *mfu])
    notes = [
        "Forward pass, CTC and balance loss, backward pass and AdamW on batches in memory; speed / dense: against the "
        f"dense model of the same width, rounds interleaved [10 %, 90 %]. {LENGTHS}",
        f"bf16 autocast, compiled; the peak, of a product of {PEAK_SIZE}³ in bf16, is {peak / 1e12:.0f} TFLOP/s."
        if peak
        else f"At 1/{SHARE} of width, inner width and depth, {CPU_VOCAB} units, batches of {CPU_BATCH_S:g} s.",
    ]
    header = ["model", "parameters M", "active M", "audio s per s", "speed / dense", *(["MFU"] if cuda else [])]
    return Report("Training step", header, rows, targets(results) if cuda else [], notes)


@dataclasses.dataclass(frozen=True)
class Result:
    """What one model has given."""

    name: str
    sizes: tuple[str, str]
    experts: int
    """0: dense."""
    audio_s_per_s: float
    of_dense: Spread | None
    mfu: float = float("nan")
    """Share of the measured peak that the valid tokens' FLOPs are, backward pass included."""


def targets(results: list[Result]) -> list[Target]:
    """Of a GPU: speed of the largest mixtures, and utilisation of the dense models."""
    eight = [(r.name, r.of_dense.median) for r in results if r.experts == 8 and r.of_dense]
    mfu = [Target(f"MFU of {r.name}", r.mfu, LEAST_MFU[r.name], True) for r in results if r.name in LEAST_MFU]
    return worst("speed of 8 experts / dense", eight, LEAST_OF_DENSE, at_least=True) + mfu


def _time_group(models: Models, settings: Settings, vocab_size: int, peak: float | None) -> list[Result]:
    """Time models of one width in turn."""
    first = next(iter(models.values()))
    batches = _batches(first, vocab_size)
    built = {name: _build(config, vocab_size, settings.device) for name, config in models.items()}
    steps = {name: training_step(model, models[name], bf16=peak is not None) for name, model in built.items()}
    passes = {name: lambda step=step: [step(batch) for batch in batches] for name, step in steps.items()}
    times_s = interleaved(passes, settings.repeats, settings.device)
    dense = next((name for name, config in models.items() if config.model.encoder == "dense"), None)
    audio_s = sum(sum(batch.lengths) for batch in batches) / 100
    results = []
    for name, config in models.items():
        seconds = spread(times_s[name]).median
        sizes = tuple(f"{count / 1e6:.1f}" for count in parameter_counts(built[name]))
        of_dense = ratio(times_s[dense], times_s[name]) if dense else None
        mfu = (1 + BACKWARD) * batch_flops(config.model, vocab_size, batches) / seconds / peak if peak else float("nan")
        experts = 0 if config.model.encoder == "dense" else config.model.experts
        results.append(Result(name, sizes, experts, audio_s / seconds, of_dense, mfu))
    return results


def _build(config: ExperimentConfig, vocab_size: int, device: torch.device) -> CtcModel:
    torch.manual_seed(0)
    model = CtcModel(config.model, vocab_size).to(device).train()
    if device.type == "cuda":
        compile_blocks(model)  # as training does
    return model


def _batches(config: ExperimentConfig, vocab_size: int, number: int = 3) -> list[Batch]:
    """Batches as the sampler makes them, of noise, with three labels a second."""
    rng = np.random.default_rng(0)
    frames = librispeech_frames(20000)
    batches = []
    for _, indices in itertools.islice(BucketSampler(frames, config.batch, seed=0).batches_from(Position()), number):
        lengths = frames[indices].tolist()
        features = [rng.standard_normal((length, config.model.n_mels), dtype=np.float32) for length in lengths]
        labels = [rng.integers(1, vocab_size, length // 33).tolist() for length in lengths]
        batches.append(make_batch([str(i) for i in indices], features, labels))
    return batches


def batch_flops(config: ModelConfig, vocab_size: int, batches: list[Batch]) -> int:
    """FLOPs of the forward pass over the valid tokens, attention within each utterance included."""
    tokens = [length // config.stack_frames for batch in batches for length in batch.lengths]
    of_length = {number: total(model_parts(config, vocab_size, number)).flops for number in set(tokens)}
    return sum(of_length[number] for number in tokens)


def _peak_flops(device: torch.device) -> float:
    """FLOPs a second of a large matrix product in bf16."""
    a, b = (torch.randn(PEAK_SIZE, PEAK_SIZE, device=device, dtype=torch.bfloat16) for _ in range(2))
    times_s = interleaved({"product": lambda: [a @ b for _ in range(10)]}, 10, device)
    return 10 * 2 * PEAK_SIZE**3 / spread(times_s["product"]).median
