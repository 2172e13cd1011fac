"""The experiment directory: made once, self-contained, never overwritten by another configuration."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import torch
import yaml

import omnirouter
from omnirouter.data.errors import UserError
from omnirouter.data.features import FeatureStats
from omnirouter.data.fields import build, differences, load_yaml
from omnirouter.data.files import atomic_dir, atomic_write, digest
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel
from omnirouter.training import checkpoint
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.distributed import restarts
from omnirouter.training.log import LOG
from omnirouter.training.skipping import LEAVE_OUT

LOCK_WAIT_S = 1.0
"""A killed training's worker, forked just before, has its lock for a moment longer."""
INPUT_FILES = {
    "train": ("utt2num_frames", "text"),
    "dev": ("utt2num_frames", "text"),
    "lang": ("tokens.txt",),
    "init": ("model.pt",),
}
"""By role of an input, the files whose contents tell one experiment from another."""
COMPUTED_HOW = ("distributed", "activation_checkpointing", "valid_batch_s", "threads", "workers")
MAY_CHANGE = (*COMPUTED_HOW, "max_skipped_steps", "max_unreadable_share")
"""Fields of the section training that may change while an experiment is unfinished: how it is computed, and what ends
it that could otherwise never be gone on with."""


@dataclass(frozen=True)
class Inputs:
    """What an experiment is trained from."""

    train: Path
    dev: Path
    lang: Path
    init: Path | None = None
    allow_pipes: bool = False
    """Whether to run the shell commands in wav.scp, where features are not stored."""
    lang_text: Path | None = None
    """Transcripts from which `lang` must have been learned; None: from any."""

    def as_dict(self, begun: bool = False, digest_of: Callable[[Path], str] = digest) -> dict[str, Any]:
        """Paths, and digests of what lies there: the same names with other data are another experiment.

        Features count by utterance and length, not by where their archives lie, which depends on the number of jobs.
        begun: whether the experiment has begun: units and the weights to start from, which it then needs no more, have
        a digest only where they exist.
        """
        makers = {"utt2num_frames": "stage 2", "text": "stage 1", "tokens.txt": "stage 3", "model.pt": "its training"}
        paths = {role: getattr(self, role) for role in INPUT_FILES}
        digests: dict[str, str] = {}
        for key, path in _input_files(paths).items():
            if path.exists():
                digests[key] = digest_of(path)
            elif not begun or not key.startswith(("init/", "lang/")):
                raise UserError(f"{path} does not exist; {makers[path.name]} makes it")
        return {**{role: str(path) if path else None for role, path in paths.items()}, "digests": digests}


def _input_files(paths: Mapping[str, Path | str | None]) -> dict[str, Path]:
    """Files of the inputs whose contents count, by role and name, such as `train/text`."""
    return {
        f"{role}/{name}": Path(paths[role], name) for role in INPUT_FILES if paths[role] for name in INPUT_FILES[role]
    }


@contextmanager
def locked(exp: Path) -> Iterator[None]:
    """Hold the experiment directory, which is made if need be, for this process alone; UserError if another has it."""
    _make(exp)
    with open(exp / ".lock", "w") as file:
        # A worker that outlives this process for a moment, after kill -9, must not keep the lock.
        os.register_at_fork(after_in_child=file.close)
        try:
            _lock(file)
        except BlockingIOError:
            raise UserError(f"{exp}: another process is training this experiment; wait for it, or end it") from None
        except OSError as error:
            LOG.warning("%s: this file system knows no locks (%s); let only one process train there", exp, error)
        yield


def _make(exp: Path) -> None:
    """Make the experiment directory if need be; the target of its link only where a killed `remove_experiment` took it.

    Else, as where a folder above it is a link, a disk may not be mounted: training would begin anew without what it
    holds.
    """
    if _removed(exp).exists():
        exp.resolve().mkdir(exist_ok=True)
    for link in (exp, *exp.parents):
        if link.is_symlink() and not link.exists():
            target = link.resolve()
            raise UserError(f"{link} links to {target}, which does not exist; mount its disk, or make that folder")
    exp.mkdir(parents=True, exist_ok=True)


