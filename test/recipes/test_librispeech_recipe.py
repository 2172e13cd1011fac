"""The LibriSpeech recipe on a miniature in the published layout: from corpus to scores, and with other --hours."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("lhotse")

PARTS = ("train-clean-100", "train-clean-360", "dev-clean", "dev-other", "test-clean", "test-other")
EVAL_SETS = ("dev", "dev_clean", "dev_other", "test_clean", "test_other")


@pytest.fixture
def corpus(tmp_path: Path, write_chapter: Callable[..., None]) -> Path:
    """One speaker a part, with two utterances of half a second and more; without train-other-500."""
    for i, part in enumerate(PARTS):
        utterances = [("A BEE", 12000), ("BAD CAB", 16000 + 100 * i)]
        write_chapter(tmp_path / "libri/LibriSpeech" / part, str(20 + i), "7", utterances)
    return tmp_path / "libri"


@pytest.fixture
def run(
    recipe_in_clone: Callable[..., Callable[..., tuple[Path, str]]], corpus: Path
) -> Callable[..., tuple[Path, str]]:
    """A function that runs the recipe and returns its folder and what it prints."""
    return recipe_in_clone("librispeech", "--corpus-dir", str(corpus))


def test_from_the_corpus_to_scores(run: Callable[..., tuple[Path, str]]) -> None:
    recipe, output = run("--hours", "100", "--token-type", "char", "--stop-stage", "6")
    assert "data/train_100: 2 utterances, 1 speakers" in output and "data/dev: 4 utterances, 2 speakers" in output
    assert len((recipe / "data/train_100_sp/text").read_text().splitlines()) == 6
    wers = {name: (recipe / f"exp/omnirouter/decode_{name}/score/wer").read_text() for name in EVAL_SETS}
    assert all(f" / {8 if name == 'dev' else 4}, " in wers[name] for name in EVAL_SETS), "four words a part"


def test_hours_do_not_mix(run: Callable[..., tuple[Path, str]], corpus: Path) -> None:
    recipe, _ = run("--hours", "100", "--stop-stage", "1")
    (recipe / "data/dev_clean/feats.scp").touch()
    _, output = run("--hours=460", "--stop-stage", "1")
    assert "data/train_460: 4 utterances, 2 speakers" in output
    assert "data/train_460_sp" not in output and (recipe / "data/dev_clean/feats.scp").exists()
    assert len((recipe / "data/train_100/text").read_text().splitlines()) == 2
    _, output = run("--stop-stage", "1", code=1)
    assert f"{corpus}/LibriSpeech/train-other-500: no such folder" in output
    assert not (recipe / "data/train_960").exists()
    _, output = run("--hours", "100", "--stage", "4", code=1)
    assert "lacks data/lang_bpe1024/tokens.txt" in output and "data/train_100_sp/utt2num_frames (stage 2" in output
