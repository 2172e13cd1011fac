"""Training from data directories to a finished experiment."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import torch

from omnirouter.data.dataset import FeatureUtterance, TrainingData, read_feature_dir, training_batches
from omnirouter.data.errors import UserError
from omnirouter.data.features import FeatureStats
from omnirouter.data.files import digest
from omnirouter.data.sampler import BucketSampler
from omnirouter.data.tokenizer import Tokenizer, check_learned_from
from omnirouter.models.ctc import parameter_counts
from omnirouter.scoring.results import checkout_commit
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.devices import set_threads
from omnirouter.training.distributed import from_first, is_first, ranks
from omnirouter.training.experiment import (
    Inputs,
    begun_batches_per_step,
    build_model,
    check_n_mels,
    check_removable,
    has_begun,
    is_restart_due,
    locked,
    open_experiment,
    remove_experiment,
    remove_leftovers,
    trial_of,
    write_final_model,
)
from omnirouter.training.initial import check_initial, initialise
from omnirouter.training.log import LOG, log_to
from omnirouter.training.pinning import pinned
from omnirouter.training.rehearsal import for_largest_batches
from omnirouter.training.selection import dev_stats, open_training_data
from omnirouter.training.skipping import LEAVE_OUT, Unreadable
from omnirouter.training.trainer import Trainer

STATS, DEV_STATS = "feature_stats.json", "dev_stats.json"


def train(exp: Path, config: ExperimentConfig, inputs: Inputs, device: torch.device, restart: bool = False) -> None:
    """Train an experiment, go on with it, or say that it is finished.

    restart: what is there is deleted first, once the data are known to do; that memory suffices is not known by then.
    Several processes call it together; the first one alone makes, locks and writes the experiment directory.
    """
    # What is there the first process alone says: another machine may see it later.
    restart = from_first(lambda: restart and is_restart_due(exp))
    config = config.for_processes(ranks(), from_first(lambda: 0 if restart else begun_batches_per_step(exp)))
    with ExitStack() as locks:
        if from_first(lambda: _open(exp, config, inputs, restart, locks)):
            if is_first():
                print(f"{exp}: training is finished; --restart begins anew")
        else:
            _train(exp, config, inputs, device)


def _open(exp: Path, config: ExperimentConfig, inputs: Inputs, restart: bool, locks: ExitStack) -> bool:
    """Lock the experiment directory and make it ready; returns whether its training is finished."""
    digest_of = cache(digest)  # transcripts may be gigabytes: each file is read once
    if restart:
        check_removable(exp)
    if not has_begun(exp):
        _check_inputs(exp, config, inputs, digest_of)  # before anything is made
    locks.enter_context(locked(exp))
    remove_leftovers(exp)
    if not restart:
        is_finished = open_experiment(exp, config, inputs, digest_of)
        if is_finished:
            _check_finished(exp, config, inputs)
        return is_finished
    if has_begun(exp):
        _try_data(exp, config, inputs, digest_of)
    remove_experiment(exp)
    locks.enter_context(locked(exp))
    tried = trial_of(exp) / "lang"
    open_experiment(exp, config, inputs, digest_of, tried if tried.is_dir() else None)
    shutil.rmtree(trial_of(exp), ignore_errors=True)
    return False


def _check_inputs(exp: Path, config: ExperimentConfig, inputs: Inputs, digest_of: Callable[[Path], str]) -> None:
    """Raise what forbids a new training, as far as it is known without its data."""
    if inputs.lang_text is not None:
        check_learned_from(inputs.lang, inputs.lang_text, digest_of)
    inputs.as_dict(digest_of=digest_of)
    if inputs.init is not None:
        check_initial(config.model, inputs.init, exp)


def _try_data(exp: Path, config: ExperimentConfig, inputs: Inputs, digest_of: Callable[[Path], str]) -> None:
    """Raise what forbids a new training in the place of one that has begun; it is found in a folder beside this one."""
    trial = trial_of(exp)
    trial.mkdir(exist_ok=True)  # NFS may have kept what was open in an earlier one
    _check_inputs(exp, config, inputs, digest_of)
    open_experiment(trial, config, inputs, digest_of)
    log_to(trial / "train.log")
    _, stats = open_training_data(trial, config, inputs, listed=exp / LEAVE_OUT)
    check_n_mels(config, stats)
    dev_stats(read_feature_dir(inputs.dev, inputs.allow_pipes, config.model.n_mels))


def _check_finished(exp: Path, config: ExperimentConfig, inputs: Inputs) -> None:
    """Raise UserError when the training set has other features by now, as of other audio of the same lengths."""
    try:
        _, stats = open_training_data(exp, config, inputs)
        begun_with = FeatureStats.load(exp / STATS)
    except (UserError, OSError) as error:  # what has been trained needs neither
        LOG.warning("not known whether %s still has what was trained on: %s", inputs.train, error)
        return
    _check_features(
        exp, inputs, begun_with, stats,
        "--restart, or give this one a --name of its own; --stage 5 goes on with the model as it is",
    )  # fmt: skip


def _check_features(exp: Path, inputs: Inputs, begun_with: FeatureStats, stats: FeatureStats, advice: str) -> None:
    """Raise UserError when features are not those that training began with; warn when their number differs."""
    if not begun_with.is_close_to(stats):
        raise UserError(
            f"{inputs.train}: its features have other means or deviations than when this training began "
            f"({exp / STATS}); {advice}"
        )
    if stats.frames != begun_with.frames:
        LOG.warning(
            "%s: means and deviations are of %d frames by now, of %d when this training began, which it keeps",
            inputs.train, stats.frames, begun_with.frames,
        )  # fmt: skip


def _open_data(exp: Path, config: ExperimentConfig, inputs: Inputs) -> tuple[TrainingData, FeatureStats]:
    """Open the training data, and the statistics that the training begins with or has begun with.

    UserError when these cannot be of the same features.
    """
    begun_with = FeatureStats.load(exp / STATS) if has_begun(exp) else None
    data, stats = open_training_data(exp, config, inputs, begun_with=begun_with)
    if begun_with is None:
        stats.save(exp / STATS)
        return data, stats
    _check_features(
        exp, inputs, begun_with, stats,
        "make them as they were (--features of stage 2), or --restart, or give this one a --name of its own",
    )  # fmt: skip
    return data, begun_with


def _check_dev(exp: Path, dev: Sequence[FeatureUtterance], inputs: Inputs) -> None:
    """Raise UserError when an experiment has begun with other features of its dev set: errors would not compare."""
    stats, path = dev_stats(dev), exp / DEV_STATS
    if not (has_begun(exp) and path.exists()):  # those begun by an earlier version have none
        stats.save(path)
    elif not FeatureStats.load(path).is_close_to(stats):
        raise UserError(
            f"{inputs.dev}: its features have other means or deviations than when this training began ({path}), so "
            "that its errors do not compare with those counted before; make them as they were, or --restart, or give "
            "this one a --name of its own"
        )


def _train(exp: Path, config: ExperimentConfig, inputs: Inputs, device: torch.device) -> None:
    log_to(exp / "train.log")
    commit = checkout_commit()  # now: it may be another one when training ends
    set_threads(config.training.threads)
    tokenizer = Tokenizer(exp / "lang")
    data, stats = from_first(lambda: _open_data(exp, config, inputs))
    model = build_model(config, tokenizer, stats)
    dev = read_feature_dir(inputs.dev, inputs.allow_pipes, config.model.n_mels)
    from_first(lambda: _check_dev(exp, dev, inputs))
    if inputs.init is not None and not from_first(lambda: has_begun(exp)):
        initialise(model, tokenizer.tokens, inputs.init)
    total, active = parameter_counts(model)
    LOG.info("%s: %.2fM parameters, %.2fM active per token, %d units; %d utterances, %.2f h, on %s",
             exp, total / 1e6, active / 1e6, len(tokenizer.tokens), len(data), data.audio_h, device)  # fmt: skip
    unreadable = Unreadable(int(config.training.max_unreadable_share * len(data)), data.left_out)
    trainer = Trainer(exp, config, model, tokenizer, dev, device, unreadable)
    sampler = BucketSampler(data.frames, config.batch, config.training.seed)
    # At every start: one that goes on may have other settings, processes or GPUs.
    for_largest_batches(data, sampler, trainer.rehearse)
    batches = training_batches(data, sampler, trainer.position, config.training.workers, trainer.share)
    if device.type == "cuda":
        batches = pinned(batches, device, config.training.batches_per_step // ranks())
    best = trainer.run(batches)
    if is_first():
        write_final_model(exp, best, total, active, trainer.step, len(data.left_out), commit)
    LOG.info("finished after %d steps; %s/model.pt is the average of the checkpoints of steps %s",
             trainer.step, exp, ", ".join(path.stem.removeprefix("best_") for path in best))  # fmt: skip
