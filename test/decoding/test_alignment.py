"""Forced alignment, against a slow Viterbi search and by hand."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from omnirouter.data.dataset import make_batch
from omnirouter.data.tokenizer import Tokenizer, train_tokenizer
from omnirouter.decoding.alignment import align_labels, align_transcripts, path_words, transcript_labels
from omnirouter.decoding.ctm import Word
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel


@pytest.fixture
def characters(tmp_path: Path) -> Tokenizer:
    """Labels: 0 blank, 1 unknown, 2 space, then A to D."""
    train_tokenizer(["A B C D"], "char", 0, tmp_path / "char")
    return Tokenizer(tmp_path / "char")


def collapsed(path: list[int]) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label]


def best_score(log_probs: np.ndarray, labels: list[int]) -> float:
    """Score of the best path that reads `labels`, by the plain recursion over labels with blanks between."""
    states = [0, *itertools.chain.from_iterable((label, 0) for label in labels)]
    best = np.full(len(states), -np.inf)
    best[:2] = log_probs[0, states[:2]]
    for frame in log_probs[1:]:
        before = best.copy()
        for s, label in enumerate(states):
            candidates = [before[s], *before[max(0, s - 1) : s]]
            if s >= 2 and label and label != states[s - 2]:
                candidates.append(before[s - 2])
            best[s] = max(candidates) + frame[label]
    return max(best[-2:])


@pytest.mark.parametrize("seed", range(20))
def test_the_path_reads_the_labels_and_is_the_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 4, rng.integers(1, 6)).tolist()
    repeats = sum(a == b for a, b in itertools.pairwise(labels))
    frames = len(labels) + repeats + int(rng.integers(0, 6))
    log_probs = torch.from_numpy(rng.normal(0, 2, (frames, 4))).float().log_softmax(1)
    path = align_labels(log_probs, labels)
    assert len(path) == frames and collapsed(path) == labels
    score = sum(log_probs[t, label].item() for t, label in enumerate(path))
    assert score == pytest.approx(best_score(log_probs.double().numpy(), labels), abs=1e-4)


def test_a_posterior_made_by_hand(characters: Tokenizer) -> None:
    # heard:    -  A  A  B  -  _  C  -  C  -
    likely = [0, 3, 3, 4, 0, 2, 5, 0, 5, 0]
    log_probs = torch.full((10, 7), 0.01).scatter(1, torch.tensor(likely)[:, None], 0.94).log()
    path = align_labels(log_probs, transcript_labels(characters, "AB CC"))
    assert path == likely
    words = path_words(path, characters, 0.04)
    assert [(word.text, round(word.start_s, 2), round(word.duration_s, 2)) for word in words] == [
        ("AB", 0.04, 0.12),
        ("CC", 0.24, 0.12),
    ]


def test_pieces_are_joined_to_words_at_their_spaces(tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text("<blank> 0\n<unk> 1\n▁ 2\n▁HE 3\nLL 4\nO 5\n")
    words = path_words([0, 3, 0, 4, 5, 2, 0, 5, 3], Tokenizer(tmp_path), 1.0)
    assert words == [Word(1.0, 4.0, "HELLO"), Word(7.0, 1.0, "O"), Word(8.0, 1.0, "HE")]
    assert path_words([], Tokenizer(tmp_path), 1.0) == path_words([0], Tokenizer(tmp_path), 1.0) == []


def test_no_labels_are_all_blank() -> None:
    assert align_labels(torch.zeros(3, 2), []) == [0, 0, 0]
    assert align_labels(torch.zeros(0, 2), []) == []


def test_what_cannot_be_aligned_says_why(characters: Tokenizer) -> None:
    log_probs = torch.zeros(3, 7).log_softmax(1)
    assert align_labels(log_probs, [3, 3]) == [3, 0, 3]
    with pytest.raises(ValueError, match="2 tokens of audio are too few for 2 labels, which need 3"):
        align_labels(log_probs[:2], [3, 3])
    with pytest.raises(ValueError, match="not finite"):
        align_labels(log_probs * torch.nan, [3])
    with pytest.raises(ValueError, match="no units for 'XA'"):
        transcript_labels(characters, "AB XA C")


def test_a_model_aligns_each_utterance_as_if_it_were_alone(characters: Tokenizer) -> None:
    torch.manual_seed(0)
    config = ModelConfig(layers=2, dim=32, heads=2, ffn_dim=64, experts=2)
    model = CtcModel(config, len(characters.tokens)).eval()
    rng = np.random.default_rng(0)
    features = {f"u{n}": rng.normal(0, 2, (n, 80)).astype(np.float32) for n in (120, 80, 11, 3)}
    texts = {"u120": "AB C D", "u80": "D", "u11": "ABC", "u3": "A"}

    def align(*names: str) -> tuple[dict[str, list[Word]], dict[str, str]]:
        batch = make_batch(list(names), [features[name] for name in names], [[] for _ in names])
        return align_transcripts(model, characters, [batch], texts)

    words, failed = align(*features)
    assert {name: [word.text for word in found] for name, found in words.items()} == {
        "u120": ["AB", "C", "D"],
        "u80": ["D"],
    }
    assert {**align("u120")[0], **align("u80")[0]} == words
    assert failed == {
        "u11": "2 tokens of audio are too few for 3 labels, which need 3",
        "u3": "0 tokens of audio are too few for 1 labels, which need 1",
    }
    assert align("u3") == ({}, {"u3": failed["u3"]})