def _lock(file: IO[str]) -> None:
    """Lock a file; BlockingIOError when another process still has it after LOCK_WAIT_S."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def check_removable(exp: Path) -> None:
    """Raise UserError where `remove_experiment` could not move the directory away, since a disk is mounted on it."""
    folder = exp.resolve()
    if os.path.ismount(folder):
        raise UserError(
            f"{folder}: a disk is mounted there, which --restart cannot replace; make {exp} a link to a folder on that "
            "disk, or empty it by hand and leave --restart out"
        )


def remove_experiment(exp: Path) -> None:
    """Delete what an experiment directory holds but the user's own list: out of sight at once, then file by file."""
    folder = exp.resolve()
    folder.rename(_removed(exp))
    folder.mkdir(exist_ok=True)
    _delete_removed(exp)


def remove_leftovers(exp: Path) -> None:
    """Delete what a killed `remove_experiment` or trial has left; the user's list in it goes back to the directory."""
    shutil.rmtree(trial_of(exp), ignore_errors=True)
    _delete_removed(exp)


def _delete_removed(exp: Path) -> None:
    kept, own = _removed(exp) / LEAVE_OUT, exp / LEAVE_OUT
    if kept.exists() and not own.exists():
        kept.rename(own)
    shutil.rmtree(_removed(exp), ignore_errors=True)  # NFS keeps the open lock's file; the next start deletes it


def trial_of(exp: Path) -> Path:
    """Where the data of a new training are tried before it takes the place of one that has begun in `exp`."""
    return _beside(exp, "trial")


def is_restart_due(exp: Path) -> bool:
    """Tell whether --restart is still to be heeded: what torchrun starts again goes on, if there is a new training."""
    return not restarts() or trial_of(exp).exists()


def _removed(exp: Path) -> Path:
    return _beside(exp, "removed")


def _beside(exp: Path, kind: str) -> Path:
    """Name a folder beside an experiment's; beside the target of a link, which may lie on another disk."""
    folder = exp.resolve()
    return folder.with_name(f".{folder.name}.{kind}")


def has_begun(exp: Path) -> bool:
    """Tell whether an experiment has a checkpoint or a final model."""
    return (exp / "model.pt").exists() or bool(checkpoint.steps(exp / "checkpoints"))


def begun_batches_per_step(exp: Path) -> int:
    """Return how many batches make a step of the training that has begun there; 0 if there is none."""
    if not has_begun(exp):
        return 0
    return load_yaml(exp / "config.yaml").get("training", {}).get("batches_per_step", 1)  # earlier versions knew one


