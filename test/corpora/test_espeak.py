"""eSpeak NG: the same prompts give the same samples whatever was said before, and mistakes are named."""

import os
from pathlib import Path

import numpy as np
import pytest

espeakng_loader = pytest.importorskip("espeakng_loader")

from omnirouter.corpora import espeak  # noqa: E402
from omnirouter.corpora.espeak import Prompt, synthesise  # noqa: E402
from omnirouter.data.errors import UserError  # noqa: E402

# Flutter, echo and breath are what eSpeak carries over from one prompt to the next.
PROMPTS = [Prompt("hello world", f"en-us+{variant}", 150) for variant in ("f1", "f2", "grandma", "Alicia")]


def test_what_was_said_before_leaves_no_trace() -> None:
    first = [synthesise([prompt])[0] for prompt in PROMPTS]
    again = [synthesise([prompt])[0] for prompt in reversed(PROMPTS)][::-1]
    for before, after in zip(first, again, strict=True):
        np.testing.assert_array_equal(before, after)
    in_one_go = synthesise(PROMPTS)
    np.testing.assert_array_equal(in_one_go[0], first[0])
    np.testing.assert_array_equal(synthesise(PROMPTS[:2])[1], in_one_go[1])


def test_rate_and_pitch_are_applied() -> None:
    slow, fast = synthesise([Prompt("one two three", "en", rate_wpm=100), Prompt("one two three", "en", rate_wpm=200)])
    assert len(slow) / espeak.SAMPLE_RATE_HZ > 1.2 * len(fast) / espeak.SAMPLE_RATE_HZ > 0.4
    low, high = (synthesise([Prompt("a", "en+m3", pitch=pitch)])[0] for pitch in (10, 90))
    assert _fundamental_hz(high) > 1.3 * _fundamental_hz(low)


def _fundamental_hz(samples: np.ndarray) -> float:
    """The strongest period of a vowel between 60 and 350 Hz."""
    x = samples.astype(float)
    correlation = np.correlate(x, x, "full")[len(x) - 1 :]
    shortest, longest = espeak.SAMPLE_RATE_HZ // 350, espeak.SAMPLE_RATE_HZ // 60
    return espeak.SAMPLE_RATE_HZ / (shortest + int(np.argmax(correlation[shortest:longest])))


def test_unknown_variants_and_languages_are_refused() -> None:
    with pytest.raises(UserError, match="no voice variant 'nobody'"):
        synthesise([Prompt("a", "en-us+nobody")])
    with pytest.raises(UserError, match="xx-none"):
        synthesise([Prompt("a", "xx-none")])


def test_a_data_path_longer_than_espeaks_buffer_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = synthesise(PROMPTS[:1])[0]
    far = tmp_path / ("x" * 120) / ("y" * 120)
    far.mkdir(parents=True)
    (far / "data").symlink_to(espeakng_loader.get_data_path())
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(far / "data"))
    espeak._library.cache_clear()
    try:
        np.testing.assert_array_equal(synthesise(PROMPTS[:1])[0], expected)
    finally:
        espeak._library.cache_clear()


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "espeakng_loader", None)
    with pytest.raises(UserError, match=r"espeakng-loader.*omnirouter\[mini\]"):
        synthesise([Prompt("a", "en")])


def test_no_children_and_descriptors_are_left() -> None:
    synthesise(PROMPTS[:1])
    before = len(os.listdir("/proc/self/fd"))
    synthesise(PROMPTS[:2])
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
