"""Beam search, against a sum over all paths."""

import base64
import dataclasses
import itertools
import math
import sys
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from omnirouter.data.errors import UserError
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.decoding.beam import Hypothesis, Search, beam_search, search_all
from omnirouter.decoding.posteriors import Posterior

kenlm = pytest.importorskip("kenlm")
pytest.importorskip("flashlight.lib.text.decoder")

UNITS = ("<blank>", "▁A", "B", "▁")
ALL = Search(beam_size=10000, labels=len(UNITS), label_threshold=1e9, threshold=1e9)
ARPA = """\\data\\
ngram 1=5
ngram 2=4

\\1-grams:
-1.2\t<unk>
-99\t<s>\t-0.3
-0.9\t</s>
-0.5\tA\t-0.2
-0.8\tAB\t-0.4

\\2-grams:
-0.2\t<s> AB
-1.1\tAB A
-0.3\tA A
-0.4\tAB </s>

\\end\\
"""
# the same model by `build_binary trie` of kenlm's sources (format version 5), which no wheel brings
BINARY = zlib.decompress(base64.b64decode(
    "eNrLzU0sUMjJVcgoKSmw0tfPzkhNTMtMzUnRS87P1U/OT0lVSMsvyk0sUShLLSrOzM9TMOViQIAGeyCxnxFI/AcCkAgjVIYJTB6w"
    "Z4KKgTArVI4FyQQYu6BOca9lWykDe0OX/yUuUfOfx96yHf8+y4sr5/vH2uIH2TD1s2bO3A+yGGHCsUNAsX1IRu4/e8YHzgeygfwz"
    "+5ig/LS0NLB+ZgZUwMKAHVw6c+bL2pkzP05PS1O7D7SoFkXWpjQv247BptiOwZHB0YnBRh/IAgBTXEpW"
))  # fmt: skip


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    (tmp_path / "lm.arpa").write_text(ARPA)
    return tmp_path / "lm.arpa"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    (tmp_path / "tokens.txt").write_text("".join(f"{unit} {i}\n" for i, unit in enumerate(UNITS)))
    return Tokenizer(tmp_path)


def posterior_of(log_probs: np.ndarray) -> Posterior:
    labels = np.argsort(-log_probs, axis=1)
    return Posterior(labels, np.take_along_axis(log_probs, labels, 1), log_probs.shape[1])


def random_posterior(seed: int, frames: int = 6) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 1.5, (frames, len(UNITS)))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def ctc_log_probs(log_probs: np.ndarray) -> dict[tuple[int, ...], float]:
    """Log-probability of every label sequence: the sum over the paths that read so, one by one."""
    sums: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        labels = tuple(label for label, _ in itertools.groupby(path) if label)
        sums[labels] += math.exp(sum(float(log_probs[t, label]) for t, label in enumerate(path)))
    return {labels: math.log(p) for labels, p in sums.items()}


@pytest.mark.parametrize("seed", range(8))
def test_without_a_model_it_finds_the_most_probable_labels(seed: int) -> None:
    log_probs = random_posterior(seed)
    wanted = ctc_log_probs(log_probs)
    best = max(wanted, key=wanted.__getitem__)
    found = beam_search(posterior_of(log_probs), UNITS, ALL)
    assert found.labels == list(best)
    assert found.score == pytest.approx(wanted[best], abs=1e-4)


@pytest.mark.parametrize(("lm_weight", "word_score"), [(0.0, 0.0), (0.7, 0.0), (1.5, 1.0), (2.0, -0.5)])
@pytest.mark.parametrize("seed", range(4))
def test_with_a_model_it_finds_the_best_sum(
    arpa: Path, tokenizer: Tokenizer, seed: int, lm_weight: float, word_score: float
) -> None:
    log_probs, model = random_posterior(seed), kenlm.Model(str(arpa))
    wanted = {}
    for labels, score in ctc_log_probs(log_probs).items():
        text = tokenizer.decode(labels)
        lm_score = math.log(10) * model.score(text, bos=True, eos=True)
        wanted[labels] = score + lm_weight * lm_score + word_score * len(text.split())
    best = max(wanted.values())
    search = dataclasses.replace(ALL, lm=arpa, lm_weight=lm_weight, word_score=word_score)
    found = beam_search(posterior_of(log_probs), UNITS, search)
    assert found.score == pytest.approx(best, abs=1e-4)
    assert wanted[tuple(found.labels)] == pytest.approx(best, abs=1e-4)


