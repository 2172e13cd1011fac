"""--decoding: beam search and a language model beside the greedy hypotheses of the same experiment."""

import json
import shutil
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("kenlm")

Clone = Any  # of conftest.py
STAGES = ("--stage", "5", "--stop-stage", "6")
STEPS = (
    "5 language model",
    "5 tune on dev",
    "5 decode dev_lm",
    "5 decode test_lm",
    "6 score dev_lm",
    "6 score test_lm",
)


@pytest.fixture(scope="module")
def clone(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy of the recipe that has run once."""
    root = tmp_path_factory.mktemp("decoding") / finished.root.name
    shutil.copytree(finished.root, root, symlinks=True)
    return replace(finished, root=root)


def test_a_language_model_is_made_tuned_and_used_once(clone: Clone) -> None:
    exp = clone.mini / "exp/omnirouter"
    greedy = (exp / "decode_test/text").read_bytes()
    output = clone.run(*STAGES, "--decoding", "lm")
    assert all(f"stage {step}: done" in output for step in STEPS)
    weights = json.loads((exp / "lm/weights.json").read_text())
    assert (weights["model"], weights["tuned_on"]) == ("data/lm_train/3gram.arpa", "data/dev")
    assert (exp / "lm/ngram").read_bytes() == (clone.mini / "data/lm_train/3gram.arpa").read_bytes()
    wer = (exp / "decode_dev_lm/score/wer").read_text()
    assert wer.startswith(f"%WER {weights['dev_wer_percent']:.2f} [")
    assert (exp / "decode_test/text").read_bytes() == greedy
    table = (clone.mini / "exp/RESULTS.md").read_text()
    assert all(f"| {name} | omnirouter |" in table for name in ("dev", "dev (lm)", "test", "test (lm)"))
    output = clone.run(*STAGES, "--decoding", "lm")
    assert all(f"stage {step}: up to date" in output for step in STEPS)


def test_a_language_model_is_taken_from_where_the_user_stands(clone: Clone) -> None:
    folder = clone.root / "mine"
    folder.mkdir()
    (folder / "my.arpa").write_text("no model")
    output = clone.run(*STAGES, "--decoding", "lm", "--lm", "my.arpa", cwd=str(folder), code=1)
    assert "stage 5 language model" not in output
    assert f"error: {folder / 'my.arpa'}: not an n-gram model" in output
    output = clone.run(*STAGES, "--decoding", "lm", "--lm", "none.arpa", code=1)
    assert "stage 5 tune on dev lacks none.arpa" in output


def test_beam_search_has_hypotheses_of_its_own(clone: Clone) -> None:
    output = clone.run(*STAGES, "--decoding", "beam")
    assert "language model" not in output and "stage 5 decode test_beam: done" in output
    folder = clone.mini / "exp/omnirouter/decode_test_beam"
    lines = {path: path.read_text().splitlines() for path in (clone.mini / "data/test/text", folder / "text")}
    reference, found = ([line.split()[0] for line in rows] for rows in lines.values())
    assert found == reference and (folder / "score/wer").exists()
