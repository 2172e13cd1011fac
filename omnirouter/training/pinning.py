"""Batches in page-locked memory, which a GPU takes while the host goes on."""

import dataclasses
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from omnirouter.data.dataset import Batch


def pinned(batches: Iterator[Batch], device: torch.device, ahead: int) -> Iterator[Batch]:
    """Yield batches in order, brought to page-locked memory by a thread, so many of them ahead of their use on a GPU.

    From other memory a copy to the GPU would wait for all that it has been told before.
    """
    # A new thread's own device is the first GPU, where each process would take memory.
    with ThreadPoolExecutor(1, "pin", torch.cuda.set_device, (device,)) as thread:
        waiting = deque(thread.submit(_next_pinned, batches) for _ in range(ahead))
        try:
            while (batch := waiting.popleft().result()) is not None:
                waiting.append(thread.submit(_next_pinned, batches))
                yield batch
        finally:
            thread.shutdown(wait=False, cancel_futures=True)


def _next_pinned(batches: Iterator[Batch]) -> Batch | None:
    batch = next(batches, None)
    if batch is None:
        return None
    return dataclasses.replace(batch, features=batch.features.pin_memory(), targets=batch.targets.pin_memory())
