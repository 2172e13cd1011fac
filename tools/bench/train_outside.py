"""What a training step spends outside the model, and what its batches pad."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch

from bench.report import Report, Target, worst
from bench.settings import Settings
from bench.step import CONFIGS, CPU_BATCH_S, CPU_VOCAB, SHARE, on_device, scaled, training_step
from bench.synthetic import LENGTHS, librispeech_frames, transcripts, write_feature_dir
from bench.timing import spread, synchronise
from omnirouter.data.dataset import Batch, make_batch
from omnirouter.data.sampler import BatchConfig, BucketSampler
from omnirouter.data.tokenizer import Tokenizer, train_tokenizer
from omnirouter.models.ctc import CtcModel
from omnirouter.training.config import ExperimentConfig, load_config
from omnirouter.training.experiment import Inputs
from omnirouter.training.run import train
from omnirouter.training.trainer import Trainer

MOST_OUTSIDE, MOST_PADDING = 0.05, 0.05
STEPS = 10
UTTERANCE_S = 15


def outside(settings: Settings) -> Report:
    """A training's steps against bare ones on a batch of the same shape."""
    cuda = settings.device.type == "cuda"
    config = load_config(CONFIGS / "omnirouter_2_512.yaml")
    config = config if cuda else scaled(config)
    # Stored features need few processes; a CPU has no use for bf16.
    computing = dataclasses.replace(config.training, precision="bf16" if cuda else "fp32", workers=2 if cuda else 1)
    config = dataclasses.replace(config, training=computing)
    repeats = 1 if settings.quick else min(settings.repeats, 5)
    with TemporaryDirectory() as name:
        inputs, config = _training_set(Path(name), config)
        runs = [_train(Path(name) / f"exp{turn}", config, inputs, settings.device) for turn in range(repeats)]
    share = spread([1 - (1 - run.wait_share) * ratio for run in runs for ratio in run.bare_to_work])
    waits = spread([run.wait_share for run in runs])
    row = ["omnirouter_2_512", f"{1000 * spread([run.step_s for run in runs]).median:.0f}", str(share)]
    row += [f"{waits.median:.3f}"]
    note = (
        f"Step ms and waiting: steps {STEPS + 1} to {2 * STEPS} of a training, as metrics.jsonl has them, loading, "
        "augmentation, clipping and telemetry included. Outside: that waiting, and, in the steps after these, what one "
        "takes, less its waiting, above a forward pass, losses, backward pass and optimizer right after it, on a batch "
        f"of that shape {'on the GPU, both in bf16' if cuda else f'in memory. At 1/{SHARE} of the size'}. "
        "Medians [10 %, 90 %]."
    )
    header = ["model", "step ms", "share outside", "share of waiting for data"]
    target = Target("share outside", share.median, MOST_OUTSIDE)
    return Report("What a training step spends outside the model", header, [row], [target], [note])


@dataclasses.dataclass(frozen=True)
class Training:
    """What a training has given."""

    step_s: float
    wait_share: float
    """Share of the undisturbed steps' time that they wait for data."""
    bare_to_work: list[float]
    """Of each step beside a bare one, ratio of the bare one's time to its own, less waiting."""


def _training_set(folder: Path, config: ExperimentConfig) -> tuple[Inputs, ExperimentConfig]:
    """Data directories of UTTERANCE_S utterances, so that all batches have one shape, and the configuration for it."""
    a_batch = int(config.batch.max_batch_s // UTTERANCE_S)
    train_tokenizer(transcripts(3000), "bpe", CPU_VOCAB, folder / "lang")
    write_feature_dir(folder / "train", np.full(4 * a_batch, 100 * UTTERANCE_S))
    write_feature_dir(folder / "dev", np.full(2, 300))
    training = dataclasses.replace(
        config.training, max_steps=4 * STEPS, log_every=STEPS, valid_every=4 * STEPS, average_best=1,
        batches_per_step=1, threads=torch.get_num_threads(),
    )  # fmt: skip
    batch = dataclasses.replace(config.batch, buckets=1)
    config = dataclasses.replace(config, training=training, batch=batch)
    return Inputs(folder / "train", folder / "dev", folder / "lang"), config


def _train(exp: Path, config: ExperimentConfig, inputs: Inputs, device: torch.device) -> Training:
    """Train undisturbed, then with a bare step after each step: the machine may be slower a second later."""
    bare, whole_step = _bare_step(config, inputs, device), Trainer._train_step
    ratios, ended = [], 0.0

    def beside_a_bare_one(trainer: Trainer, batches: list[Batch], known: dict[str, float], wait_s: float) -> None:
        nonlocal ended
        whole_step(trainer, batches, known, wait_s)
        if trainer.step < 2 * STEPS:
            return
        done = _now(device)
        bare()
        now = _now(device)
        if trainer.step > 2 * STEPS:
            ratios.append((now - done) / (done - ended - wait_s))
        ended = now

    with patch.object(Trainer, "_train_step", beside_a_bare_one):
        train(exp, config, inputs, device)
    records = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    times = next(record["time"] for record in records if record["step"] == 2 * STEPS and "time" in record)
    return Training(times["wall_s"] / STEPS, times["data_wait_share"], ratios)


def _now(device: torch.device) -> float:
    synchronise(device)
    return time.perf_counter()


def _bare_step(config: ExperimentConfig, inputs: Inputs, device: torch.device) -> Callable[[], None]:
    """A step, tried already, on a batch in memory."""
    tokenizer, rng = Tokenizer(inputs.lang), np.random.default_rng(0)
    torch.manual_seed(0)
    model = CtcModel(config.model, len(tokenizer.tokens)).to(device).train()
    step = training_step(model, config, bf16=config.training.precision == "bf16")
    number = int(config.batch.max_batch_s // UTTERANCE_S)
    texts = [line.split(maxsplit=1)[1] for line in (inputs.train / "text").read_text().splitlines()[:number]]
    features = [rng.standard_normal((100 * UTTERANCE_S, config.model.n_mels), dtype=np.float32) for _ in texts]
    batch = make_batch([str(i) for i in range(number)], features, [tokenizer.encode(text) for text in texts])
    batch = on_device(batch, device)
    step(batch)
    return lambda: step(batch)


def padding(settings: Settings) -> Report:
    """Share of the frames of an epoch's batches that are padding, at the batch sizes of the paper and of a laptop."""
    utterances = 20_000 if settings.quick else 281_241  # of LibriSpeech's 960 hours
    frames = librispeech_frames(utterances)
    paper = load_config(CONFIGS / "base.yaml").batch
    rows, shares = [], []
    for config in (paper, dataclasses.replace(paper, max_batch_s=CPU_BATCH_S)):
        share = padding_share(frames, config)
        name = f"{config.max_batch_s:g} s in {config.buckets} buckets"
        rows.append([name, f"{share:.1%}"])
        shares.append((name, share))
    note = f"One epoch of {utterances:,d} utterances. {LENGTHS}"
    return Report("Padding", ["batches", "padding"], rows, worst("padding", shares, MOST_PADDING), [note])


def padding_share(frames: np.ndarray, config: BatchConfig) -> float:
    """Share of the padded frames of the first epoch's batches that are no utterance's."""
    padded = sum(len(batch) * int(frames[batch].max()) for batch in BucketSampler(frames, config, seed=0).epoch(0))
    return 1 - int(frames.sum()) / padded
