"""The experiment directory: made once, self-contained, never overwritten by another configuration."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from omnirouter.data.errors import UserError
from omnirouter.data.features import FeatureStats
from omnirouter.data.fields import build, differences, load_yaml
from omnirouter.data.files import atomic_dir, atomic_write
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel, parameter_counts
from omnirouter.training import checkpoint
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.log import LOG


@dataclass(frozen=True)
class Inputs:
    """What an experiment is trained from."""

    train: Path
    dev: Path
    lang: Path
    init: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Paths, and digests of what lies there: the same names with other data are another experiment.

        Features count by utterance and length, not by where their archives lie, which depends on the number of jobs.
        """
        makers = {"utt2num_frames": "stage 2", "text": "stage 1", "tokens.txt": "stage 3", "model.pt": "its training"}
        files = [data / name for data in (self.train, self.dev) for name in ("utt2num_frames", "text")]
        files += [self.lang / "tokens.txt"] + ([self.init / "model.pt"] if self.init else [])
        digests: dict[str, str] = {}
        for path in files:
            if not path.exists():
                raise UserError(f"{path} does not exist; {makers[path.name]} makes it")
            digests[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        paths = {"train": self.train, "dev": self.dev, "lang": self.lang, "init": self.init}
        names = {name: str(path) if path else None for name, path in paths.items()}
        return {**names, "digests": digests}


@contextmanager
def locked(exp: Path) -> Iterator[None]:
    """Hold the experiment directory, which is made if need be, for this process alone; UserError if another has it."""
    exp.mkdir(parents=True, exist_ok=True)
    with open(exp / ".lock", "w") as file:
        # A worker that outlives this process for a moment, after kill -9, must not keep the lock.
        os.register_at_fork(after_in_child=file.close)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{exp}: another process is training this experiment; wait for it, or end it") from None
        except OSError as error:
            LOG.warning("%s: this file system knows no locks (%s); let only one process train there", exp, error)
        yield


def remove_experiment(exp: Path) -> None:
    """Delete an experiment directory: out of sight at once, then file by file."""
    exp.rename(_removed(exp))
    remove_leftovers(exp)


def remove_leftovers(exp: Path) -> None:
    """Delete what a killed `remove_experiment` has left."""
    shutil.rmtree(_removed(exp), ignore_errors=True)  # NFS keeps the open lock's file; the next start deletes it


def _removed(exp: Path) -> Path:
    return exp.with_name(f".{exp.name}.removed")


def open_experiment(exp: Path, config: ExperimentConfig, inputs: Inputs) -> bool:
    """Make the experiment directory, or take up the one there; returns whether its training is already finished.

    Raises UserError when training has begun there with another configuration or other inputs; without a checkpoint it
    has not begun.
    """
    wanted = {**config.as_dict(), "inputs": inputs.as_dict()}
    if (exp / "model.pt").exists() or checkpoint.steps(exp / "checkpoints"):
        changed = differences(load_yaml(exp / "config.yaml"), wanted)
        if changed:
            lines = "\n  ".join(changed)
            raise UserError(f"{exp} is another experiment:\n  {lines}\ngive this one a --name of its own, or --restart")
        return (exp / "model.pt").exists()
    (exp / "checkpoints").mkdir(parents=True, exist_ok=True)
    with atomic_dir(exp / "lang") as folder:
        shutil.copytree(inputs.lang, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    with atomic_write(exp / "config.yaml") as file:
        yaml.safe_dump(wanted, file, sort_keys=False, allow_unicode=True)
    return False


def build_model(config: ExperimentConfig, tokenizer: Tokenizer, stats: FeatureStats) -> CtcModel:
    """Make a model with seeded random weights and the given feature statistics."""
    torch.manual_seed(config.training.seed)
    model = CtcModel(config.model, len(tokenizer.tokens))
    model.feature_mean.copy_(torch.from_numpy(stats.mean))
    model.feature_std.copy_(torch.from_numpy(stats.std))
    return model


def load_experiment(exp: Path) -> tuple[CtcModel, Tokenizer]:
    """Load the final model of an experiment, in eval mode, and its tokenizer."""
    if not (exp / "model.pt").exists():
        raise UserError(f"{exp / 'model.pt'} does not exist: training (stage 4) of {exp.name} is not finished")
    tokenizer = Tokenizer(exp / "lang")
    config = build(ModelConfig, load_yaml(exp / "config.yaml")["model"], str(exp / "config.yaml"))
    model = CtcModel(config, len(tokenizer.tokens))
    model.load_state_dict(checkpoint.load(exp / "model.pt"))
    return model.eval(), tokenizer


def write_final_model(exp: Path, best: Sequence[Path], model: CtcModel, steps: int) -> None:
    """Average the best checkpoints to model.pt, whose presence says that training is finished."""
    total, active = parameter_counts(model)
    with atomic_write(exp / "model_info.json") as file:
        json.dump({"parameters": total, "active_parameters": active, "steps": steps}, file)
        file.write("\n")
    checkpoint.save(checkpoint.average(best), exp / "model.pt")
