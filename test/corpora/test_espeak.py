"""eSpeak NG: the same prompts give the same samples whatever was said before, and mistakes are named."""

import itertools
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
    first = [synthesise([prompt])[0].samples for prompt in PROMPTS]
    again = [synthesise([prompt])[0].samples for prompt in reversed(PROMPTS)][::-1]
    for before, after in zip(first, again, strict=True):
        np.testing.assert_array_equal(before, after)
    in_one_go = synthesise(PROMPTS)
    np.testing.assert_array_equal(in_one_go[0].samples, first[0])
    np.testing.assert_array_equal(synthesise(PROMPTS[:2])[1].samples, in_one_go[1].samples)


def test_rate_and_pitch_are_applied() -> None:
    slow, fast = synthesise([Prompt("one two three", "en", rate_wpm=100), Prompt("one two three", "en", rate_wpm=200)])
    slow_s, fast_s = (len(spoken.samples) / espeak.SAMPLE_RATE_HZ for spoken in (slow, fast))
    assert slow_s > 1.2 * fast_s > 0.4
    low, high = (synthesise([Prompt("a", "en+m3", pitch=pitch)])[0].samples for pitch in (10, 90))
    assert _fundamental_hz(high) > 1.3 * _fundamental_hz(low)


def _fundamental_hz(samples: np.ndarray) -> float:
    """The strongest period of a vowel between 60 and 350 Hz."""
    x = samples.astype(float)
    correlation = np.correlate(x, x, "full")[len(x) - 1 :]
    shortest, longest = espeak.SAMPLE_RATE_HZ // 350, espeak.SAMPLE_RATE_HZ // 60
    return espeak.SAMPLE_RATE_HZ / (shortest + int(np.argmax(correlation[shortest:longest])))


def test_phonemes_come_in_order_with_their_times() -> None:
    [spoken] = synthesise([Prompt("see me", "en-us", rate_wpm=120)])
    times_s, phones = zip(*spoken.phones, strict=True)
    assert [phone for phone in phones if phone] == ["s", "iː", "m", "iː"]
    assert list(times_s) == sorted(times_s) and times_s[-1] <= len(spoken.samples) / espeak.SAMPLE_RATE_HZ
    energies = {
        phone: np.abs(np.diff(spoken.samples[round(start * 22050) : round(end * 22050)].astype(float))).mean()
        / np.abs(spoken.samples[round(start * 22050) : round(end * 22050)].astype(float)).mean()
        for (start, phone), (end, _) in itertools.pairwise(spoken.phones)
        if phone
    }
    assert energies["s"] > 2 * max(energies["iː"], energies["m"])  # a hiss changes from sample to sample


def test_unknown_variants_and_languages_are_refused() -> None:
    with pytest.raises(UserError, match="no voice variant 'nobody'"):
        synthesise([Prompt("a", "en-us+nobody")])
    with pytest.raises(UserError, match="xx-none"):
        synthesise([Prompt("a", "xx-none")])


def test_a_data_path_longer_than_espeaks_buffer_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = synthesise(PROMPTS[:1])[0].samples
    far = tmp_path / ("x" * 120) / ("y" * 120)
    far.mkdir(parents=True)
    (far / "data").symlink_to(espeakng_loader.get_data_path())
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(far / "data"))
    espeak._library.cache_clear()
    try:
        np.testing.assert_array_equal(synthesise(PROMPTS[:1])[0].samples, expected)
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
