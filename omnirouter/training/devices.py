"""Which device to compute on."""

import os

import torch

from omnirouter.data.errors import UserError
from omnirouter.data.jobs import available_cores
from omnirouter.training.distributed import local_rank

CPU = torch.device("cpu")


def choose_device(ngpu: int | None) -> torch.device:
    """This process's own GPU for 1, the CPU for 0, for None a GPU if there is one; UserError when there is none left.

    Of several processes on a machine, started by torchrun, the n-th has the n-th GPU.
    """
    if ngpu is None:
        ngpu = int(torch.cuda.is_available())
    if not ngpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(f"--ngpu {ngpu}: torch finds no GPU on this machine")
    if local_rank() >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank() + 1} has no GPU: torch finds {torch.cuda.device_count()} on this machine; "
            "start fewer (--ngpu of run.sh, --nproc-per-node of torchrun), or compute on the CPU with --ngpu 0"
        )
    return torch.device("cuda", local_rank())


def set_threads(threads: int) -> None:
    """Compute with so many CPU threads; 0: as many as the user's OMP_NUM_THREADS says, else one a core."""
    if threads or not os.environ.get("OMP_NUM_THREADS"):  # torch has read the variable itself
        torch.set_num_threads(threads or available_cores())
