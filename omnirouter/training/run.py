"""Training from data directories to a finished experiment."""

from contextlib import ExitStack
from functools import cache
from pathlib import Path

import torch

from omnirouter.data.dataset import TrainingData, read_feature_dir, training_batches
from omnirouter.data.errors import UserError
from omnirouter.data.features import FeatureStats
from omnirouter.data.files import digest
from omnirouter.data.sampler import BucketSampler, Position
from omnirouter.data.tokenizer import Tokenizer, check_learned_from
from omnirouter.models.ctc import parameter_counts
from omnirouter.scoring.results import checkout_commit
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.devices import set_threads
from omnirouter.training.distributed import from_first, is_first, ranks, restarts
from omnirouter.training.experiment import (
    Inputs,
    begun_with,
    build_model,
    has_begun,
    locked,
    open_experiment,
    remove_experiment,
    remove_leftovers,
    write_final_model,
)
from omnirouter.training.initial import check_initial, initialise
from omnirouter.training.log import LOG, log_to
from omnirouter.training.pinning import pinned
from omnirouter.training.selection import open_training_data
from omnirouter.training.skipping import Unreadable
from omnirouter.training.trainer import Trainer


def train(exp: Path, config: ExperimentConfig, inputs: Inputs, device: torch.device, restart: bool = False) -> None:
    """Train an experiment, go on with it, or say that it is finished. restart: what is there is deleted first.

    Several processes call it together; the first one alone makes, locks and writes the experiment directory.
    """
    restart = restart and not restarts()  # what torchrun starts again goes on
    # What is there the first process alone says: another machine may see it later.
    config = config.for_processes(ranks(), from_first(lambda: 0 if restart else begun_with(exp)))
    with ExitStack() as locks:
        if from_first(lambda: _open(exp, config, inputs, restart, locks)):
            if is_first():
                print(f"{exp}: training is finished; --restart begins anew")
        else:
            _train(exp, config, inputs, device)


def _open(exp: Path, config: ExperimentConfig, inputs: Inputs, restart: bool, locks: ExitStack) -> bool:
    """Lock the experiment directory and make it ready; returns whether its training is finished."""
    digest_of = cache(digest)  # transcripts may be gigabytes: each file is read once
    if restart or not has_begun(exp):  # whatever forbids the new run must be known before the old one is deleted
        if inputs.lang_text is not None:
            check_learned_from(inputs.lang, inputs.lang_text, digest_of)
        inputs.as_dict(digest_of=digest_of)
        if inputs.init is not None:
            check_initial(config.model, inputs.init, exp)
    locks.enter_context(locked(exp))
    remove_leftovers(exp)
    if restart:
        remove_experiment(exp)
        locks.enter_context(locked(exp))
    return open_experiment(exp, config, inputs, digest_of)


def _open_data(exp: Path, config: ExperimentConfig, inputs: Inputs) -> tuple[TrainingData, FeatureStats]:
    """Open the training data; their statistics are the experiment's, or UserError when it has begun with others."""
    data, stats = open_training_data(exp, config, inputs)
    path = exp / "feature_stats.json"
    if not has_begun(exp):
        stats.save(path)
    elif not FeatureStats.load(path).is_close_to(stats):
        raise UserError(
            f"{inputs.train}: its features have other means or deviations than when this training began ({path}); "
            "make them as they were (--features of stage 2), or --restart"
        )
    return data, stats


def _train(exp: Path, config: ExperimentConfig, inputs: Inputs, device: torch.device) -> None:
    log_to(exp / "train.log")
    commit = checkout_commit()  # now: it may be another one when training ends
    set_threads(config.training.threads)
    tokenizer = Tokenizer(exp / "lang")
    data, stats = from_first(lambda: _open_data(exp, config, inputs))
    model = build_model(config, tokenizer, stats)
    dev = read_feature_dir(inputs.dev, inputs.allow_pipes, config.model.n_mels)
    if inputs.init is not None and not from_first(lambda: has_begun(exp)):
        initialise(model, tokenizer.tokens, inputs.init)
    total, active = parameter_counts(model)
    LOG.info("%s: %.2fM parameters, %.2fM active per token, %d units; %d utterances, %.2f h, on %s",
             exp, total / 1e6, active / 1e6, len(tokenizer.tokens), len(data), data.audio_h, device)  # fmt: skip
    unreadable = Unreadable(int(config.training.max_unreadable_share * len(data)), data.left_out)
    trainer = Trainer(exp, config, model, tokenizer, dev, device, unreadable)
    sampler = BucketSampler(data.frames, config.batch, config.training.seed)
    for indices in sampler.largest():  # at every start: one that goes on may have other settings, processes or GPUs
        batch = data[Position(), indices, Position()]
        if batch.utt_ids:
            trainer.rehearse(batch)
    batches = training_batches(data, sampler, trainer.position, config.training.workers, trainer.share)
    if device.type == "cuda":
        batches = pinned(batches, device, config.training.batches_per_step // ranks())
    best = trainer.run(batches)
    if is_first():
        write_final_model(exp, best, total, active, trainer.step, len(data.left_out), commit)
    LOG.info("finished after %d steps; %s/model.pt is the average of the checkpoints of steps %s",
             trainer.step, exp, ", ".join(path.stem.removeprefix("best_") for path in best))  # fmt: skip
