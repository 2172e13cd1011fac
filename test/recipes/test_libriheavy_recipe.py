"""The Libriheavy recipe on a miniature as published: from manifests over long recordings to scores on LibriSpeech."""

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

pytest.importorskip("lhotse")

EVAL_PARTS = ("dev-clean", "dev-other", "test-clean", "test-other")


@pytest.fixture
def corpus(tmp_path: Path, write_chapter: Callable[..., None], write_libriheavy: Callable[..., list]) -> Path:
    """Two speakers in small, one in medium and one in dev, whose recording lies in medium; and LibriSpeech's sets."""
    corpus = tmp_path / "heavy"
    for part, speakers in (("small", ("3", "4")), ("medium", ("5",)), ("dev", ("6",))):
        for speaker in speakers:
            utterances = [("A BEE", 12000), ("BAD CAB", 16000), ("I'D FED HIM", 20000)]
            write_chapter(tmp_path / "sources" / part, speaker, f"9{speaker}", utterances)
        chapters = sorted((tmp_path / "sources" / part).glob("*/*"))
        write_libriheavy(corpus, part, chapters, folder="medium" if part == "dev" else part)
    for i, part in enumerate(EVAL_PARTS):
        write_chapter(corpus / "LibriSpeech" / part, str(20 + i), "7", [("A BEE", 12000), ("BAD CAB", 16000 + 100 * i)])
    return corpus


@pytest.fixture
def real_corpus(tmp_path: Path, test_data: Path, write_libriheavy: Callable[..., list]) -> Path:
    """A chapter of Mini LibriSpeech as the recording of small, and two utterances of another one in each part."""
    speech, corpus = test_data / "LibriSpeech/all-clean-5", tmp_path / "real"
    write_libriheavy(corpus, "small", [speech / "118/47824"])
    for i, part in enumerate(EVAL_PARTS):
        folder = corpus / "LibriSpeech" / part / "332/128985"
        folder.mkdir(parents=True)
        lines = (speech / "332/128985/332-128985.trans.txt").read_text().splitlines(keepends=True)[2 * i : 2 * i + 2]
        (folder / "332-128985.trans.txt").write_text("".join(lines))
        for name in (line.split()[0] for line in lines):
            (audio,) = (speech / "332/128985").glob(f"{name}.*")
            soundfile.write(folder / f"{name}.flac", *soundfile.read(audio, dtype="int16"))
    return corpus


@pytest.fixture
def run(
    recipe_in_clone: Callable[..., Callable[..., tuple[Path, str]]], corpus: Path
) -> Callable[..., tuple[Path, str]]:
    """A function that runs the recipe and returns its folder and what it prints."""
    return recipe_in_clone("libriheavy", "--corpus-dir", str(corpus), "--token-type", "char")


@pytest.mark.parametrize("features", ["on_the_fly", "stored"])
def test_from_the_corpus_to_scores(run: Callable[..., tuple[Path, str]], features: str) -> None:
    options = ["--subset", "small", "--test-sets", "test_other", "--stop-stage", "6"]
    options += [] if features == "on_the_fly" else ["--features", features]
    recipe, output = run(*options)
    assert "data/train_small: 6 utterances, 2 speakers" in output and "data/dev: 4 utterances, 2 speakers" in output
    assert (recipe / "data/train_small/feats.scp").exists() == (features == "stored")
    for name, words in (("dev", 8), ("test_other", 4)):
        assert f" / {words}, " in (recipe / f"exp/small/decode_{name}/score/wer").read_text()


def test_real_speech_with_the_units_of_the_recipe(
    recipe_in_clone: Callable[..., Callable[..., tuple[Path, str]]], real_corpus: Path
) -> None:
    run = recipe_in_clone("libriheavy", "--subset", "small", "--corpus-dir", str(real_corpus))
    recipe, output = run("--vocab-size", "60", "--test-sets", "test_clean", "--stop-stage", "6")
    assert "data/test_clean: 2 utterances, 1 speakers" in output
    words = len(" ".join((recipe / "data/test_clean/text").read_text().splitlines()).split()) - 2
    assert f" / {words}, " in (recipe / "exp/small/decode_test_clean/score/wer").read_text()


def test_text_as_in_the_books_and_librispeech_elsewhere(run: Callable[..., tuple[Path, str]], corpus: Path) -> None:
    (corpus / "LibriSpeech").rename(corpus.parent / "LS")
    recipe, output = run("--subset", "medium", "--text", "cased", "--stop-stage", "1", code=1)
    assert f"lacks something of Libriheavy medium:\n{corpus}/LibriSpeech\n" in output and "--librispeech-dir" in output
    options = ["--subset=medium", "--text=cased", "--librispeech-dir", str(corpus.parent / "LS"), "--stop-stage=1"]
    recipe, output = run(*options)
    assert "data/train_medium_cased: 9 utterances, 3 speakers" in output
    assert "data/dev_cased: 3 utterances, 1 speakers" in output
    assert "“i’d fed him—”" in (recipe / "data/dev_cased/text").read_text()
