"""Libriheavy's cuts and manifests as they should not be: listed, or refused with the line."""

import copy
import gzip
import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lhotse")

from omnirouter.corpora.libriheavy import prepare_libriheavy, read_cuts, upper, write_set  # noqa: E402
from omnirouter.data.audio import load_utterance  # noqa: E402
from omnirouter.data.datadir import read_data_dir, read_table  # noqa: E402
from omnirouter.data.errors import UserError  # noqa: E402

Cuts = list[dict[str, Any]]


def published(corpus: Path, part: str) -> Cuts:
    with gzip.open(corpus / f"libriheavy/libriheavy_cuts_{part}.jsonl.gz") as file:
        return [json.loads(line) for line in file]


def changed(cut: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A copy of a cut with fields replaced, as recording__sampling_rate=8000; None takes one away."""
    cut = copy.deepcopy(cut)
    for name, value in fields.items():
        *path, last = [int(key) if key.isdigit() else key for key in name.split("__")]
        inner: Any = cut
        for key in path:
            inner = inner[key]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    return cut


TEXTS_OF = "supervisions__0__custom__texts"
DROPPED = {
    "no words in its text": {TEXTS_OF: ["*** ...", "A"]},
    "no words in its text ": {TEXTS_OF: []},
    "no words in its text  ": {TEXTS_OF: [None, "A"]},
    "8000 Hz, not 16000": {"recording__sampling_rate": 8000},
    "ends at 2.800 s, its recording at 2.772 s": {"duration": 1.2995, "recording__num_samples": 44352},
    "starts at 1.5 s and lasts 0.0 s, its recording ends at 3.772 s": {"start": 1.5, "duration": 0},
    "starts at 3.772 s and lasts 0.005 s, its recording ends at 3.772 s": {"start": 3.772, "duration": 0.005},
}


@pytest.mark.parametrize("reason, fields", DROPPED.items())
def test_a_cut_that_cannot_be_used_is_listed(
    corpus: Path,
    tmp_path: Path,
    write_manifest: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    reason: str,
    fields: dict[str, Any],
) -> None:
    cut = published(corpus, "small")[1]
    manifest = write_manifest(corpus, "small", [changed(cut, id="small/x/bad", **fields), cut])
    write_set(tmp_path / "data", [manifest], corpus / "librilight", upper)
    assert (tmp_path / "data/dropped_utts").read_text() == f"small-x-bad {reason.strip()}\n"
    assert list(read_table(tmp_path / "data/text").values()) == ["IT'S TEXT 1 OF SMALL"]
    assert "1 of 2 utterances dropped; " in capsys.readouterr().out


def test_an_end_rounded_up_is_cut_at_the_end_of_the_recording(
    corpus: Path, tmp_path: Path, write_manifest: Callable[..., Path]
) -> None:
    cut = published(corpus, "small")[2]
    cuts = [
        changed(cut, id=f"{left_s}+{over_s}", start=3.772 - left_s, duration=left_s + over_s)
        for left_s in (1.0, 0.0101, 0.0099, 0.001, 1e-7, 0.0, -0.004)  # 10 ms or less are dropped
        for over_s in (0.0041, 0.0099)
    ]
    write_set(tmp_path / "data", [write_manifest(corpus, "small", cuts)], corpus / "librilight", upper)
    utterances = read_data_dir(tmp_path / "data")  # each starts before it ends, else this fails
    assert [utt.utt_id for utt in utterances] == ["0.0101+0.0041", "0.0101+0.0099", "1.0+0.0041", "1.0+0.0099"]
    assert all(utt.end_s == 3.772 for utt in utterances) and len(load_utterance(utterances[-1])) == 16000


NAN, INF = float("nan"), float("inf")
BAD_VALUES = [
    ("id", 5), ("id", ""), ("id", "a\nb"), ("recording__id", 7), ("supervisions__0__speaker", 100),
    ("recording__sources__0__source", 5), ("recording__sources__0__source", "librilight/\ud800.flac"),
    ("start", "later"), ("start", NAN), ("start", -0.1), ("start", True),
    ("duration", NAN), ("duration", INF), ("duration", -2), ("duration", 10**400),
    ("recording__sampling_rate", 0), ("recording__sampling_rate", "16000"),
    ("recording__num_samples", NAN), ("recording__num_samples", -1), (TEXTS_OF, "abc"), (TEXTS_OF, [5]),
]  # fmt: skip
WRONG = {
    "not a cut of Libriheavy .Expecting": "{",
    "not a cut of Libriheavy .string indices": '"cut"',
    "the field 'recording' is missing": {"recording": None},
    "the field 'start' is missing": {"start": None},
    "the field 'speaker' is missing": {"supervisions__0__speaker": None},
    "not a cut of Libriheavy .not enough values": {"supervisions": []},
    "its audio 'small/1.flac' is not in librilight/": {"recording__sources__0__source": "small/1.flac"},
    "has no custom.texts: this manifest was derived": {"supervisions__0__custom": {}},
}
WRONG |= {f"{field.split('__')[-1]} is {re.escape(repr(value))}, not a ": {field: value} for field, value in BAD_VALUES}


@pytest.mark.parametrize("message, line", WRONG.items())
def test_a_line_of_another_form_is_an_error(
    corpus: Path, tmp_path: Path, write_manifest: Callable[..., Path], message: str, line: Any
) -> None:
    cut = published(corpus, "small")[0]
    write_manifest(corpus, "small", [cut, line if isinstance(line, str) else changed(cut, **line)])
    with pytest.raises(UserError, match=rf"libriheavy_cuts_small.jsonl.gz:2: .*{message}.*; get the manifest again"):
        prepare_libriheavy(corpus, tmp_path / "data", "small")
    assert not (tmp_path / "data/train_small").exists()


def test_a_truncated_or_foreign_file_is_an_error(corpus: Path) -> None:
    manifest = corpus / "libriheavy/libriheavy_cuts_small.jsonl.gz"
    for content in (manifest.read_bytes()[:-12], b"not gzip"):
        manifest.write_bytes(content)
        with pytest.raises(UserError, match="small.jsonl.gz: cannot be read to its end .*; delete it"):
            list(read_cuts(manifest))


def test_the_same_cut_twice_is_an_error(corpus: Path, tmp_path: Path, write_manifest: Callable[..., Path]) -> None:
    cut = published(corpus, "small")[0]
    with pytest.raises(UserError, match="'small-100-.*_0' occurs twice"):
        write_set(tmp_path / "data", [write_manifest(corpus, "small", [cut, cut])], corpus / "librilight", upper)


def test_a_few_missing_recordings_are_listed_and_many_are_an_error(
    corpus: Path, tmp_path: Path, write_manifest: Callable[..., Path]
) -> None:
    good, lost = published(corpus, "small")[0], published(corpus, "medium")[0]
    shutil.rmtree(corpus / "librilight/medium")
    error = pytest.raises(UserError, match="1 of 99 .*, 1 in .*/medium: 1 files are missing, the first")
    for others, expected in ((99, nullcontext()), (98, error)):
        cuts = [lost, *(changed(good, id=f"small/100/book/{i}") for i in range(others))]
        with expected:
            write_set(tmp_path / "data", [write_manifest(corpus, "small", cuts)], corpus / "librilight", upper)
    assert f"no recording {lost['recording']['id']}.flac\n" in (tmp_path / "data/dropped_utts").read_text()
    assert len(read_table(tmp_path / "data/text")) == 99


def test_a_cased_dev_set_without_audio_names_the_folders_that_lack(
    corpus: Path, tmp_path: Path, write_manifest: Callable[..., Path]
) -> None:
    lost = [*published(corpus, "dev"), *published(corpus, "medium")]
    wordless = changed(published(corpus, "small")[0], **{TEXTS_OF: []})
    write_manifest(corpus, "dev", [*lost, wordless])
    for folder in ("medium", "large"):
        shutil.rmtree(corpus / "librilight" / folder)
    with pytest.raises(UserError) as error:
        prepare_libriheavy(corpus, tmp_path / "data", "small", "cased")
    audio = corpus / "librilight"
    missing = f"3 of 4 utterances have no recording, 1 in {audio}/large, 2 in {audio}/medium: 2 files are missing"
    assert str(error.value).startswith(f"{tmp_path}/data/dev_cased: {missing}")
    assert "complete Libri-light (some may lack, but not all)" in str(error.value) and "--text upper" in str(
        error.value
    )
    assert not (tmp_path / "data/train_small_cased").exists()
    write_manifest(corpus, "dev", [*lost, published(corpus, "small")[0]])
    prepare_libriheavy(corpus, tmp_path / "data", "small", "cased")
    assert list(read_table(tmp_path / "data/dev_cased/text").values()) == ['"it\'s text 0 of small—"']
