"""n-gram models of words: interpolated modified Kneser–Ney, as Chen and Goodman (1998) and kenlm's lmplz have it.

p(w | h) = (a(hw) − D(a(hw))) / Σ_v a(hv) + γ(h) p(w | h'), where h' is h without its first word. a is the count of an
n-gram for the highest order and for what begins a sentence, else the number of words that it follows. D is one of three
discounts of an order, for a = 1, 2 and more, and γ(h) is what they take. Below the unigrams is the uniform distribution
over the words, </s> and <unk>: its share is what an unknown word has. All counts are held in memory.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_write

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
NEVER = -99.0
"""Base-10 logarithm that ARPA files give for nothing: <s> is never predicted."""
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Of an order whose counts are too few to estimate them from: lmplz's --discount_fallback."""

Ngram = tuple[str, ...]


@dataclass(frozen=True)
class NgramModel:
    """Base-10 logarithms of interpolated probabilities, and of the weight of the next lower order after a context."""

    order: int
    log_probs: dict[Ngram, float]
    backoffs: dict[Ngram, float]

    def log_prob(self, context: Ngram, word: str) -> float:
        """Base-10 logarithm of the probability of a word, or of </s>, after a context of any length."""
        context = context[max(0, len(context) - self.order + 1) :]
        if (word,) not in self.log_probs:
            word = UNKNOWN
        backoff = 0.0
        while (*context, word) not in self.log_probs:
            backoff += self.backoffs.get(context, 0.0)
            context = context[1:]
        return backoff + self.log_probs[(*context, word)]

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """Perplexity of sentences, their ends counted, unknown words included."""
        log_probs = [
            self.log_prob((BEGIN, *sentence[:i]), word)
            for sentence in sentences
            for i, word in enumerate([*sentence, END])
        ]
        return 10 ** (-math.fsum(log_probs) / len(log_probs))

    def unknown(self, sentences: Iterable[Sequence[str]]) -> float:
        """Share of the words of sentences that the model does not know."""
        unknown = [(word,) not in self.log_probs for sentence in sentences for word in sentence]
        return sum(unknown) / max(1, len(unknown))

    def write_arpa(self, path: Path) -> None:
        """Write as ARPA file, n-grams in order."""
        by_order: dict[int, list[Ngram]] = defaultdict(list)
        for ngram in sorted(self.log_probs):
            by_order[len(ngram)].append(ngram)
        with atomic_write(path) as file:
            file.write("\\data\\\n" + "".join(f"ngram {n}={len(by_order[n])}\n" for n in range(1, self.order + 1)))
            for n in range(1, self.order + 1):
                file.write(f"\n\\{n}-grams:\n")
                for ngram in by_order[n]:
                    backoff = f"\t{self.backoffs[ngram]:.7f}" if ngram in self.backoffs else ""
                    file.write(f"{self.log_probs[ngram]:.7f}\t{' '.join(ngram)}{backoff}\n")
            file.write("\n\\end\\\n")


def estimate_ngram(sentences: Iterable[Sequence[str]], order: int) -> NgramModel:
    """Estimate a model of the given order from sentences, lower where none is so long; `UserError` without a word."""
    if order < 2:  # kenlm reads no lower one
        raise UserError(f"an n-gram model has an order of 2 or more, not {order}")
    counts = _adjusted_counts(sentences, order)
    words = {ngram for ngram in counts[0] if ngram != (END,)}
    if not words:
        raise UserError("there are no words to estimate an n-gram model from")
    uniform = 1 / (len(words) + 2)
    probs: dict[Ngram, float] = {}
    weights: dict[Ngram, float] = {}
    for level in counts:
        discounted, lower_weights = _discount(level)
        for ngram, prob in discounted.items():
            probs[ngram] = prob + lower_weights[ngram[:-1]] * (probs[ngram[1:]] if len(ngram) > 1 else uniform)
        weights |= lower_weights
    probs[(UNKNOWN,)] = weights.pop(()) * uniform
    log_probs = {ngram: math.log10(prob) for ngram, prob in probs.items()} | {(BEGIN,): NEVER}
    return NgramModel(len(counts), log_probs, {context: math.log10(weight) for context, weight in weights.items()})


def _adjusted_counts(sentences: Iterable[Sequence[str]], order: int) -> list[Counter[Ngram]]:
    """Return a(n-gram) for each order from 1."""
    counts: list[Counter[Ngram]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        if reserved := {BEGIN, END, UNKNOWN}.intersection(sentence):
            raise UserError(f"the text has the word {min(reserved)}, which an n-gram model means otherwise; remove it")
        padded = (BEGIN, *sentence, END)
        for n in range(1, order + 1):
            counts[n - 1].update(padded[i : i + n] for i in range(len(padded) - n + 1))
    del counts[0][(BEGIN,)]  # it is given, not predicted
    for n in range(order - 1):
        followed = Counter(ngram[1:] for ngram in counts[n + 1])
        counts[n] = Counter({ng: count if ng[0] == BEGIN else followed[ng] for ng, count in counts[n].items()})
    return [level for level in counts if level]


def _discount(counts: Counter[Ngram]) -> tuple[dict[Ngram, float], dict[Ngram, float]]:
    """Return the discounted relative frequencies of an order's n-grams, and γ of their contexts."""
    discounts = _discounts(counts)
    totals: dict[Ngram, float] = defaultdict(float)
    taken: dict[Ngram, float] = defaultdict(float)
    for ngram, count in counts.items():
        totals[ngram[:-1]] += count
        taken[ngram[:-1]] += discounts[min(count, 3) - 1]
    probs = {ng: (count - discounts[min(count, 3) - 1]) / totals[ng[:-1]] for ng, count in counts.items()}
    return probs, {context: taken[context] / total for context, total in totals.items()}


def _discounts(counts: Counter[Ngram]) -> Sequence[float]:
    """Return the discounts for counts of 1, 2, and 3 or more from how many n-grams have which."""
    of = Counter(counts.values())
    if not all(of[k] for k in (1, 2, 3)):
        return FALLBACK_DISCOUNTS
    y = of[1] / (of[1] + 2 * of[2])
    discounts = [k - (k + 1) * y * of[k + 1] / of[k] for k in (1, 2, 3)]
    return discounts if all(0 < d < k for k, d in enumerate(discounts, start=1)) else FALLBACK_DISCOUNTS
