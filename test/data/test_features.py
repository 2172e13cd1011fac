"""Reading stored features: the same values as kaldiio, and nothing but a matrix in a file."""

import os
import pickle
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from omnirouter.data.errors import UserError
from omnirouter.data.features import FeatureStats, feature_stats, load_features


@pytest.mark.parametrize("compression", [None, 1, 2, 3, 5])
def test_values_are_those_of_kaldiio(tmp_path: Path, compression: int | None) -> None:
    rng = np.random.default_rng(0)
    matrices = {f"u{i}": rng.normal(0, 3, (n, 8)).astype(np.float32) for i, n in enumerate((1, 40, 7))}
    ark, scp = tmp_path / "a:b.ark", tmp_path / "feats.scp"  # a colon in the name is no offset
    kaldiio.save_ark(str(ark), matrices, scp=str(scp), compression_method=compression)
    for line in scp.read_text().splitlines():
        key, place = line.split(" ", 1)
        mine, its = load_features(place, key), kaldiio.load_mat(place)
        assert mine.dtype == its.dtype
        np.testing.assert_array_equal(mine, its)
        np.testing.assert_allclose(mine, matrices[key], atol=0.1 if compression else 0)


@pytest.mark.parametrize("place", ["touch pwned |", "| touch pwned", "touch pwned |:0", "-", "a.ark", "a.ark:x", ":3"])
def test_an_entry_is_never_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.ark").write_bytes(b"")
    with pytest.raises(UserError) as error:
        load_features(place, "utt7")
    assert "utt7" in str(error.value) and place in str(error.value) and "run stage 2 again" in str(error.value)
    assert not (tmp_path / "pwned").exists()


class Payload:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PKL" + pickle.dumps(Payload()),
        b"garbage",
        b"\0B",
        b"\0BFM \4\xff\xff\xff\x7f\4\xff\xff\xff\x7f",
        b"\0BFM \4\x02\0\0\0\4\x02\0\0\0abc",
        b"\0BFV \4\x01\0\0\0abcd",
        b"\0B\xff\xfe ",
        b"\0BCM \0",
    ],
)
def test_garbage_in_an_archive_names_the_utterance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.ark").write_bytes(content)
    with pytest.raises(UserError, match="utterance utt7.*a.ark:0.*run stage 2 again"):
        load_features("a.ark:0", "utt7")
    assert not (tmp_path / "pwned").exists()


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "missing"):
        with pytest.raises(UserError, match="utt7"):
            load_features(f"{tmp_path / name}:0", "utt7")


def test_a_missing_file_is_looked_for_in_a_directory_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        load_features("fbank/feats.1.ark:5", "utt7")
    assert f"fbank/feats.1.ark:5: no such file relative to the current directory {tmp_path}; " in str(error.value)
    with pytest.raises(UserError) as error:
        load_features(f"{tmp_path}/feats.1.ark:5", "utt7")
    assert str(error.value).endswith(f"{tmp_path}/feats.1.ark:5: no such file; run stage 2 again")


def test_statistics_without_some_frames_are_close_and_of_other_features_are_not() -> None:
    noise = np.random.default_rng(0).normal(5, 2, (1000, 2))
    whole, part = feature_stats([noise]), feature_stats([noise[10:]])
    assert whole.is_close_to(part) and part.is_close_to(whole)
    furthest, widest = 2 * (10 / 990) ** 0.5, 2 * (1000 / 990) ** 0.5 - 2  # 2 is the deviation
    for mean, std, close in ((0.9, 0, True), (0, 0.9, True), (0, -99, True), (1.1, 0, False), (-1.1, 0, False),
                             (0, 1.1, False)):  # fmt: skip
        other = FeatureStats(whole.mean + [0, mean * furthest], whole.std + [std * widest, 0], 990)
        assert whole.is_close_to(other) == other.is_close_to(whole) == close
        assert not whole.is_close_to(FeatureStats(other.mean, other.std, 1000))
    assert not whole.is_close_to(FeatureStats(whole.mean[:1], whole.std[:1], 1000))


@pytest.mark.parametrize(("lost", "rest"), [([1000], [0] * 99), ([0], [-1, 1] * 50), ([-15.94] * 9, [-4, 4] * 500)])
def test_frames_that_are_taken_out_cannot_move_statistics_out_of_bounds(lost: list[float], rest: list[float]) -> None:
    """The bounds are reached where what goes is alone in being different: of the mean, or in being the mean."""
    whole, part = feature_stats([np.array([lost + rest]).T]), feature_stats([np.array([rest]).T])
    if lost == [1000]:
        assert (whole.mean[0], part.mean[0]) == (10, 0) and whole.std[0] * (1 / 99) ** 0.5 == pytest.approx(10)
    if lost == [0]:
        assert part.std[0] == 1 == pytest.approx(whole.std[0] * (101 / 100) ** 0.5)
    assert whole.is_close_to(part) and part.is_close_to(whole)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_matrices_without_frames_do_not_count_in_statistics_whatever_their_width(at: int) -> None:
    matrices = [np.array([[1.0, 2.0]]), np.array([[3.0, 2.0]])]
    for empty in (np.zeros((0, 0)), np.zeros((0, 2))):
        stats = feature_stats([*matrices[:at], empty, *matrices[at:]])
        assert (stats.frames, stats.mean.tolist()) == (2, [2, 2]) and stats.std == pytest.approx([1, 1e-5])
    with pytest.raises(UserError, match="no feature frames"):
        feature_stats([np.zeros((0, 0))])
