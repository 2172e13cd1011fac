"""Tokenizers: round trips, the blank, reproducible files, clear errors."""

import re
import tracemalloc
from pathlib import Path

import pytest

from omnirouter.data import streams
from omnirouter.data import tokenizer as module
from omnirouter.data.errors import UserError
from omnirouter.data.tokenizer import Tokenizer, check_learned_from, train_tokenizer

TEXTS = ["THE CAT SAT ON THE MAT", "A CAT AND A HAT", "THAT HAT IS FLAT", "ÉTÉ"]


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_round_trip_and_blank(tmp_path: Path, kind: str) -> None:
    size = train_tokenizer(TEXTS, kind, 30, tmp_path / "lang")
    tokenizer = Tokenizer(tmp_path / "lang")
    assert tokenizer.tokens[:2] == ["<blank>", "<unk>"] and len(tokenizer.tokens) == size
    for text in TEXTS:
        labels = tokenizer.encode(text)
        assert 0 not in labels and 1 not in labels
        assert tokenizer.decode(labels) == text


def test_characters_by_hand(tmp_path: Path) -> None:
    assert train_tokenizer(["AB A", "B"], "char", 0, tmp_path / "lang") == 5
    assert (tmp_path / "lang/tokens.txt").read_text(encoding="utf-8") == "<blank> 0\n<unk> 1\n▁ 2\nA 3\nB 4\n"
    assert Tokenizer(tmp_path / "lang").encode("A  BZ") == [3, 2, 4, 1]


def test_bpe_files_are_the_same_every_time_and_everywhere(tmp_path: Path) -> None:
    for name in ("a", "elsewhere/b"):
        train_tokenizer(TEXTS, "bpe", 30, tmp_path / name)
    for name in ("tokens.txt", "bpe.model"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "elsewhere/b" / name).read_bytes()


def test_bpe_tokens_are_those_of_sentencepiece(tmp_path: Path) -> None:
    import sentencepiece

    train_tokenizer(TEXTS, "bpe", 30, tmp_path / "lang")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "lang/bpe.model"))
    tokenizer = Tokenizer(tmp_path / "lang")
    assert [processor.piece_to_id(token) for token in tokenizer.tokens] == list(range(30))
    assert tokenizer.decode(tokenizer.encode("A MAT")) == processor.decode(processor.encode("A MAT"))


def test_text_is_neither_normalised_nor_are_rare_letters_left_out(tmp_path: Path) -> None:
    texts = ["THE CAT SAT ON THE MAT"] * 2000 + ["ﬁ ½ Å Q"]  # NFKC would have: fi, 1⁄2, Å; Q is one letter in 30 000
    train_tokenizer(texts, "bpe", 40, tmp_path / "lang")
    tokenizer = Tokenizer(tmp_path / "lang")
    labels = tokenizer.encode("ﬁ ½ Å Q")
    assert 1 not in labels and tokenizer.decode(labels) == "ﬁ ½ Å Q"


def test_words_that_are_called_like_sentencepieces_own_units_can_be_written(tmp_path: Path) -> None:
    """As in TED-LIUM; their characters occur nowhere else."""
    texts = ["HE SAID <unk> TO ME", "<blank> SAID HE"] * 20
    train_tokenizer(texts, "bpe", 30, tmp_path / "lang")
    tokenizer = Tokenizer(tmp_path / "lang")
    for text in (*texts[:2], "<unk><blank>"):
        labels = tokenizer.encode(text)
        assert not {0, 1} & set(labels) and tokenizer.decode(labels) == text
    assert len(set(tokenizer.tokens)) == 30


