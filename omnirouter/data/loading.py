"""Worker processes that load items ahead."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from omnirouter.data.errors import UserError


def loader(data: Dataset, keys: Iterable[Any], workers: int) -> Iterator[Any]:
    """Yield what the data have for each key, in order, by so many worker processes (0: in this process).

    The workers begin at once. A UserError in one of them is raised here, in its turn, as it is without workers.
    """
    loaded = DataLoader(
        _Caught(data),
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        collate_fn=_as_it_is,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # its own: the loader's draw must not disturb the training's random state
        worker_init_fn=_worker_alone,
    )
    return map(_item, loaded)


@dataclass(frozen=True)
class _Mistake:
    """What a UserError says: the error itself would come out of a worker with a traceback in its message."""

    message: str


class _Caught(Dataset):
    """Data of which an item that cannot be had is a `_Mistake`."""

    def __init__(self, data: Dataset) -> None:
        self._data = data

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._data[key]
        except UserError as error:
            return _Mistake(str(error))


def _item(loaded: Any) -> Any:
    if isinstance(loaded, _Mistake):
        raise UserError(loaded.message)
    return loaded


def _as_it_is(item: Any) -> Any:
    return item


def _worker_alone(_: int) -> None:
    """Keep a loading worker to one thread, and deaf to Ctrl-C and SIGTERM: the main process ends it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_at_parents_word, daemon=True).start()
    os.nice(1)


def _end_at_parents_word() -> None:
    """Wait for the main process's SIGTERM; one that is sent to all processes leaves it time to end in its own way."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
