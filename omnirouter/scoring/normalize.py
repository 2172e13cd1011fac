"""Whisper's English text normaliser, from the 40 kB package `whisper-normalizer`.

The original, in `openai-whisper`, is built from source, imports torch and pulls in numba and llvmlite (over 200 MB).
The small package is a copy of it plus four rules, which are taken out here; a test compares what is left with the
original rule by rule.
"""

from functools import cache

from whisper_normalizer.english import EnglishTextNormalizer

RULES_NOT_WHISPERS = (r"\bcause\b", r"\bkinda\b", r"\bsorta\b", r"\bdunno\b")


@cache
def english_normalizer() -> EnglishTextNormalizer:
    """Return the normaliser with Whisper's own rules only."""
    normalizer = EnglishTextNormalizer()
    for rule in RULES_NOT_WHISPERS:
        del normalizer.replacers[rule]  # a KeyError means another version of the package than setup.py asks for
    return normalizer


def normalize_english(text: str) -> str:
    """Return `text` as Whisper's English normaliser leaves it: lower case, digits for number words, no punctuation."""
    return english_normalizer()(text).strip()
