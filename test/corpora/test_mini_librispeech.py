"""Mini LibriSpeech: lhotse's recipe becomes data directories; test_seg is cut out of long recordings exactly."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("lhotse")

from omnirouter.corpora.mini_librispeech import prepare_mini_librispeech  # noqa: E402
from omnirouter.data.audio import load_utterance  # noqa: E402
from omnirouter.data.datadir import read_data_dir, read_table  # noqa: E402
from omnirouter.data.errors import UserError  # noqa: E402

PARTS = {"train-clean-5": ("19", "32"), "dev-clean-2": ("1737", "332")}


@pytest.fixture
def corpus(tmp_path: Path, write_chapter: Callable[..., None]) -> Path:
    """Two speakers with two chapters of three utterances in each part: noise of odd lengths in samples."""
    rng = np.random.default_rng(0)
    for part, speakers in PARTS.items():
        for speaker in speakers:
            for chapter in ("198", "4137"):
                utterances = [(f"TEXT OF {i}", int(rng.integers(8001, 20001))) for i in range(3)]
                write_chapter(tmp_path / "LibriSpeech" / part, speaker, chapter, utterances)
    return tmp_path / "LibriSpeech"


@pytest.mark.parametrize("inside", [True, False])
def test_data_directories(corpus: Path, tmp_path: Path, inside: bool) -> None:
    prepare_mini_librispeech(corpus if inside else corpus.parent, tmp_path / "data", tmp_path / "wavs")
    for name, speakers in (("train_clean_5", {"19", "32"}), ("dev_clean_2", {"1737", "332"})):
        utterances = read_data_dir(tmp_path / "data" / name)
        assert len(utterances) == 12 and {utt.speaker for utt in utterances} == speakers
        assert all(utt.text == f"TEXT OF {utt.utt_id[-1]}" and utt.recording.is_file() for utt in utterances)


def test_segments_are_cut_to_the_sample(corpus: Path, tmp_path: Path) -> None:
    prepare_mini_librispeech(corpus, tmp_path / "data", tmp_path / "wavs")
    whole, cut = (read_data_dir(tmp_path / "data" / name) for name in ("dev_clean_2", "test_seg"))
    assert [(utt.utt_id, utt.text, utt.speaker) for utt in whole] == [(u.utt_id, u.text, u.speaker) for u in cut]
    for utt, segment in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(load_utterance(segment), load_utterance(utt))
        assert segment.duration_s == utt.duration_s
    recordings = read_table(tmp_path / "data/test_seg/wav.scp")
    assert sorted(recordings) == ["1737-198", "1737-4137", "332-198", "332-4137"]
    total = sum(soundfile.info(path).frames for path in recordings.values())
    assert total == sum(soundfile.info(utt.recording).frames for utt in whole)


def test_same_bytes_on_a_second_run(corpus: Path, tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        prepare_mini_librispeech(corpus, tmp_path / "data", tmp_path / "wavs")
        files = sorted(path for name in ("data", "wavs") for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append([(path, path.read_bytes()) for path in files])
    assert contents[0] == contents[1] and len(contents[0]) == 3 * 5 + 1 + 4


def test_everything_missing_is_reported_at_once(corpus: Path, tmp_path: Path) -> None:
    lost = [
        corpus / "train-clean-5/19/198/19-198-0001.flac",
        corpus / "dev-clean-2/332/4137/332-4137-0002.flac",
    ]
    for path in lost:
        path.unlink()
    with pytest.raises(UserError) as error:
        prepare_mini_librispeech(corpus, tmp_path / "data", tmp_path / "wavs")
    assert all(f"{path}: missing" in str(error.value) for path in lost)
    assert not (tmp_path / "data").exists() and not (tmp_path / "wavs").exists()
    with pytest.raises(UserError, match="(?s)train-clean-5: no .*dev-clean-2: no "):
        prepare_mini_librispeech(tmp_path / "wrong", tmp_path / "data", tmp_path / "wavs")


@pytest.mark.parametrize("kinds", [("truncated", "truncated"), ("junk", "truncated"), ("truncated", "empty")])
def test_all_damaged_files_are_named_at_once(
    corpus: Path, tmp_path: Path, kinds: tuple[str, str], damage: Callable[[Path, str], None]
) -> None:
    """Whether lhotse stumbles over one, or the reading of the dev set's samples."""
    messages = {"truncated": "truncated or damaged: ", "junk": "not readable as audio", "empty": "the file has zero"}
    paths = corpus / "train-clean-5/32/4137/32-4137-0001.flac", corpus / "dev-clean-2/332/198/332-198-0000.flac"
    for path, kind in zip(paths, kinds, strict=True):
        damage(path, kind)
    with pytest.raises(UserError) as error:
        prepare_mini_librispeech(corpus, tmp_path / "data", tmp_path / "wavs")
    first, *lines = str(error.value).splitlines()
    assert first == f"{corpus}: 2 audio files cannot be used:"
    for line, path, kind in zip(lines, paths, kinds, strict=True):
        assert line.startswith(f"{path}: {messages[kind]}")
    assert not (tmp_path / "data").exists() and not list((tmp_path / "wavs").glob("*"))


def test_files_without_a_frame_are_named(corpus: Path, tmp_path: Path) -> None:
    paths = sorted((corpus / "train-clean-5").rglob("*.flac"))[:2]
    for path in paths:
        soundfile.write(path, np.zeros(0, np.int16), 16000)
    with pytest.raises(UserError) as error:
        prepare_mini_librispeech(corpus, tmp_path / "data", tmp_path / "wavs")
    assert all(f"{path}: " in str(error.value) for path in paths)


def test_wrong_transcripts_are_named_with_their_lines(corpus: Path, tmp_path: Path) -> None:
    first = corpus / "train-clean-5/19/198/19-198.trans.txt"
    first.write_bytes(b"19-198-0000 CAF\xc9\n\n19-198-0002\n")
    with pytest.raises(UserError) as error:
        prepare_mini_librispeech(corpus, tmp_path / "data", tmp_path / "wavs")
    for part in ("1: not UTF-8", "2: empty line", "3: empty entry of '19-198-0002'"):
        assert f"{first}:{part}" in str(error.value)


def test_whatever_lhotse_raises_is_an_error_of_the_corpus(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise Odd("a reason")

    monkeypatch.setattr("lhotse.recipes.librispeech.prepare_librispeech", fail)
    with pytest.raises(UserError, match=r"train-clean-5: lhotse cannot read it \(Odd: a reason\)"):
        prepare_mini_librispeech(corpus, tmp_path / "data", tmp_path / "wavs")


def test_a_missing_lhotse_is_named_with_its_extra(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lhotse.recipes.librispeech", None)
    with pytest.raises(UserError, match=r"lhotse.*omnirouter\[lhotse\]"):
        prepare_mini_librispeech(corpus, corpus / "data", corpus / "wavs")
