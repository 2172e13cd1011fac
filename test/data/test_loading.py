"""Items loaded ahead: in order, by processes that are there, and a user's mistake as one line."""

import multiprocessing
from pathlib import Path

import pytest
from torch.utils.data import Dataset

from omnirouter.data.audio import AudioError
from omnirouter.data.errors import UserError
from omnirouter.data.loading import loader


class Squares(Dataset):
    """Squares, but for what is no number."""

    def __getitem__(self, key: int | str) -> int:
        if key == "audio":
            raise AudioError(Path("x.flac"), "damaged", "get the file again")
        if isinstance(key, str):
            raise UserError(f"{key} is no number")
        return key * key


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mistake_is_told_in_its_turn_as_without_workers(workers: int) -> None:
    before = set(multiprocessing.active_children())
    items = loader(Squares(), [3, 4, "audio"], workers)
    assert len(set(multiprocessing.active_children()) - before) == workers
    assert [next(items), next(items)] == [9, 16]
    with pytest.raises(UserError) as told:
        next(items)
    assert str(told.value) == "x.flac: damaged; get the file again"


def test_another_error_keeps_its_traceback() -> None:
    with pytest.raises(TypeError, match=r"(?s)Original Traceback.*__getitem__"):
        next(loader(Squares(), [None], 1))
