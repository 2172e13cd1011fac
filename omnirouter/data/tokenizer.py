"""Text to CTC labels and back: sentencepiece BPE units, or characters. Label 0 is the blank."""

import io
import random
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_dir, atomic_write, digest

BLANK, UNKNOWN, SPACE = "<blank>", "<unk>", "▁"
OWN_NAMES = re.compile(f"{BLANK}|{UNKNOWN}")  # which sentencepiece takes out of the transcripts that it learns from
LEARNED_FROM = "learned_from"  # in a language directory: which transcripts, and their digest
TOKEN_TYPES = ("bpe", "char")
MOST_SENTENCES = 1_000_000  # from which BPE units are learned: 1 kB each in memory; LibriSpeech has 281 241 in all


class Tokenizer:
    """The tokenizer of a language directory: tokens.txt, and bpe.model where the units are BPE."""

    def __init__(self, lang_dir: Path) -> None:
        self.tokens = _read_tokens(lang_dir / "tokens.txt")
        self._index = {token: i for i, token in enumerate(self.tokens)}
        self._bpe = _load_bpe(lang_dir / "bpe.model") if (lang_dir / "bpe.model").exists() else None

    @property
    def unknown(self) -> int:
        """Label of what the tokenizer has no unit for."""
        return self._index[UNKNOWN]

    def encode(self, text: str) -> list[int]:
        """Labels of a transcript, without blanks."""
        if self._bpe is not None:
            return self._bpe.encode(text)
        return [self._index.get(character, self.unknown) for character in SPACE.join(text.split())]

    def encode_all(self, texts: Sequence[str], threads: int) -> list[list[int]]:
        """Labels of many transcripts, by so many threads where the units are BPE."""
        if self._bpe is not None:
            return self._bpe.encode(list(texts), num_threads=threads)
        return [self.encode(text) for text in texts]

    def decode(self, labels: Sequence[int]) -> str:
        """Words of a label sequence without blanks."""
        text = "".join(self.tokens[label] for label in labels)
        return " ".join(text.replace(SPACE, " ").split())


def train_tokenizer(
    texts: Iterable[str], token_type: str, vocab_size: int, output: Path, source: Path | None = None
) -> int:
    """Learn a tokenizer and write its language directory; returns the vocabulary size, blank included.

    source: the table that the texts are of; the directory then says so, for `check_learned_from`.
    bpe learns `vocab_size` units; char takes every character that occurs, and vocab_size is not used. Of more than
    `MOST_SENTENCES` transcripts bpe learns from so many, drawn at random, always the same; no character is left out.
    """
    with atomic_dir(output) as folder:
        if token_type == "bpe":
            tokens = _train_bpe(texts, vocab_size, folder / "bpe.model")
        else:
            characters: set[str] = set()
            for text in texts:
                characters.update("".join(text.split()))
            tokens = [BLANK, UNKNOWN, SPACE, *sorted(characters)]
        with atomic_write(folder / "tokens.txt") as file:
            file.writelines(f"{token} {i}\n" for i, token in enumerate(tokens))
        if source is not None:
            with atomic_write(folder / LEARNED_FROM) as file:
                file.write(f"{source} {digest(source)}\n")
    return len(tokens)


def check_learned_from(lang_dir: Path, text: Path, digest_of: Callable[[Path], str] = digest) -> None:
    """UserError when a language directory says that it was learned from other transcripts than this table's."""
    if not (lang_dir / LEARNED_FROM).exists() or not text.exists():
        return
    source, _, wanted = (lang_dir / LEARNED_FROM).read_text(encoding="utf-8").strip().rpartition(" ")
    if digest_of(text) != wanted:
        raise UserError(
            f"{lang_dir} was learned from {source}, not from {text} as it is now; learn it anew with --stage 3, or, to "
            f"train with these units all the same, delete {lang_dir / LEARNED_FROM}"
        )


class _Sample:
    """A uniform sample of at most `MOST_SENTENCES` texts in constant memory (reservoir sampling, Vitter's R)."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts: list[str] = []
        self.total = 0
        characters: set[str] = set()
        rng = random.Random(0)
        for self.total, text in enumerate(texts, start=1):
            characters.update(text)
            if len(self.texts) < MOST_SENTENCES:
                self.texts.append(text)
            elif (place := rng.randrange(self.total)) < MOST_SENTENCES:
                self.texts[place] = text
        seen = (OWN_NAMES.sub("", text) for text in self.texts)
        self.left_out = "".join(sorted(characters.difference(*seen, " ")))
        """Characters that occur only in other texts, or in words such as <unk>: sentencepiece does not see these."""


def _train_bpe(texts: Iterable[str], vocab_size: int, path: Path) -> list[str]:
    import sentencepiece

    sample = _Sample(texts)
    rare = {"required_chars": sample.left_out} if sample.left_out else {}  # an option is stored, even one without use
    model = io.BytesIO()  # no file names in the trainer's settings: they are stored in the model, which must not vary
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sample.texts), model_writer=model, model_type="bpe", vocab_size=vocab_size,
            character_coverage=1.0, pad_id=0, pad_piece=BLANK, unk_id=1, unk_piece=UNKNOWN, bos_id=-1, eos_id=-1,
            normalization_rule_name="identity", num_threads=1, minloglevel=2, **rare,
        )  # fmt: skip
    except RuntimeError as error:
        raise UserError(
            f"sentencepiece cannot learn {vocab_size} units from {len(sample.texts)} transcripts; {_advice(str(error))}"
        ) from error
    with atomic_write(path, "wb") as file:
        file.write(model.getvalue())
    bpe = _load_bpe(path)
    return [bpe.id_to_piece(i) for i in range(bpe.get_piece_size())]


def _advice(complaint: str) -> str:
    """What to do about a complaint of sentencepiece's trainer."""
    if most := re.search(r"too high .* <= (\d+)", complaint):
        return f"give --vocab-size {most[1]} or less (these transcripts allow {most[1]} units), or --token-type char"
    if least := re.search(r"smaller than required_chars\. \d+ vs (\d+)", complaint):
        return f"give --vocab-size {least[1]} or more (a unit for each character), or --token-type char"
    return f"give another --vocab-size, or --token-type char ({complaint})"


def _load_bpe(path: Path):  # noqa: ANN202 (sentencepiece is imported where it is used)
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def _read_tokens(path: Path) -> list[str]:
    if not path.exists():
        raise UserError(f"{path} does not exist; stage 3 makes it")
    rows = [line.rsplit(" ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        if len(row) != 2 or row[1] != str(number):
            raise UserError(f"{path}:{number + 1}: expected 'token {number}'")
    return [token for token, _ in rows]
