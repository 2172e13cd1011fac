"""Checkpoints on disk: written whole or not at all, the last two kept, the best averaged."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_write
from omnirouter.training.distributed import from_first, raise_in_all, rank, ranks

KEEP = 2


def save(content: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values atomically."""
    with atomic_write(path, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # which torch hides: no space is left, say
                raise UserError(f"{path}: cannot be written ({error.__context__.strerror})") from error
            raise


def load(path: Path) -> dict[str, Any]:
    """Map what `save` wrote into memory, read where it is used; raises UserError when it is missing or damaged."""
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; stage 4 makes it") from None
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise UserError(f"{path}: damaged ({error}); delete it to go on from the one before") from error


def load_last(folder: Path) -> dict[str, Any] | None:
    """Load the last training checkpoint of a folder; None where there is none. All processes call it together.

    The first process says which one: the file system of another machine may not list it yet, or still list an old one.
    Raises UserError when any process cannot read it.
    """
    step = from_first(lambda: max(steps(folder), default=None))
    if step is None:
        return None
    state, problem = None, None
    try:
        state = load(folder / f"step_{step}.pt")
    except UserError as error:
        problem = f"{error} (process {rank()}; do all machines see the same files?)" if ranks() > 1 else str(error)
    raise_in_all(problem)
    return state


def save_step(content: dict[str, Any], folder: Path, step: int) -> None:
    """Write the checkpoint of a training step and remove all but the last two."""
    save(content, folder / f"step_{step}.pt")
    for old in steps(folder)[:-KEEP]:
        (folder / f"step_{old}.pt").unlink()


def steps(folder: Path) -> list[int]:
    """Steps of the training checkpoints in a folder, in order."""
    matches = (re.fullmatch(r"step_(\d+)\.pt", path.name) for path in folder.glob("step_*.pt"))
    return sorted(int(match[1]) for match in matches if match)


def average(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Average the weights of several checkpoints in double precision."""
    states = [load(path) for path in paths]
    return {
        name: sum(state[name].double() for state in states).div(len(states)).to(states[0][name].dtype)
        for name in states[0]
    }
