"""Copies of the recipes in which tests can run them, with settings so small that a stage takes seconds."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORPUS = ("--nj", "2", "--corpus-options=--train-utterances 60 --dev-utterances 8 --test-utterances 8")
SMALL = {
    "model.layers": 2,
    "model.dim": 32,
    "model.heads": 2,
    "model.ffn_dim": 64,
    "model.experts": 2,
    "batch.max_batch_s": 30,
}
TRAINING = {
    **SMALL,
    "training.max_steps": 100,
    "training.valid_every": 25,
    "training.log_every": 5,
    "training.checkpoint_every_s": 0.2,
}
TINY = {
    **SMALL,
    "training.max_steps": 4,
    "training.valid_every": 2,
    "training.workers": 0,
}


@dataclass(frozen=True)
class Clone:
    """A copy of the repository's recipes and a link to its package."""

    root: Path

    @property
    def mini(self) -> Path:
        return self.root / "egs/mini/asr1"

    def command(self, *args: str) -> list[str]:
        settings = " ".join(f"{key}={value}" for key, value in TRAINING.items())
        return [str(self.mini / "run.sh"), *CORPUS, "--set", settings, *args]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "OMNIROUTER_VENV": sys.prefix}

    def run(self, *args: str, cwd: str = "/", code: int = 0) -> str:
        """Run the mini recipe; see `output_of`."""
        return self.output_of(self.command(*args), cwd, code)

    def output_of(self, command: Sequence[str], cwd: Path | str = "/", code: int = 0) -> str:
        """Run a command; return what it prints, stderr included. Fails the test on another exit code."""
        result = subprocess.run(
            command,
            cwd=cwd,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == code, result.stdout
        return result.stdout


@pytest.fixture(scope="session")
def make_clone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Clone]:
    """A function that makes a copy, in a folder whose name a careless script trips over."""

    def make() -> Clone:
        root = tmp_path_factory.mktemp("clone") / 'it\'s a $(touch trap) "clone"'
        made = shutil.ignore_patterns("data", "exp", "fbank", "wavs", "downloads")
        shutil.copytree(ROOT / "egs", root / "egs", symlinks=True, ignore=made)
        (root / "omnirouter").symlink_to(ROOT / "omnirouter")
        return Clone(root)

    return make


@pytest.fixture
def recipe_in_clone(make_clone: Callable[[], Clone]) -> Callable[..., Callable[..., tuple[Path, str]]]:
    """A function that gives another one, which runs a recipe on CPU and returns its folder and what it prints."""

    def make(name: str, *options: str) -> Callable[..., tuple[Path, str]]:
        clone = make_clone()
        recipe = clone.root / "egs" / name / "asr1"
        settings = " ".join(f"{key}={value}" for key, value in TINY.items())
        command = [str(recipe / "run.sh"), "--nj", "1", "--ngpu", "0", "--set", settings, *options]

        def run(*args: str, code: int = 0) -> tuple[Path, str]:
            return recipe, clone.output_of([*command, *args], code=code)

        return run

    return make


@pytest.fixture(scope="session")
def finished(make_clone: Callable[[], Clone]) -> Clone:
    """A copy in which the mini recipe has run once, uninterrupted, with the default encoder."""
    clone = make_clone()
    (clone.root / "first.log").write_text(clone.run())
    return clone
