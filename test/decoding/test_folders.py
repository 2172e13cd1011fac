"""Names of the folders that hold hypotheses."""

from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.decoding.folders import DECODINGS, decode_dir, set_title


def test_each_way_of_decoding_has_a_folder_and_a_title() -> None:
    folders = [decode_dir(Path("exp/x"), "test_clean", decoding) for decoding in DECODINGS]
    assert [str(folder) for folder in folders] == [
        "exp/x/decode_test_clean",
        "exp/x/decode_test_clean_beam",
        "exp/x/decode_test_clean_lm",
    ]
    assert [set_title(folder.name) for folder in folders] == ["test_clean", "test_clean (beam)", "test_clean (lm)"]


@pytest.mark.parametrize("name", ["lm", "film", "beam_test"])
def test_other_names_are_whole_sets(name: str) -> None:
    assert set_title(decode_dir(Path("exp"), name, "greedy").name) == name


def test_a_set_named_like_a_decoding_is_refused() -> None:
    with pytest.raises(UserError, match="test_lm is named like"):
        decode_dir(Path("exp"), "test_lm", "greedy")