def open_experiment(
    exp: Path,
    config: ExperimentConfig,
    inputs: Inputs,
    digest_of: Callable[[Path], str] = digest,
    units: Path | None = None,
) -> bool:
    """Make the experiment directory, or take up the one there; returns whether its training is already finished.

    units: a copy of the language directory, if it may have changed since it was digested.
    Raises UserError when training has begun there with another configuration or other inputs; without a checkpoint it
    has not begun.
    """
    if has_begun(exp):
        changed = _changes(exp, config, inputs, digest_of)
        if changed:
            lines = "\n  ".join(changed)
            raise UserError(f"{exp} is another experiment:\n  {lines}\ngive this one a --name of its own, or --restart")
        return (exp / "model.pt").exists()
    wanted = {**config.as_dict(), "inputs": inputs.as_dict(digest_of=digest_of)}
    (exp / "checkpoints").mkdir(parents=True, exist_ok=True)
    with atomic_dir(exp / "lang") as folder:
        shutil.copytree(units or inputs.lang, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    with atomic_write(exp / "config.yaml") as file:
        yaml.safe_dump(wanted, file, sort_keys=False, allow_unicode=True)
    return False


def _changes(exp: Path, config: ExperimentConfig, inputs: Inputs, digest_of: Callable[[Path], str]) -> list[str]:
    """Name what differs between an experiment and this configuration: values, and contents of inputs, not their paths.

    A field that a file of an earlier version lacks has its default. The weights that the experiment has started from
    count only while they exist.
    """
    values = load_yaml(exp / "config.yaml")
    there = values.pop("inputs")
    now = _with_own_units(exp, inputs, Path(there["lang"]), digest_of).as_dict(True, digest_of)["digests"]
    digests = there["digests"]  # earlier versions called them by the paths of their files
    before = {key: digests.get(key, digests.get(str(path))) for key, path in _input_files(there).items()}
    if inputs.init is not None and "init/model.pt" not in now:
        before.pop("init/model.pt", None)
    defaults = ExperimentConfig().for_processes(1).as_dict()  # there was one process only
    old = {section: {**defaults.get(section, {}), **fields} for section, fields in values.items()}
    old, new = {**defaults, **old}, config.as_dict()
    for name in MAY_CHANGE:
        old["training"][name] = new["training"][name]
    return differences({**old, "inputs": {"digests": before}}, {**new, "inputs": {"digests": now}})


def _with_own_units(exp: Path, inputs: Inputs, lang: Path, digest_of: Callable[[Path], str]) -> Inputs:
    """Let an experiment's copy of its units stand for the language directory that they are of.

    Experiments share that directory: by now another's units may have been learned into it.
    """
    now, own = inputs.lang / "tokens.txt", exp / "lang" / "tokens.txt"
    if lang.resolve() != inputs.lang.resolve() or not own.exists():
        return inputs
    if now.exists() and digest_of(now) != digest_of(own):
        LOG.warning("%s holds other units by now; training goes by its own, %s", inputs.lang, own.parent)
    return replace(inputs, lang=exp / "lang")


def build_model(config: ExperimentConfig, tokenizer: Tokenizer, stats: FeatureStats) -> CtcModel:
    """Make a model with seeded random weights and the given feature statistics."""
    check_n_mels(config, stats)
    torch.manual_seed(config.training.seed)
    model = CtcModel(config.model, len(tokenizer.tokens))
    model.feature_mean.copy_(torch.from_numpy(stats.mean))
    model.feature_std.copy_(torch.from_numpy(stats.std))
    return model


def check_n_mels(config: ExperimentConfig, stats: FeatureStats) -> None:
    """Raise UserError unless the features have as many values a frame as the model takes."""
    if len(stats.mean) != config.model.n_mels:
        raise UserError(
            f"model.n_mels is {config.model.n_mels}, but the training features have {len(stats.mean)} values a frame; "
            f"set model.n_mels={len(stats.mean)}"
        )


def load_experiment(exp: Path) -> tuple[CtcModel, Tokenizer]:
    """Load the final model of an experiment, in eval mode, and its tokenizer; UserError if it is not there."""
    if not exp.is_dir():
        where = "" if exp.is_absolute() else f" in {Path.cwd()}"
        raise UserError(f"no experiment {exp}{where}: give the path of its folder, such as egs/an4/asr1/exp/omnirouter")
    if not (exp / "model.pt").exists():
        raise UserError(f"{exp / 'model.pt'} does not exist: training (stage 4) of {exp.name} is not finished")
    tokenizer = Tokenizer(exp / "lang")
    config = build(ModelConfig, load_yaml(exp / "config.yaml")["model"], str(exp / "config.yaml"))
    model = CtcModel(config, len(tokenizer.tokens))
    model.load_state_dict(checkpoint.load(exp / "model.pt"))
    return model.eval(), tokenizer


def write_final_model(
    exp: Path, best: Sequence[Path], parameters: int, active_parameters: int, steps: int, left_out: int, commit: str
) -> None:
    """Average the best checkpoints to model.pt, whose presence says that training is finished.

    left_out: how many utterances of its set the user has taken out of training.
    commit: of the checkout that trained it, when it began or was last resumed.
    """
    code = {"version": omnirouter.__version__, "commit": commit}
    training = {"steps": steps, "left_out": left_out, **code}
    with atomic_write(exp / "model_info.json") as file:
        json.dump({"parameters": parameters, "active_parameters": active_parameters, **training}, file)
        file.write("\n")
    checkpoint.save(checkpoint.average(best), exp / "model.pt")
