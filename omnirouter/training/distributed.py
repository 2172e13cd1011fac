"""Several processes training one model, started by torchrun; every helper does nothing special for a single one."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from omnirouter.data.errors import UserError

T = TypeVar("T")
RESTARTS = "TORCHELASTIC_RESTART_COUNT"
TIMEOUT = timedelta(hours=2)
"""Longest wait for another process; the others wait while the first one prepares the data."""
LAST_WORDS_S = 2.0
"""A process that ends because of the first one's error lets it speak: torchrun ends all when one has ended."""


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes that torchrun has started; host tensors travel by gloo, a GPU's by NCCL."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or "RANK" not in os.environ:
        yield
        return
    store, number, count = next(rendezvous("env://", timeout=TIMEOUT))
    if os.environ.get("GROUP_WORLD_SIZE", "1") == "1":
        # torchrun keeps its store over a restart, and with it the addresses of the processes that have died. Each of
        # several machines counts restarts for itself: there torchrun has to be told to make a new store.
        store = dist.PrefixStore(f"restart_{restarts()}", store)
    own_gpu = device if device.type == "cuda" else None
    backend = "cpu:gloo,cuda:nccl" if own_gpu else "gloo"
    if own_gpu:
        torch.cuda.set_device(own_gpu)
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=TIMEOUT, device_id=own_gpu)
    # A torchrun that joins in another machine's restart does not count it.
    os.environ[RESTARTS] = str(max(gathered(restarts())))
    yield
    dist.destroy_process_group()  # not after an error: the others may be waiting for something else


def local_rank() -> int:
    """Number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def restarts() -> int:
    """How often torchrun has started this training again; in a process group, that of the machine that counts most."""
    return int(os.environ.get(RESTARTS, 0))


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process writes the files and speaks for all."""
    return rank() == 0


def summed(values: Tensor) -> Tensor:
    """Sum of a tensor over all processes, the same in each."""
    if ranks() > 1:
        dist.all_reduce(values)
    return values


def gathered(value: T) -> list[T]:
    """Collect a picklable value of each process, in order of their numbers."""
    if ranks() == 1:
        return [value]
    values: list[Any] = [None] * ranks()
    dist.all_gather_object(values, value)
    return values


def from_first(compute: Callable[[], T]) -> T:
    """Let the first process alone compute a picklable value and give it to all.

    Where it fails, it raises its error, and the others end without a word.
    """
    value, error = None, None
    if is_first():
        try:
            value = compute()
        except Exception as caught:
            error = caught
    outcome = [(error is not None, value)]
    if ranks() > 1:
        dist.broadcast_object_list(outcome, src=0)  # a gathering would hold it as often as there are processes
    [(failed, value)] = outcome
    if error is not None:
        raise error
    if failed:
        _end_silently()
    return value


def raise_in_all(message: str | None) -> None:
    """Raise a UserError in the first process, and end the others, if any process has a message."""
    messages = [text for text in gathered(message) if text]
    if messages and is_first():
        raise UserError(messages[0])
    if messages:
        _end_silently()


def check_equal_weights(model: nn.Module, step: int) -> None:
    """Raise UserError unless all processes have the same weights, on the CPU, after the same step."""
    digest = hashlib.sha256()  # a sum would depend on the number of threads
    for tensor in model.state_dict().values() if ranks() > 1 else ():
        digest.update(tensor.contiguous().numpy())
    found = gathered((digest.hexdigest(), step))
    odd = next((i for i, other in enumerate(found) if other != found[0]), None)
    raise_in_all(
        odd
        and f"process {odd} has other weights than process 0, or another step ({found[odd][1]}, not {found[0][1]}); do "
        "all machines see the same files in the experiment directory, and have they the same version of torch?"
    )


def _end_silently() -> None:
    time.sleep(LAST_WORDS_S)
    raise SystemExit(1)
