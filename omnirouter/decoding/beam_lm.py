"""An n-gram model of words as flashlight's decoder asks for it: scored unit by unit, at the ends of words."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import kenlm
from flashlight.lib.text.decoder import LM, LMState

from omnirouter.data.errors import UserError
from omnirouter.data.tokenizer import SPACE

END = "</s>"
FINISHED = -1


@cache
def load_ngram(path: Path) -> kenlm.Model:
    """Load an ARPA file or a kenlm binary; `UserError` if it is neither."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: give an ARPA file or a kenlm binary")
    quiet = kenlm.Config()
    quiet.show_progress, quiet.arpa_complain = False, kenlm.ARPALoadComplain.NONE
    try:
        return kenlm.Model(str(path), quiet)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not an n-gram model as ARPA file or kenlm binary: {reason}") from error


class _State(LMState):
    """What a hypothesis has said: the model's state after its whole words, and the units of a last one, joined."""

    __slots__ = ("ngram", "word", "after")

    def __init__(self, ngram: kenlm.State, word: str) -> None:
        super().__init__()
        self.ngram, self.word = ngram, word
        # The decoder knows hypotheses by their states: one that it asks for again must be the same object.
        self.after: dict[int, tuple[_State, float]] = {}


class TokenLm(LM):
    """Scores labels by the words that they end; weight: of the base-10 logarithm that kenlm gives."""

    def __init__(self, units: Sequence[str], ngram: kenlm.Model, weight: float, word_score: float) -> None:
        super().__init__()
        self._units = [(unit.startswith(SPACE), unit.removeprefix(SPACE)) for unit in units]
        self._ngram, self._weight, self._word_score = ngram, weight, word_score

    def start(self, start_with_nothing: bool) -> _State:  # noqa: ARG002 (flashlight's)
        """Return the state at the beginning of a sentence, from which all others of a search hang."""
        begin = kenlm.State()
        self._ngram.BeginSentenceWrite(begin)
        self._root = _State(begin, "")
        return self._root

    def score(self, state: _State, label: int) -> tuple[_State, float]:
        """Return the state after a label, and the score that it adds."""
        known = state.after.get(label)
        if known is None:
            begins, unit = self._units[label]
            if begins and state.word:
                ngram, score = self._end_word(state)
                known = _State(ngram, unit), score
            else:
                known = _State(state.ngram, state.word + unit), 0.0
            state.after[label] = known
        return known

    def finish(self, state: _State) -> tuple[_State, float]:
        """Return the state after the end of the sentence, and the score that it adds."""
        known = state.after.get(FINISHED)
        if known is None:
            ngram, score = self._end_word(state) if state.word else (state.ngram, 0.0)
            score += self._weight * self._ngram.BaseScore(ngram, END, kenlm.State())
            known = state.after[FINISHED] = _State(ngram, ""), score
        return known

    def _end_word(self, state: _State) -> tuple[kenlm.State, float]:
        ngram = kenlm.State()
        score = self._weight * self._ngram.BaseScore(state.ngram, state.word, ngram)
        return ngram, score + self._word_score
