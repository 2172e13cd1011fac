"""Batches in page-locked memory: which, when, in what order; without a GPU the copy itself is made up."""

import threading
from collections.abc import Iterator

import pytest
import torch

from omnirouter.data.dataset import Batch, make_batch
from omnirouter.training.pinning import pinned

AHEAD = 3
GPU = torch.device("cuda", 1)


@pytest.fixture
def by_thread(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Threads that have pinned memory, for the GPU that they were told."""
    seen: set[int] = set()
    devices: dict[int, torch.device] = {}

    def pin_memory(self: torch.Tensor) -> torch.Tensor:
        assert devices[threading.get_ident()] == GPU
        seen.add(threading.get_ident())
        return self + 1  # so that it can be told from what was not pinned

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: devices.update({threading.get_ident(): device}))
    return seen


def batches(drawn: list[int], number: int, error: Exception | None = None) -> Iterator[Batch]:
    for i in range(number):
        drawn.append(i)
        yield make_batch([str(i)], [torch.full((4, 80), float(i)).numpy()], [[i]])
    if error is not None:
        raise error


def test_batches_are_pinned_in_order_by_a_thread_that_keeps_its_distance(by_thread: set[int]) -> None:
    drawn: list[int] = []
    for i, batch in enumerate(pinned(batches(drawn, 10), GPU, AHEAD)):
        assert batch.utt_ids == [str(i)] and batch.features.eq(i + 1).all() and batch.targets.tolist() == [i + 1]
        assert i < len(drawn) <= i + 1 + AHEAD
    assert drawn == list(range(10))
    assert len(by_thread) == 1 and threading.get_ident() not in by_thread


def test_an_error_comes_after_the_batches_before_it(by_thread: set[int]) -> None:
    seen: list[str] = []
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        for batch in pinned(batches([], 5, RuntimeError("DataLoader worker killed")), GPU, AHEAD):
            seen += batch.utt_ids
    assert seen == list("01234")


def test_the_thread_ends_with_the_training(by_thread: set[int]) -> None:
    endless = pinned(batches([], 10**9), GPU, AHEAD)
    next(endless)
    endless.close()
    assert not any(thread.name.startswith("pin") for thread in threading.enumerate())
