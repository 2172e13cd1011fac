"""The Libriheavy recipe on a miniature as published: from manifests over long recordings to scores on LibriSpeech."""

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch

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
    """Two chapters of Mini LibriSpeech as the recordings of small, and two utterances of another one in each part."""
    speech, corpus = test_data / "LibriSpeech/all-clean-5", tmp_path / "real"
    write_libriheavy(corpus, "small", [speech / "118/47824", speech / "1088/134315"])
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


def test_from_the_corpus_to_scores(run: Callable[..., tuple[Path, str]]) -> None:
    recipe, output = run("--subset", "small", "--test-sets", "test_other", "--stop-stage", "6")
    assert "data/train_small: 6 utterances, 2 speakers" in output and "data/dev: 4 utterances, 2 speakers" in output
    assert not (recipe / "data/train_small/feats.scp").exists()
    for name, words in (("dev", 8), ("test_other", 4)):
        assert f" / {words}, " in (recipe / f"exp/omnirouter/decode_{name}/score/wer").read_text()
    schedule = (recipe / "exp/omnirouter/config.yaml").read_text()
    assert "warmup_steps: 400\n" in schedule and "step_every: 1000\n" in schedule, "those of small"

    (recipe / "data/train_cased").mkdir()
    cased = (recipe / "data/train_small/text").read_text().replace("BAD CAB", "“bad cab—”")
    (recipe / "data/train_cased/text").write_text(cased)
    run("--subset", "small", "--train-set", "train_cased", "--stage", "3", "--stop-stage", "3")
    _, output = run("--subset", "small", "--stage", "4", "--name", "mixed", code=1)
    assert "error: data/lang_char was learned from data/train_cased/text, not from data/train_small/text" in output
    assert not (recipe / "exp/mixed").exists()


def test_real_speech_gives_the_same_from_audio_and_from_stored_features(
    recipe_in_clone: Callable[..., Callable[..., tuple[Path, str]]], real_corpus: Path
) -> None:
    options = ["--subset", "small", "--corpus-dir", str(real_corpus), "--vocab-size", "250", "--stop-stage", "6"]
    run = recipe_in_clone("libriheavy", *options, "--test-sets", "test_clean")
    recipe, output = run("--name", "on_the_fly")
    assert "data/test_clean: 2 utterances, 1 speakers" in output and not list(recipe.glob("data/*/feats.scp"))
    words = len(" ".join((recipe / "data/test_clean/text").read_text().splitlines()).split()) - 2
    assert f" / {words}, " in (recipe / "exp/on_the_fly/decode_test_clean/score/wer").read_text()
    run("--stage", "2", "--stop-stage", "5", "--features", "stored", "--name", "stored")
    assert len(list(recipe.glob("data/*/feats.scp"))) == 3
    exps = [recipe / "exp" / name for name in ("on_the_fly", "stored")]
    hypotheses = [(exp / "decode_test_clean/text").read_bytes() for exp in exps]
    assert hypotheses[0] == hypotheses[1] and len(hypotheses[0].split()) > 2
    weights = [torch.load(exp / "model.pt", weights_only=True) for exp in exps]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_text_as_in_the_books_and_librispeech_elsewhere(run: Callable[..., tuple[Path, str]], corpus: Path) -> None:
    (corpus / "LibriSpeech").rename(corpus.parent / "LS")
    recipe, output = run("--subset", "medium", "--text", "cased", "--stop-stage", "1", code=1)
    assert f"lacks something of Libriheavy medium:\n{corpus}/LibriSpeech\n" in output and "--librispeech-dir" in output
    options = ["--subset=medium", "--text=cased", "--librispeech-dir", str(corpus.parent / "LS"), "--stop-stage=1"]
    recipe, output = run(*options)
    assert "data/train_medium_cased: 9 utterances, 3 speakers" in output
    assert "data/dev_cased: 3 utterances, 1 speakers" in output
    assert '"i\'d fed him—"' in (recipe / "data/dev_cased/text").read_text()
