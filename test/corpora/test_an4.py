"""CMU AN4: the published lists and transcripts become data directories; speakers of dev are not in train."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from omnirouter.corpora.an4 import dev_speakers, prepare_an4
from omnirouter.data.audio import load_utterance
from omnirouter.data.datadir import Utterance, read_data_dir
from omnirouter.data.errors import UserError

RECIPE = Path(__file__).parents[2] / "egs/an4/asr1"
TRAIN = {"fa": "YES", "fb": "R U B", "ma": "ONE", "mb": "TWO"}


@pytest.fixture
def tiny_an4(tmp_path: Path, write_tone: Callable[..., Path]) -> Path:
    """Two women and two men in train, one man in test, in SPHERE files as published."""
    root = tmp_path / "an4"
    train = [(f"an4_clstk/{speaker}/an1-{speaker}-b", f"<s> {text} </s> ") for speaker, text in TRAIN.items()]
    test = [("an4test_clstk/mc/cen8-mc-b", "RUBOUT  G M ")]
    (root / "etc").mkdir(parents=True)
    for part, entries in (("train", train), ("test", test)):
        (root / "etc" / f"an4_{part}.fileids").write_text("".join(f"{path}\n" for path, _ in entries))
        lines = [f"{text}({path.rpartition('/')[2]})\n" for path, text in entries]
        (root / "etc" / f"an4_{part}.transcription").write_text("".join(lines))
        for i, (path, _) in enumerate(entries):
            tone = write_tone(root / "wav" / f"{path}.wav", 0.5 + i / 10)
            samples, rate_hz = soundfile.read(tone, dtype="int16")
            soundfile.write(tone.with_suffix(".sph"), samples, rate_hz, format="NIST", subtype="PCM_16", endian="BIG")
            tone.unlink()
    return root


def read_sets(output: Path) -> dict[str, list[Utterance]]:
    return {name: read_data_dir(output / name) for name in ("train", "dev", "test")}


def test_a_tiny_layout(tiny_an4: Path, tmp_path: Path) -> None:
    prepare_an4(tiny_an4, tmp_path / "data")
    sets = read_sets(tmp_path / "data")
    assert [(utt.utt_id, utt.text, utt.speaker) for utt in sets["test"]] == [("mc-cen8-b", "RUBOUT  G M", "mc")]
    found = {utt.speaker: utt.text for name in ("train", "dev") for utt in sets[name]}
    assert found == TRAIN
    assert sorted(utt.speaker[0] for utt in sets["dev"]) == ["f", "m"]
    assert [utt.duration_s for utt in sets["train"] + sets["dev"] if utt.speaker == "mb"] == [0.8]
    assert len(load_utterance(sets["test"][0])) == 8000


def test_everything_missing_is_reported_at_once(tiny_an4: Path, tmp_path: Path) -> None:
    (tiny_an4 / "wav/an4_clstk/fa/an1-fa-b.sph").unlink()
    (tiny_an4 / "wav/an4test_clstk/mc/cen8-mc-b.sph").unlink()
    transcripts = tiny_an4 / "etc/an4_train.transcription"
    transcripts.write_text("<s> YES </s> (an1-fa-b)\nno id here\n<s> </s> (an1-ma-b)\n<s> TWO </s> (an1-mb-b)\n")
    with pytest.raises(UserError) as error:
        prepare_an4(tiny_an4, tmp_path / "data")
    message = str(error.value)
    for part in ("an1-fa-b{", "cen8-mc-b{", f"{transcripts}:2: not a transcript", "an1-fb-b has no", "an1-ma-b has no"):
        assert part in message
    assert len(message.splitlines()) == 6
    assert not (tmp_path / "data").exists()


def test_all_damaged_files_are_named_at_once(
    tiny_an4: Path, tmp_path: Path, damage: Callable[[Path, str], None], write_tone: Callable[..., Path]
) -> None:
    audio = tiny_an4 / "wav/an4_clstk"
    truncated = write_tone(audio / "ma/an1-ma-b.flac")  # taken before the SPHERE file of that name
    damaged = {
        audio / "fa/an1-fa-b.sph": ("empty", "the file has zero length; "),
        truncated: ("truncated", "truncated or damaged: 16000 frames promised, "),
        tiny_an4 / "wav/an4test_clstk/mc/cen8-mc-b.sph": ("junk", "not readable as audio "),
    }
    for path, (kind, _) in damaged.items():
        damage(path, kind)
    with pytest.raises(UserError) as error:
        prepare_an4(tiny_an4, tmp_path / "data")
    first, *lines = str(error.value).splitlines()
    assert first == f"{tiny_an4}: 3 audio files cannot be used:"
    for line, (path, (_, message)) in zip(lines, damaged.items(), strict=True):
        assert line.startswith(f"{path}: {message}")
    assert not (tmp_path / "data").exists()


def test_a_wrong_folder_names_the_lists(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        prepare_an4(tmp_path, tmp_path / "data")
    assert str(error.value).count("missing") == 4


def test_dev_speakers_are_balanced_and_fixed() -> None:
    speakers = {f"{sex}{i:03d}" for sex, count in (("f", 21), ("m", 53)) for i in range(count)}
    chosen = dev_speakers(speakers)
    assert sorted(name[0] for name in chosen) == ["f"] * 4 + ["m"] * 4
    assert dev_speakers(set(sorted(speakers, reverse=True))) == chosen < speakers


def test_the_real_corpus(test_data: Path, tmp_path: Path) -> None:
    corpus = Path(os.path.relpath(test_data / "an4"))
    prepare_an4(corpus, tmp_path / "data")
    sets = read_sets(tmp_path / "data")
    assert len(sets["test"]) == 130 and len(sets["train"]) + len(sets["dev"]) == 948
    speakers = {name: {utt.speaker for utt in utterances} for name, utterances in sets.items()}
    assert speakers["dev"] == {"fjam", "flmm2", "fmjc", "ftal", "mkem", "mmkw", "mnfe", "mskh"}  # results depend on it
    assert len(speakers["train"]) == 66 and len(speakers["test"]) == 10
    assert not speakers["train"] & speakers["dev"] and not (speakers["train"] | speakers["dev"]) & speakers["test"]
    minutes = round(sum(utt.duration_s or 0 for utt in sets["train"]) / 60)  # as run.sh and its configuration say
    assert minutes == 38
    for name in ("run.sh", "conf/base.yaml"):
        assert f" {minutes} minutes of " in (RECIPE / name).read_text()
    texts = [utt.text for utterances in sets.values() for utt in utterances]
    assert all(word.isalpha() and word.isupper() for text in texts for word in text.split())
    assert sum(len(utt.text.split()) for utt in sets["test"]) == 773
    assert {utt.utt_id: utt.text for utt in sets["test"]}["fcaw-an406-b"] == "RUBOUT G M E F THREE NINE"
