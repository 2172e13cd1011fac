"""What a training step spends outside the model, and what its batches pad."""

import dataclasses
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from bench.report import Report, Target, worst
from bench.settings import Settings
from bench.step import CONFIGS, CPU_BATCH_S, CPU_VOCAB, SHARE, on_device, scaled, training_step
from bench.synthetic import LENGTHS, librispeech_frames, transcripts, write_feature_dir
from bench.timing import spread, synchronise
from omnirouter.data.dataset import make_batch
from omnirouter.data.sampler import BatchConfig, BucketSampler
from omnirouter.data.tokenizer import Tokenizer, train_tokenizer
from omnirouter.models.ctc import CtcModel
from omnirouter.training.config import ExperimentConfig, load_config
from omnirouter.training.experiment import Inputs
from omnirouter.training.run import train

MOST_OUTSIDE, MOST_PADDING = 0.05, 0.05
STEPS = 10
UTTERANCE_S = 15


def outside(settings: Settings) -> Report:
    """A whole training against the bare step on batches of the same shape."""
    cuda = settings.device.type == "cuda"
    config = load_config(CONFIGS / "omnirouter_2_512.yaml")
    config = config if cuda else scaled(config)
    # Stored features need few processes; a CPU has no use for bf16.
    computing = dataclasses.replace(config.training, precision="bf16" if cuda else "fp32", workers=2 if cuda else 1)
    config = dataclasses.replace(config, training=computing)
    repeats = 1 if settings.quick else min(settings.repeats, 5)
    with TemporaryDirectory() as name:
        folder = Path(name)
        inputs, config = _training_set(folder, config)
        whole, bare, waits = [], [], []
        for turn in range(repeats):
            step_s, wait = _whole_step(folder / f"exp{turn}", config, inputs, settings.device)
            whole.append(step_s)
            waits.append(wait)
            bare.append(_bare_step(config, inputs, settings.device))
    share = spread([1 - its / mine for its, mine in zip(bare, whole, strict=True)])
    row = ["omnirouter_2_512", f"{1000 * spread(whole).median:.0f}", f"{1000 * spread(bare).median:.0f}"]
    row += [str(share), f"{spread(waits).median:.3f}"]
    note = (
        f"Steps {STEPS + 1} to {2 * STEPS} of a training, as metrics.jsonl has them, loading, augmentation, clipping "
        "and telemetry included; against forward pass, losses, backward pass and optimizer on a batch of that shape "
        f"{'on the GPU, both in bf16' if cuda else f'in memory. At 1/{SHARE} of the size'}. Medians [10 %, 90 %]."
    )
    header = ["model", "step ms", "model and optimizer ms", "share outside", "share of waiting for data"]
    target = Target("share outside", share.median, MOST_OUTSIDE)
    return Report("What a training step spends outside the model", header, [row], [target], [note])


def _training_set(folder: Path, config: ExperimentConfig) -> tuple[Inputs, ExperimentConfig]:
    """Data directories of UTTERANCE_S utterances, so that all batches have one shape, and the configuration for it."""
    a_batch = int(config.batch.max_batch_s // UTTERANCE_S)
    train_tokenizer(transcripts(3000), "bpe", CPU_VOCAB, folder / "lang")
    write_feature_dir(folder / "train", np.full(4 * a_batch, 100 * UTTERANCE_S))
    write_feature_dir(folder / "dev", np.full(2, 300))
    training = dataclasses.replace(
        config.training, max_steps=2 * STEPS, log_every=STEPS, valid_every=2 * STEPS, average_best=1,
        batches_per_step=1, threads=torch.get_num_threads(),
    )  # fmt: skip
    batch = dataclasses.replace(config.batch, buckets=1)
    config = dataclasses.replace(config, training=training, batch=batch)
    return Inputs(folder / "train", folder / "dev", folder / "lang"), config


def _whole_step(exp: Path, config: ExperimentConfig, inputs: Inputs, device: torch.device) -> tuple[float, float]:
    """Seconds of a step of a training, and the share of its time that it waits for data."""
    train(exp, config, inputs, device)
    records = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    times = next(record["time"] for record in records if record["step"] == 2 * STEPS and "time" in record)
    return times["wall_s"] / STEPS, times["data_wait_share"]


def _bare_step(config: ExperimentConfig, inputs: Inputs, device: torch.device) -> float:
    """Seconds of a step on a batch in memory."""
    tokenizer, rng = Tokenizer(inputs.lang), np.random.default_rng(0)
    torch.manual_seed(0)
    model = CtcModel(config.model, len(tokenizer.tokens)).to(device).train()
    step = training_step(model, config, bf16=config.training.precision == "bf16")
    number = int(config.batch.max_batch_s // UTTERANCE_S)
    texts = [line.split(maxsplit=1)[1] for line in (inputs.train / "text").read_text().splitlines()[:number]]
    features = [rng.standard_normal((100 * UTTERANCE_S, config.model.n_mels), dtype=np.float32) for _ in texts]
    batch = make_batch([str(i) for i in range(number)], features, [tokenizer.encode(text) for text in texts])
    batch = on_device(batch, device)
    for _ in range(STEPS):
        step(batch)
    synchronise(device)
    started = time.perf_counter()
    for _ in range(STEPS):
        step(batch)
    synchronise(device)
    return (time.perf_counter() - started) / STEPS


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
