"""What the issue demands of the mini corpus, pinned on its plan: nothing needs to be synthesised for it."""

from collections import Counter

import pytest

from omnirouter.bin.prepare_corpus import get_parser
from omnirouter.corpora.mini_plan import (
    GRAMMAR,
    SNR_RANGE_DB,
    TURNS_PER_TAKE,
    VARIANTS,
    Spec,
    plan,
    set_of_sentence,
    takes,
)

SETS = ("train", "dev", "test")


def default_plan(set_name: str, seed: int = 0) -> list[Spec]:
    args = get_parser().parse_args(["mini"])
    return plan(set_name, getattr(args, f"{set_name}_utterances"), seed)


@pytest.fixture(scope="module")
def plans() -> dict[str, list[Spec]]:
    return {name: default_plan(name) for name in SETS}


def test_no_sentence_of_dev_or_test_occurs_in_train(plans: dict[str, list[Spec]]) -> None:
    sentences = {name: {spec.text for spec in plans[name]} for name in SETS}
    assert not sentences["train"] & (sentences["dev"] | sentences["test"])
    assert not sentences["dev"] & sentences["test"]
    assert len(sentences["train"]) > 3000 and len(sentences["test"]) > 1000


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_test_has_ten_thousand_words(seed: int) -> None:
    assert sum(len(spec.text.split()) for spec in default_plan("test", seed)) >= 10_000


def test_dev_has_1500_to_2000_words(plans: dict[str, list[Spec]]) -> None:
    assert 1500 <= sum(len(spec.text.split()) for spec in plans["dev"]) <= 2000


def test_sentences_are_three_to_nine_words_of_at_least_fifty_types(plans: dict[str, list[Spec]]) -> None:
    words = Counter(word for spec in plans["train"] for word in spec.text.split())
    assert 50 <= len(words) <= 90
    assert min(words.values()) >= 200
    assert all(word.isascii() and word.isalpha() and word.isupper() for word in words)
    for name in SETS:
        assert {len(spec.text.split()) for spec in plans[name]} <= set(range(3, 10))
        assert {word for spec in plans[name] for word in spec.text.split()} == set(words)


def test_every_symbol_of_the_grammar_is_defined_and_used() -> None:
    used = {part for options in GRAMMAR.values() for option in options for part in option.split() if part.islower()}
    assert used == GRAMMAR.keys() - {"sentence"}


def test_voices(plans: dict[str, list[Spec]]) -> None:
    speakers = {name: {spec.speaker for spec in plans[name]} for name in SETS}
    assert len(speakers["train"]) >= 40 and len(speakers["dev"]) >= 8 and len(speakers["test"]) >= 8
    for name in SETS:
        assert len({spec.accent for spec in plans[name]}) >= 4
        assert {spec.voice.split("+")[1] for spec in plans[name]} == set(VARIANTS[name])
        counts = Counter(spec.speaker for spec in plans[name])
        assert max(counts.values()) - min(counts.values()) <= 1
    variants = [variant for name in SETS for variant in VARIANTS[name]]
    assert len(variants) == len(set(variants)), "a variant belongs to one set: dev and test voices are unseen"


def test_variants_exist_in_espeak() -> None:
    loader = pytest.importorskip("espeakng_loader")
    from pathlib import Path

    existing = {path.name for path in (Path(loader.get_data_path()) / "voices" / "!v").iterdir()}
    assert {variant for names in VARIANTS.values() for variant in names} <= existing


def test_half_is_noisy_at_5_to_20_db(plans: dict[str, list[Spec]]) -> None:
    for name in SETS:
        snrs_db = [spec.snr_db for spec in plans[name] if spec.snr_db is not None]
        assert abs(len(snrs_db) / len(plans[name]) - 0.5) < 0.01
        assert SNR_RANGE_DB == (5.0, 20.0) and min(snrs_db) >= 5.0 and max(snrs_db) <= 20.0
        assert min(snrs_db) < 6.0 and max(snrs_db) > 19.0
        noisy_by_speaker = Counter(spec.speaker for spec in plans[name] if spec.snr_db is not None)
        assert noisy_by_speaker.keys() == {spec.speaker for spec in plans[name]}
        assert len({spec.noise for spec in plans[name] if spec.snr_db is not None}) == 5


def test_rate_and_pitch_vary(plans: dict[str, list[Spec]]) -> None:
    for name in SETS:
        assert len({spec.rate_wpm for spec in plans[name]}) > 20
        assert len({spec.pitch for spec in plans[name]}) > 20


def test_utterance_ids_are_unique_and_begin_with_the_speaker(plans: dict[str, list[Spec]]) -> None:
    specs = [spec for name in SETS for spec in plans[name]]
    assert len({spec.utt_id for spec in specs}) == len(specs)
    assert all(spec.utt_id.startswith(f"{spec.speaker}-") for spec in specs)


def test_a_larger_plan_contains_a_smaller_and_the_seed_matters() -> None:
    assert plan("train", 200, 0) == plan("train", 500, 0)[:200]
    same = sum(a.text == b.text for a, b in zip(plan("train", 200, 0), plan("train", 200, 1), strict=True))
    assert same < 20


def test_takes_hold_the_same_turns_of_one_voice_whatever_the_size(plans: dict[str, list[Spec]]) -> None:
    small, large = takes(plan("train", 2500, 0)), takes(plan("train", 5000, 0))
    assert sum(map(len, small)) == 2500 and max(map(len, large)) == TURNS_PER_TAKE
    heads = {take[0].utt_id: take for take in large}
    for take in small:
        assert len({spec.speaker for spec in take}) == 1
        assert take == heads[take[0].utt_id][: len(take)]


def test_the_set_of_a_sentence_never_changes() -> None:
    # The published results depend on this split.
    assert set_of_sentence("WHERE IS THE UMBRELLA") == "dev"
    assert set_of_sentence("IS THE WHITE CAMERA BEHIND THE OFFICE") == "test"
    assert set_of_sentence("PLEASE FIND THE WHITE LAMP") == "train"
