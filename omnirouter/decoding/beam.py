"""Beam search over CTC log-probabilities, with or without an n-gram model of words: flashlight-text's decoder.

Of the decoder's two searches this is the one without a lexicon: that with one takes a word's last unit for one frame
only, so that its scores are not those of CTC, and it cannot write a word that its lexicon lacks. A hypothesis scores

    ln p(labels | audio) + lm_weight · ln p(words, end of sentence) + word_score · words

where p(labels | audio) sums over all paths, and a word is scored by the n-gram model when the unit after it begins.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from omnirouter.data.dataset import Batch
from omnirouter.data.errors import UserError
from omnirouter.data.jobs import available_cores
from omnirouter.data.loading import loader
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.decoding.posteriors import Posterior, posteriors
from omnirouter.models.ctc import BLANK, CtcModel


@dataclass(frozen=True)
class Search:
    """How to search."""

    beam_size: int = 50
    """Most hypotheses kept after each frame."""
    labels: int = 20
    """Most labels that a hypothesis is continued by at a frame, the most probable ones."""
    label_threshold: float = 8.0
    """A label that is less probable than the best one at its frame by more than this, in nats, is left out."""
    threshold: float = 15.0
    """A hypothesis that scores less than the best one by more than this, in nats, is dropped."""
    lm: Path | None = None
    """ARPA file or kenlm binary; None: no language model."""
    lm_weight: float = 0.0
    word_score: float = 0.0

    def __post_init__(self) -> None:
        if self.beam_size < 1:
            raise UserError(f"a beam of {self.beam_size} hypotheses: give 1 or more")


@dataclass(frozen=True)
class Hypothesis:
    """The best label sequence found, without blanks, and its score in nats."""

    labels: list[int]
    score: float


def beam_search(posterior: Posterior, units: Sequence[str], search: Search) -> Hypothesis:
    """Search for the best hypothesis of one utterance; `units` are the tokenizer's, by label."""
    if not len(posterior.labels_TK):
        return Hypothesis([], 0.0)
    label_of, log_probs_TC, widths = _columns(posterior, search.label_threshold)
    decoder, lm = _decoder(tuple(units), search)
    if search.lm:
        lm.label_of = label_of
    decoder.decode_begin()
    for frame, width in zip(log_probs_TC, widths, strict=True):
        decoder.decode_step(frame.ctypes.data, 1, width)
    decoder.decode_end()
    best = decoder.get_all_final_hypothesis()[0]
    columns = (column for column, _ in itertools.groupby(best.tokens[1:-1]))  # between two marks of the decoder's
    return Hypothesis([label_of[column] for column in columns if column != BLANK], best.score)


def _columns(posterior: Posterior, threshold: float) -> tuple[list[int], np.ndarray, list[int]]:
    """Give the labels that are probable anywhere a column each, the blank first, then the more frequent ones.

    Returns the label of each of C columns, log-probabilities (T, C), and how many columns a frame needs: the decoder
    asks the language model for every column that it is given, which is where the time goes.
    """
    labels, log_probs = posterior.labels_TK, posterior.log_probs_TK
    frames, places = np.nonzero(log_probs >= log_probs.max(axis=1, keepdims=True) - threshold)
    uses = np.bincount(labels[frames, places], minlength=posterior.vocab_size)
    uses[BLANK] = len(labels) + 1
    label_of = np.argsort(-uses, kind="stable")[: np.count_nonzero(uses)]
    column_of = np.zeros(posterior.vocab_size, int)
    column_of[label_of] = np.arange(len(label_of))
    columns = column_of[labels[frames, places]]
    log_probs_TC = np.full((len(labels), len(label_of)), -np.inf, np.float32)
    log_probs_TC[frames, columns] = log_probs[frames, places]
    widths = np.zeros(len(labels), int)
    np.maximum.at(widths, frames, columns + 1)
    return label_of.tolist(), log_probs_TC, widths.tolist()


def beam_decode(
    model: CtcModel, tokenizer: Tokenizer, batches: Iterable[Batch], search: Search
) -> Iterator[dict[str, str]]:
    """Decode batches, all at once, giving each utterance's hypothesis by its id; the model must be in eval mode."""
    utt_ids, found = [], []
    for utt_id, posterior in posteriors(model, batches, search.labels):
        utt_ids.append(utt_id)
        found.append(posterior)
    for utt_id, text in zip(utt_ids, search_all(found, tokenizer, search), strict=True):
        yield {utt_id: text}


def search_all(found: Sequence[Posterior], tokenizer: Tokenizer, search: Search) -> Iterator[str]:
    """Yield the words of the best hypothesis of each utterance, in order, searching on all cores."""
    _decoder(tuple(tokenizer.tokens), search)  # what is wrong with the model shows here, not in a worker
    cores = min(available_cores(), len(found))
    data = _Searches(found, tokenizer.tokens, search)
    yield from map(tokenizer.decode, loader(data, range(len(found)), cores if cores > 1 else 0))


class _Searches(Dataset):
    """The best hypothesis of each utterance, as labels."""

    def __init__(self, found: Sequence[Posterior], units: Sequence[str], search: Search) -> None:
        self._found, self._units, self._search = found, units, search

    def __getitem__(self, index: int) -> list[int]:
        return beam_search(self._found[index], self._units, self._search).labels


@lru_cache(maxsize=1)
def _decoder(units: tuple[str, ...], search: Search) -> tuple[Any, Any]:
    """Return flashlight's decoder and its language model, which it needs but does not keep alive."""
    flashlight, beam_lm = _packages()
    lm = flashlight.ZeroLM()
    if search.lm:
        weight = search.lm_weight * math.log(10)
        lm = beam_lm.TokenLm(units, beam_lm.load_ngram(search.lm), weight, search.word_score)
    options = flashlight.LexiconFreeDecoderOptions(
        beam_size=search.beam_size,
        beam_size_token=min(search.labels, len(units)),
        beam_threshold=search.threshold,
        lm_weight=1.0,  # the model has applied its weights itself
        sil_score=0.0,
        log_add=True,
        criterion_type=flashlight.CriterionType.CTC,
    )
    no_silence = -1
    return flashlight.LexiconFreeDecoder(options, lm, no_silence, BLANK, []), lm


def unknown_share(lm: Path, texts: Iterable[str]) -> float:
    """Return the share of the words of transcripts that a language model does not know."""
    _, beam_lm = _packages()
    ngram = beam_lm.load_ngram(lm)
    unknown = [word not in ngram for text in texts for word in text.split()]
    return sum(unknown) / max(1, len(unknown))


def _packages() -> tuple[Any, Any]:
    """Return flashlight's decoder and `beam_lm`, which imports kenlm; `UserError` without either."""
    try:
        from flashlight.lib.text import decoder as flashlight

        from omnirouter.decoding import beam_lm
    except ImportError as error:
        raise UserError(
            f"beam search lacks a package ({error}): pip install 'omnirouter[lm]', or bash tools/install.sh --extras lm"
        ) from error
    return flashlight, beam_lm
