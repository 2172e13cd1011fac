"""n-gram models: by hand, by what must hold, and as kenlm reads them."""

import random
from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.decoding.ngram import BEGIN, END, UNKNOWN, NgramModel, estimate_ngram


def text(sentences: int, seed: int) -> list[list[str]]:
    """Sentences of words that depend on the word before them, some words rare."""
    rng = random.Random(seed)
    made = []
    for _ in range(sentences):
        words = [f"w{int(rng.paretovariate(1))}"]
        while rng.random() < 0.85 and len(words) < 12:
            words.append(f"w{int(words[-1][1:]) % 7 + int(rng.paretovariate(1.2))}")
        made.append(words)
    return made


def prob(model: NgramModel, *words: str) -> float:
    return 10 ** model.log_prob(words[:-1], words[-1])


def test_two_sentences_by_hand() -> None:
    # Too few counts for discounts of their own: 0.5 and 1 are taken from n-grams seen once and twice.
    model = estimate_ngram([["a"], ["a", "b"]], order=2)
    # Words are counted by the words before them: a 1, b 1, </s> 2. Half of the mass goes to 4 equal shares.
    assert prob(model, "a") == prob(model, "b") == pytest.approx(0.5 / 4 + 0.5 / 4)
    assert prob(model, END) == pytest.approx(1 / 4 + 0.5 / 4)
    assert prob(model, UNKNOWN) == prob(model, "never") == pytest.approx(0.5 / 4)
    assert prob(model, BEGIN, "a") == pytest.approx(1 / 2 + 1 / 2 * 0.25)
    assert prob(model, "a", END) == pytest.approx(0.5 / 2 + 1 / 2 * 0.375)
    assert prob(model, "a", "b") == pytest.approx(0.5 / 2 + 1 / 2 * 0.25)
    assert prob(model, "b", "a") == pytest.approx(0.5 / 1 * 0.25)
    assert prob(model, "never", "a") == prob(model, "a")
    assert prob(model, "b", "a", "b") == prob(model, "a", "b")
    assert model.perplexity([["a"]]) == pytest.approx((0.625 * 0.4375) ** -0.5)  # of a and of </s>
    assert model.unknown([["a"], ["never", "b", "b"], []]) == 0.25 and model.unknown([[]]) == 0


def test_discounts_of_an_order_by_hand() -> None:
    # Sentences of one word: so often it follows <s>, and </s> follows it. Of bigrams, 8 occur once, 4 twice, 2 three
    # times, 2 four times.
    model = estimate_ngram([[word] for word in "abcdeeffggghhhh"], order=2)
    y = 8 / (8 + 2 * 4)
    one, two, more = 1 - 2 * y * 4 / 8, 2 - 3 * y * 2 / 4, 3 - 4 * y * 2 / 2
    word = 0.5 / 16 + (8 * 0.5 + 1.5) / 16 / 10  # each of 8 words follows one, </s> 8; 10 shares with </s> and <unk>
    left = (4 * one + 2 * two + 2 * more) / 15
    assert prob(model, BEGIN, "a") == pytest.approx((1 - one) / 15 + left * word)
    assert prob(model, BEGIN, "e") == pytest.approx((2 - two) / 15 + left * word)
    assert prob(model, BEGIN, "g") == pytest.approx((3 - more) / 15 + left * word)
    assert prob(model, BEGIN, "h") == pytest.approx((4 - more) / 15 + left * word)
    assert prob(model, BEGIN, "never") == pytest.approx(left * (8 * 0.5 + 1.5) / 16 / 10)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("sentences", [3, 400])
def test_probabilities_sum_to_one_after_every_context(order: int, sentences: int) -> None:
    model = estimate_ngram(text(sentences, seed=0), order)
    words = [word for (word,) in (ngram for ngram in model.log_probs if len(ngram) == 1) if word != BEGIN]
    contexts = {ngram[:-1] for ngram in model.log_probs} | {("w1", "never"), ("never", "w1")}
    assert max(map(len, contexts)) >= min(2, order - 1)
    for context in contexts:
        assert sum(prob(model, *context, word) for word in words) == pytest.approx(1, abs=1e-9), context


def test_held_out_text_of_the_same_kind_is_explained_better() -> None:
    train, held_out = text(400, seed=0), text(100, seed=1)
    reordered = [sorted(sentence) for sentence in train]
    perplexities = [estimate_ngram(sentences, 2).perplexity(held_out) for sentences in (reordered, train)]
    assert perplexities[1] < 0.9 * perplexities[0]


@pytest.mark.parametrize("order", [2, 3, 4])
def test_kenlm_reads_the_file_and_finds_the_same_perplexity(tmp_path: Path, order: int) -> None:
    kenlm = pytest.importorskip("kenlm")
    model = estimate_ngram(text(400, seed=0), order)
    model.write_arpa(tmp_path / "lm.arpa")
    read = kenlm.Model(str(tmp_path / "lm.arpa"))
    assert read.order == order
    held_out = [*text(100, seed=1), ["never", "w1", "heard"], []]
    words = sum(len(sentence) + 1 for sentence in held_out)
    log_prob = sum(read.score(" ".join(sentence), bos=True, eos=True) for sentence in held_out)
    assert any(word not in read for sentence in held_out for word in sentence)
    assert model.perplexity(held_out) == pytest.approx(10 ** (-log_prob / words), rel=1e-5)


def test_the_file_is_the_same_whatever_the_order_of_sentences(tmp_path: Path) -> None:
    sentences = text(50, seed=0)
    for name, order in (("a", sentences), ("b", sentences[::-1])):
        estimate_ngram(order, 3).write_arpa(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_order_that_no_sentence_has_is_lowered(tmp_path: Path) -> None:
    model = estimate_ngram([["a"], ["b"]], order=5)
    assert model.order == 3
    model.write_arpa(tmp_path / "lm.arpa")
    assert "ngram 3=2\n\n" in (tmp_path / "lm.arpa").read_text()


def test_what_cannot_be_a_model_is_refused() -> None:
    with pytest.raises(UserError, match="no words"):
        estimate_ngram([[], []], 2)
    with pytest.raises(UserError, match="the word <s>"):
        estimate_ngram([["a", "<s>"]], 2)
    with pytest.raises(UserError, match="order of 2 or more"):
        estimate_ngram([["a"]], 1)
