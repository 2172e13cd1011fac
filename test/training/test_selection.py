"""Which utterances CTC cannot be trained on."""

from pathlib import Path

import pytest

from omnirouter.data.dataset import FeatureUtterance
from omnirouter.data.errors import UserError
from omnirouter.data.sampler import BatchConfig
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.selection import select_trainable

CONFIG = ExperimentConfig(batch=BatchConfig(min_utterance_s=0.05, max_utterance_s=20, max_batch_s=20))


def select(cases: list[tuple[str, int, list[int]]], listing: Path) -> list[int]:
    utterances = [FeatureUtterance(key, "", frames, "") for key, frames, _ in cases]
    return select_trainable(utterances, [labels for *_, labels in cases], CONFIG, listing)


def test_impossible_utterances_are_listed_with_their_reason(tmp_path: Path) -> None:
    cases = [
        ("fits", 12, [1, 2, 3]),  # 3 tokens of 4 frames for 3 labels
        ("one-short", 11, [1, 2, 3]),
        ("repeats", 16, [1, 1, 2, 2]),  # needs 4 + 2 tokens, has 4
        ("repeats-fit", 24, [1, 1, 2, 2]),
        ("long", 2001, [1]),
        ("short", 4, [1]),
    ]
    assert select(cases, tmp_path / "dropped") == [0, 3]
    dropped = dict(line.split(" ", 1) for line in (tmp_path / "dropped").read_text().splitlines())
    assert sorted(dropped) == ["long", "one-short", "repeats", "short"]
    assert dropped["repeats"] == "4 encoder frames are too few for 4 labels with 2 repeats"
    assert "max_utterance_s" in dropped["long"]


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training utterance is left"):
        select([("a", 4, [1, 2])], tmp_path / "dropped")