def test_of_many_transcripts_units_are_learned_from_a_sample_but_no_character_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first half of the transcripts has other letters than the second: a sample knows both, the first ones not."""
    texts = ["ABBA CAB"] * 3000 + ["FEED DEF"] * 3000 + ["Å½"]
    monkeypatch.setattr(module, "MOST_SENTENCES", 500)
    sample = module._Sample(texts)
    counts = [sample.texts.count(text) for text in (texts[0], texts[-2])]
    assert sum(counts) == 500 and abs(counts[0] - 250) < 56 and sample.total == 6001  # five standard deviations
    assert sample.left_out == "½Å" and module._Sample(texts).texts == sample.texts
    for name in ("a", "b"):
        train_tokenizer(iter(texts), "bpe", 25, tmp_path / name)
        assert {"Å", "½", "A", "F"} < set(Tokenizer(tmp_path / name).tokens)
    assert (tmp_path / "a/bpe.model").read_bytes() == (tmp_path / "b/bpe.model").read_bytes()
    assert Tokenizer(tmp_path / "a").decode(Tokenizer(tmp_path / "a").encode(texts[-1])) == texts[-1]


def test_a_set_up_to_the_sample_is_taken_whole_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_tokenizer(TEXTS, "bpe", 30, tmp_path / "a")
    monkeypatch.setattr(module, "MOST_SENTENCES", len(TEXTS))
    train_tokenizer(TEXTS, "bpe", 30, tmp_path / "b")
    assert module._Sample(TEXTS).texts == TEXTS
    assert (tmp_path / "a/bpe.model").read_bytes() == (tmp_path / "b/bpe.model").read_bytes()


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_memory_does_not_grow_with_the_transcripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Of the command's Python objects; sentencepiece's are those of the sample."""
    monkeypatch.setattr(module, "MOST_SENTENCES", 1000)
    monkeypatch.setattr(streams, "BLOCK_LINES", 1000)
    peaks = []
    for count in (10, 20_000, 40_000):  # the first imports
        (tmp_path / "text").write_text("".join(f"utt{i:07d} {'SOME WORDS ' * 9}{i}\n" for i in range(count)))
        tracemalloc.start()
        train_tokenizer(streams.read_values(tmp_path / "text"), kind, 25, tmp_path / "lang")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 20_000 * 10 and peaks[2] < 2**21


def test_too_many_units_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="5000 units") as error:
        train_tokenizer(TEXTS, "bpe", 5000, tmp_path / "lang")
    assert not list(tmp_path.iterdir())
    most = int(re.search(r"give --vocab-size (\d+) or less", str(error.value))[1])
    assert "--token-type char" in str(error.value) and "INTERNAL" not in str(error.value)
    assert train_tokenizer(TEXTS, "bpe", most, tmp_path / "lang") == most
    with pytest.raises(UserError):
        train_tokenizer(TEXTS, "bpe", most + 1, tmp_path / "lang")


def test_too_few_units_for_the_characters_says_how_many_are_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="or more") as error:
        train_tokenizer(TEXTS, "bpe", 5, tmp_path / "lang")
    least = int(re.search(r"give --vocab-size (\d+) or more", str(error.value))[1])
    assert train_tokenizer(TEXTS, "bpe", least, tmp_path / "lang") == least


def test_a_damaged_token_list_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text("<blank> 0\nA 7\n")
    with pytest.raises(UserError, match=r"tokens\.txt:2"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_units_know_what_they_were_learned_from(tmp_path: Path, kind: str) -> None:
    upper, cased = tmp_path / "a b/text", tmp_path / "cased/text"
    for path, text in ((upper, "u1 THE CAT SAT ON A MAT\n"), (cased, "u1 The cat sat on a mat.\n")):
        path.parent.mkdir()
        path.write_text(text)
    train_tokenizer(streams.read_values(upper), kind, 20, tmp_path / "lang", upper)
    check_learned_from(tmp_path / "lang", upper)
    with pytest.raises(UserError, match=f"lang was learned from {upper}, not from {cased} as it is now; .* --stage 3"):
        check_learned_from(tmp_path / "lang", cased)
    upper.write_text("u1 THE CAT SAT ON A HAT\n")
    with pytest.raises(UserError, match="as it is now"):
        check_learned_from(tmp_path / "lang", upper)
    (tmp_path / "lang/learned_from").unlink()  # as the message says
    check_learned_from(tmp_path / "lang", cased)
