"""The file of expert assignments."""

from pathlib import Path

import numpy as np
import pytest

from omnirouter.analysis.assignments import make_assignments, read_assignments, write_assignments
from omnirouter.data.errors import UserError

EXPERTS = {"b": np.array([[3, 0], [1, 1]]), "a": np.array([[2], [0]]), "c": np.zeros((2, 0), int)}


def test_what_is_written_is_read_by_utterance(tmp_path: Path) -> None:
    written = make_assignments(EXPERTS, [2, 4], [4, 2], 0.04)
    for name in ("one.npz", "other.npz"):
        write_assignments(tmp_path / name, written)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()
    read = read_assignments(tmp_path / "one.npz")
    assert read.utt_ids.tolist() == ["a", "b", "c"] and read.offsets.tolist() == [0, 1, 3, 3]
    assert all(np.array_equal(read.experts_LT[:, read.spans[utt_id]], EXPERTS[utt_id]) for utt_id in EXPERTS)
    assert read.layers.tolist() == [2, 4] and read.n_experts.tolist() == [4, 2] and read.token_s == 0.04
    assert read.experts_LT.dtype == np.uint8 and read.offsets.dtype == np.int64
    assert make_assignments(EXPERTS, [1, 2], [300, 2], 0.04).experts_LT.dtype == np.uint16


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stage 7 makes it"):
        read_assignments(tmp_path / "experts.npz")
    (tmp_path / "experts.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="run stage 7 again"):
        read_assignments(tmp_path / "experts.npz")
    np.savez(tmp_path / "experts.npz", layers=np.array([1]))
    with pytest.raises(UserError, match="run stage 7 again"):
        read_assignments(tmp_path / "experts.npz")
