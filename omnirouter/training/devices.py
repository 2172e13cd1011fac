"""Which device to compute on."""

import os

import torch

from omnirouter.data.errors import UserError


def choose_device(ngpu: int | None) -> torch.device:
    """The first GPU for 1, the CPU for 0, for None a GPU if there is one; UserError when there is none to give."""
    if ngpu is None:
        ngpu = int(torch.cuda.is_available())
    if ngpu and not torch.cuda.is_available():
        raise UserError(f"--ngpu {ngpu}: torch finds no GPU on this machine")
    return torch.device("cuda" if ngpu else "cpu")


def set_threads(threads: int) -> None:
    """Compute with so many CPU threads; 0: as many as the user's OMP_NUM_THREADS says, else one a core."""
    if threads or not os.environ.get("OMP_NUM_THREADS"):  # torch has read the variable itself
        torch.set_num_threads(threads or _cpu_count())


def _cpu_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
