from pathlib import Path

import pytest

from omnirouter.scoring.normalize import RULES_NOT_WHISPERS, english_normalizer, normalize_english


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B A O Z FIVE THREE", "b a 0 z 53"),
        ("RUBOUT G M E F THREE NINE", "rubout g m e f 39"),
        ("let's go, um, to the Theatre!", "let us go to the theater"),
        ("won't can't I'd've", "will not can not i would have"),
        ("twenty-one dollars and fifty cents", "$21.50"),
        ("two hundred and five", "205"),
        ("the nineteen eighties", "the 1980s"),
        ("Mr. Smith colour [noise] (laughs)", "mister smith color"),
        ("café", "cafe"),
        ("1,000,000 people", "1000000 people"),
        ("", ""),
        ("uh hmm", ""),
        # what it would do to other languages
        ("ER UM SAH SCHÖNE HÄUSER", "er sah schone hauser"),
        ("किताब की", "क त ब क"),
        # the package's additions, which are not Whisper's
        ("cause I kinda dunno, sorta", "cause i kinda dunno sorta"),
    ],
)
def test_pairs(text, expected):
    assert normalize_english(text) == expected


def test_an4_test_words(test_data: Path):
    lines = (test_data / "an4" / "etc" / "an4_test.transcription").read_text().splitlines()
    transcripts = [line.rpartition("(")[0] for line in lines]
    assert len(transcripts) == 130
    assert sum(len(text.split()) for text in transcripts) == 773
    assert sum(len(normalize_english(text).split()) for text in transcripts) == 558


def whispers_normalizer():
    whisper = pytest.importorskip("whisper.normalizers", reason="openai-whisper is not installed (extra: test)")
    return whisper.EnglishTextNormalizer()


def test_rules_are_whispers_one_by_one():
    ours, whispers = english_normalizer(), whispers_normalizer()
    assert list(ours.replacers.items()) == list(whispers.replacers.items())  # in order: earlier rules feed later ones
    assert not set(RULES_NOT_WHISPERS) & set(whispers.replacers)
    assert ours.ignore_patterns == whispers.ignore_patterns
    assert ours.standardize_spellings.mapping == whispers.standardize_spellings.mapping
    our_numbers, whispers_numbers = vars(ours.standardize_numbers), vars(whispers.standardize_numbers)
    assert our_numbers == whispers_numbers


def test_transcripts_come_out_as_whispers(test_data: Path):
    whispers = whispers_normalizer()
    texts = [line for path in sorted(test_data.rglob("*.transcription")) for line in path.read_text().splitlines()]
    texts += [line for path in sorted(test_data.rglob("*.trans.txt")) for line in path.read_text().splitlines()]
    assert len(texts) > 1000
    for text in texts:
        assert normalize_english(text) == whispers(text).strip()


@pytest.mark.parametrize("text", ["$3.50, 20%", "a.b. c", "’tis o'clock's", "double oh seven", "½ ﬁ ß Ø", "3rd/21st"])
def test_odd_texts_come_out_as_whispers(text):
    assert normalize_english(text) == whispers_normalizer()(text).strip()