def test_a_binary_is_as_good_as_the_arpa_file(arpa: Path, tmp_path: Path) -> None:
    (tmp_path / "lm.binary").write_bytes(BINARY)
    for seed in range(4):
        found = [
            beam_search(posterior_of(random_posterior(seed, frames=12)), UNITS, Search(lm=lm, lm_weight=1.5))
            for lm in (arpa, tmp_path / "lm.binary", None)
        ]
        assert found[0].labels and found[0] == found[1] and found[0].score != found[2].score


def test_words_of_the_model_are_preferred_but_others_can_be_written(arpa: Path, tokenizer: Tokenizer) -> None:
    # heard as B, a word that the model does not know, rather than as AB
    log_probs = np.log(np.array([[0.02, 0.40, 0.57, 0.01], [0.02, 0.01, 0.96, 0.01]], np.float32))
    texts = {
        weight: next(search_all([posterior_of(log_probs)], tokenizer, Search(lm=arpa, lm_weight=weight)))
        for weight in (0.0, 0.05, 1.0)
    }
    assert texts == {0.0: "B", 0.05: "B", 1.0: "AB"}


def test_the_same_hypotheses_from_one_process_and_from_several(
    arpa: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [posterior_of(random_posterior(seed, frames=12)) for seed in range(7)]
    search = Search(lm=arpa, lm_weight=0.5)
    texts = {}
    for cores in (1, 2):
        monkeypatch.setattr("omnirouter.decoding.beam.available_cores", lambda cores=cores: cores)
        texts[cores] = list(search_all(found, tokenizer, search))
    assert texts[1] == texts[2] and len(set(texts[1])) > 3


def test_no_frames_are_no_labels() -> None:
    nothing = Posterior(np.zeros((0, 4), np.int64), np.zeros((0, 4), np.float32), 4)
    assert beam_search(nothing, UNITS, Search()) == Hypothesis([], 0.0)


def test_a_smaller_beam_and_fewer_labels_find_less() -> None:
    log_probs = random_posterior(3, frames=12)
    whole = beam_search(posterior_of(log_probs), UNITS, ALL).score
    for smaller in ({"beam_size": 1}, {"labels": 1}, {"label_threshold": 0.1}, {"threshold": 0.1}):
        search = dataclasses.replace(ALL, **smaller)
        assert beam_search(posterior_of(log_probs), UNITS, search).score < whole - 0.01, smaller


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a model\n", ""),
        (b"", ""),
        (BINARY[:300], "size 300"),
        (BINARY.replace(b"version 5", b"version 4"), "version 4 .* use the ARPA"),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, tokenizer: Tokenizer, content: bytes, reason: str) -> None:
    (tmp_path / "x.arpa").write_bytes(content)
    with pytest.raises(UserError, match=f"x.arpa: not an n-gram model.*{reason}"):
        next(search_all([posterior_of(random_posterior(0))], tokenizer, Search(lm=tmp_path / "x.arpa")))
    with pytest.raises(UserError, match="y.arpa does not exist"):
        next(search_all([posterior_of(random_posterior(0))], tokenizer, Search(lm=tmp_path / "y.arpa")))


def test_an_empty_beam_is_refused() -> None:
    with pytest.raises(UserError, match="a beam of 0 hypotheses"):
        Search(beam_size=0)


def test_a_missing_package_names_the_extra(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flashlight.lib.text", None)
    with pytest.raises(UserError, match=r"pip install 'omnirouter\[lm\]'"):
        next(search_all([posterior_of(random_posterior(0))], tokenizer, Search(beam_size=11)))
