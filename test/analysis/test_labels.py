"""Labels of tokens."""

from pathlib import Path

import numpy as np

from omnirouter.analysis.assignments import Assignments, make_assignments
from omnirouter.analysis.labels import (
    UNKNOWN,
    Labels,
    phone_at,
    phone_labels,
    set_labels,
    silence_labels,
    unit_labels,
    utterance_labels,
)
from omnirouter.analysis.routing import SetRouting
from omnirouter.decoding.ctm import Word


def assign(**tokens: int) -> Assignments:
    return make_assignments({utt_id: np.zeros((1, n), int) for utt_id, n in tokens.items()}, [1], [2], 0.04)


def names(labels: Labels) -> list[str | None]:
    return [None if i == UNKNOWN else labels.values[i] for i in labels.index_T]


def test_silence_is_quiet_within_its_utterance() -> None:
    clean, noisy = [-100.0, -100.0, 0.0, -29.0, -31.0, 0.0], [48.0, 51.0, 60.0, 40.0]
    labels = silence_labels(np.array(clean + noisy), assign(a=6, b=0, c=4))
    assert labels.index_T.tolist() == [1, 1, 0, 0, 1, 0] + [1, 0, 0, 1]


def test_a_token_has_the_phone_at_its_middle() -> None:
    phones = [Word(0.0, 0.05, "a"), Word(0.05, 0.05, "b"), Word(0.2, 0.1, "c")]
    assert phone_at(phones, np.array([0.0, 0.049, 0.05, 0.15, 0.2, 0.31])) == ["a", "a", "b", None, "c", None]
    assert phone_at([], np.array([0.1])) == [None]
    # Tokens of 40 ms whose middles lie at 27.5, 67.5, 107.5 … ms, as each frame's window of 25 ms begins 10 ms later.
    edge = [Word(0.0, 0.0274, "early"), Word(0.0274, 0.05, "late")]
    assert names(phone_labels({"b": edge}, assign(a=1, b=3))) == [None, "late", "late", None]


def test_units_are_those_of_the_alignment() -> None:
    assert names(unit_labels({"b": [0, 2, 2]}, ["<blank>", "x", "y"], assign(a=2, b=3))) == [
        None, None, "<blank>", "y", "y",
    ]  # fmt: skip


def test_labels_of_utterances_are_repeated_over_their_tokens() -> None:
    labels = utterance_labels("speaker", {"a": "s2", "c": "s1"}, assign(a=2, b=1, c=2))
    assert names(labels) == ["s2", "s2", None, "s1", "s1"]
    assert labels.bearer_T is not None and labels.bearer_T.tolist() == [0, 0, 1, 2, 2]


def test_a_set_has_the_labels_that_its_directory_allows(tmp_path: Path) -> None:
    routing = SetRouting([], assign(a=1, b=1), np.zeros(2), {})
    assert [labels.name for labels in set_labels(routing, [], tmp_path)] == ["silence"]
    (tmp_path / "utt2spk").write_text("a s1\nb s2\n")
    (tmp_path / "spk2accent").write_text("s1 scottish\ns2 us\n")
    (tmp_path / "utt2noise").write_text("a babble 11.5\nb clean\n")
    (tmp_path / "phones.ctm").write_text("a 1 0.000 0.100 ɪ\n", encoding="utf-8")
    routing = SetRouting([], assign(a=1, b=1), np.zeros(2), {"a": [1]})
    found = {labels.name: names(labels) for labels in set_labels(routing, ["<blank>", "x"], tmp_path)}
    assert found == {
        "silence": ["speech", "speech"],
        "phone": ["ɪ", None],
        "unit": ["x", None],
        "speaker": ["s1", "s2"],
        "accent": ["scottish", "us"],
        "noise": ["babble", "clean"],
    }
