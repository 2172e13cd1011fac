"""Libriheavy: its manifests become data directories that cut out just the published cuts.

The corpus is a miniature in the published layout: chapters of LibriSpeech, joined into the recordings of Libri-light.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("lhotse")

from omnirouter.corpora.download import CORPORA  # noqa: E402
from omnirouter.corpora.libriheavy import SUBSETS, TEXTS, cased, prepare_libriheavy, upper, write_set  # noqa: E402
from omnirouter.corpora.librispeech import EVAL_PARTS  # noqa: E402
from omnirouter.data.audio import load_utterance  # noqa: E402
from omnirouter.data.datadir import read_data_dir, read_table  # noqa: E402
from omnirouter.data.errors import UserError  # noqa: E402
from omnirouter.data.validate import validate_data_dirs  # noqa: E402
from omnirouter.scoring.report import score_files  # noqa: E402

Cuts = list[dict[str, Any]]
UTTERANCES = {"small": 3, "medium": 2, "large": 1, "dev": 1}
"""Of each part, in conftest.py."""


def check_cut_exactly(data_dir: Path, chapter: Path) -> None:
    """Hold every utterance of a data directory against its own file."""
    utterances = read_data_dir(data_dir)
    files = sorted(path for path in chapter.iterdir() if path.suffix != ".txt")
    assert len(utterances) == len(files) > 0
    for utt, file in zip(utterances, files, strict=True):
        samples, _ = soundfile.read(file, dtype="int16")
        np.testing.assert_array_equal(load_utterance(utt), samples.astype(np.float32) / 32768)
        assert utt.speaker == chapter.parent.name and utt.duration_s == pytest.approx(len(samples) / 16000, abs=1e-6)


@pytest.mark.parametrize("part", UTTERANCES)
def test_segments_cut_out_the_source_utterances(
    corpus: Path, sources: dict[str, Path], tmp_path: Path, part: str
) -> None:
    manifest = corpus / f"libriheavy/libriheavy_cuts_{part}.jsonl.gz"
    write_set(tmp_path / "data", [manifest], corpus / "librilight", upper)
    check_cut_exactly(tmp_path / "data", sources[part])


def test_the_data_directories_of_small(corpus: Path, tmp_path: Path) -> None:
    prepare_libriheavy(corpus, tmp_path / "data", "small")
    book = "small-100-book_small_librivox_64kb_mp3-small_64kb"
    assert read_table(tmp_path / "data/train_small/wav.scp") == {
        book: f"{corpus}/librilight/small/100/book_small_librivox_64kb_mp3/small_64kb.flac"
    }
    assert read_table(tmp_path / "data/train_small/segments") == {
        f"{book}_0": f"{book} 0.500000 1.000500",
        f"{book}_1": f"{book} 1.500500 2.272000",
        f"{book}_2": f"{book} 2.772000 3.772000",
    }
    texts = {f"{book}_{i}": f"IT'S TEXT {i} OF SMALL" for i in range(3)}
    assert read_table(tmp_path / "data/train_small/text") == texts
    assert {path.name for path in (tmp_path / "data").iterdir()} == {
        "train_small", "dev", "dev_clean", "dev_other", "test_clean", "test_other",
    }  # fmt: skip
    assert len(read_data_dir(tmp_path / "data/dev")) == 2
    assert all(report.is_good for report in validate_data_dirs((tmp_path / "data").iterdir(), deep=True))


def test_segments_of_real_speech(test_data: Path, tmp_path: Path, write_libriheavy: Callable[..., Cuts]) -> None:
    chapter = test_data / "LibriSpeech/all-clean-5/1088/134315"
    cuts = write_libriheavy(tmp_path / "corpus", "small", [chapter])
    assert len(cuts) > 5
    manifest = tmp_path / "corpus/libriheavy/libriheavy_cuts_small.jsonl.gz"
    write_set(tmp_path / "data", [manifest], tmp_path / "corpus/librilight", upper)
    utterances = {utt.utt_id: utt for utt in read_data_dir(tmp_path / "data")}
    transcript = dict(line.split(maxsplit=1) for line in next(chapter.glob("*.txt")).read_text().splitlines())
    for cut, (name, text) in zip(cuts, transcript.items(), strict=True):
        utt = utterances[cut["id"].replace("/", "-")]
        (file,) = chapter.glob(f"{name}.[!t]*")
        samples, _ = soundfile.read(file, dtype="int16")
        np.testing.assert_array_equal(load_utterance(utt), samples.astype(np.float32) / 32768)
        assert utt.text == text


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_subset_holds_the_smaller_ones(corpus: Path, tmp_path: Path, subset: str) -> None:
    parts = {"small": ["small"], "medium": ["small", "medium"], "large": ["small", "medium", "large"]}[subset]
    for part in set(SUBSETS) - set(parts):
        shutil.rmtree(corpus / "librilight" / part)
        (corpus / f"libriheavy/libriheavy_cuts_{part}.jsonl.gz").unlink()
    prepare_libriheavy(corpus, tmp_path / "data", subset)
    texts = read_table(tmp_path / f"data/train_{subset}/text")
    wanted = [f"IT'S TEXT {i} OF {part.upper()}" for part in parts for i in range(UTTERANCES[part])]
    assert sorted(texts.values()) == sorted(wanted)
    assert {archive.folder for archive in CORPORA[f"libriheavy_{subset}"] if archive.folder} == set(parts)


def test_cased_text_has_a_cased_dev_set(corpus: Path, tmp_path: Path) -> None:
    prepare_libriheavy(corpus, tmp_path / "data", "large", "cased")
    texts = read_table(tmp_path / "data/train_large_cased/text")
    assert '"it\'s text 0 of small—"' in texts.values()
    assert list(read_table(tmp_path / "data/dev_cased/text").values()) == ['"it\'s text 0 of dev—"']


@pytest.mark.parametrize(
    "mode, text, written",
    [
        ("upper", "“Don’t,” she said—‘never’ in 1812!", "DON'T SHE SAID 'NEVER' IN 1812"),
        ("upper", "A naïve *dash*-word\tand Straße", "A NA VE DASH WORD AND STRA E"),
        ("upper", " \n...  ", ""),
        ("cased", "“Don’t,” she said—‘never’ in 1812!", "\"Don't,\" she said—'never' in 1812!"),
        ("cased", "Well-known，《O》、【so】（a；b：c）。Eh？No！", "Well known,<O>/[so](a;b:c).Eh?No!"),
        ("cased", " A\u00a0line\nand\u2028a\x85bell\x07 rang \ud800", "A line and a bell rang"),
    ],
)
def test_text(mode: str, text: str, written: str) -> None:
    assert TEXTS[mode](text) == written


@pytest.mark.parametrize(
    "book, librispeech",
    [
        ("“I don’t know,” said he, “what we’ll do; it’s Smith’s.”", "I DON'T KNOW SAID HE WHAT WE'LL DO IT'S SMITH'S"),
        ("‘’Tis well-known,’ said O’Brien—‘he’s ‘ours’!’", "'TIS WELL KNOWN SAID O'BRIEN HE'S OURS"),
    ],
)
def test_a_perfect_cased_hypothesis_has_no_error_against_librispeech(book: str, librispeech: str) -> None:
    rate = score_files({"utt1": librispeech}, {"utt1": cased(book)}, {"utt1": "spk1"})["wer_whisper"]
    assert rate.startswith("%WER 0.00 [ 0 / ")


def test_everything_missing_is_named_at_once(corpus: Path, tmp_path: Path) -> None:
    shutil.rmtree(corpus / "librilight/medium")
    shutil.rmtree(corpus / "LibriSpeech")
    (corpus / "libriheavy/libriheavy_cuts_small.jsonl.gz").unlink()
    with pytest.raises(UserError) as error:
        prepare_libriheavy(corpus, tmp_path / "data", "medium")
    lacking = ("libriheavy/libriheavy_cuts_small.jsonl.gz", "librilight/medium", "LibriSpeech")
    assert str(error.value).splitlines()[1:-1] == [f"{corpus}/{name}" for name in lacking]
    assert not (tmp_path / "data").exists()


def test_librispeech_may_lie_elsewhere(corpus: Path, tmp_path: Path) -> None:
    shutil.move(corpus / "LibriSpeech", tmp_path / "elsewhere")
    prepare_libriheavy(corpus, tmp_path / "data", "small", librispeech_dir=tmp_path / "elsewhere")
    assert len(read_data_dir(tmp_path / "data/dev")) == 2


@pytest.mark.parametrize("subset", SUBSETS)
def test_what_is_downloaded_is_what_is_read(subset: str) -> None:
    alone, with_librispeech = CORPORA[f"libriheavy_{subset}"], CORPORA[f"libriheavy_{subset}_librispeech"]
    assert {a.name for a in alone if not a.folder} == {
        f"libriheavy_cuts_{part}.jsonl.gz" for part in (*SUBSETS[subset], "dev")
    }
    assert {a.name for a in alone if a.folder} == {f"{part}.tar" for part in SUBSETS[subset]}
    assert {a.place for a in alone if not a.folder} == {"libriheavy"}
    assert {a.place for a in alone if a.folder} == {"librilight"}
    assert {a.folder for a in set(with_librispeech) - set(alone)} == {f"LibriSpeech/{part}" for part in EVAL_PARTS}
