"""One's own corpus: good data directories are completed; with any problem nothing is written."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from omnirouter.corpora.kaldi import prepare_kaldi
from omnirouter.data.datadir import read_data_dir
from omnirouter.data.errors import UserError


@pytest.fixture
def corpus(tiny_data_dir: Path, tmp_path: Path) -> Path:
    """Sets train and dev as a user has them: wav.scp, text and utt2spk only, beside something else."""
    for name in ("train", "dev"):
        folder = tmp_path / "own" / name
        folder.mkdir(parents=True)
        for table in ("wav.scp", "text", "utt2spk"):
            shutil.copy(tiny_data_dir / table, folder)
    (tmp_path / "own" / "notes").mkdir()
    return tmp_path / "own"


def test_directories_are_completed_and_the_source_is_left_alone(corpus: Path, tmp_path: Path) -> None:
    prepare_kaldi(corpus, tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["dev", "train"]
    for name in ("train", "dev"):
        assert (
            tmp_path / "data" / name / "spk2utt"
        ).read_text() == "spk0 spk0-utt0 spk0-utt1\nspk1 spk1-utt2 spk1-utt3\n"
        assert [utt.duration_s for utt in read_data_dir(tmp_path / "data" / name)] == [1.0, 1.1, 1.2, 1.3]
        assert sorted(path.name for path in (corpus / name).iterdir()) == ["text", "utt2spk", "wav.scp"]


def test_problems_of_all_sets_are_shown_and_nothing_is_written(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "dev/text").write_text("spk0-utt0 a\nspk0-utt1 b\nspk1-utt2 c\nspk1-utt3\n")
    wav_scp = corpus / "train/wav.scp"
    wav_scp.write_text(wav_scp.read_text().replace("0.wav", "lost.wav"))
    with pytest.raises(UserError, match="own/dev.*own/train.*nothing was written"):
        prepare_kaldi(corpus, tmp_path / "data")
    shown = capsys.readouterr().err
    assert f"{corpus}/dev/text:4" in shown and f"{wav_scp}:1" in shown
    assert not (tmp_path / "data").exists()


def test_only_the_sets_asked_for_are_checked_and_copied(corpus: Path, tmp_path: Path) -> None:
    (corpus / "broken").mkdir()
    (corpus / "broken/wav.scp").write_text("")
    prepare_kaldi(corpus, tmp_path / "data", sets=["train", "dev", "dev"])
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["dev", "train"]


def test_a_missing_set_is_a_problem_though_an_earlier_corpus_has_left_one(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(corpus / "dev", tmp_path / "data/test")
    with pytest.raises(UserError, match="own/test, listed above; nothing was written"):
        prepare_kaldi(corpus, tmp_path / "data", sets=["train", "dev", "test"])
    assert f"{corpus}/test/wav.scp: cannot be read (No such file or directory)" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["test"]


def test_deep_looks_behind_the_header(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Path((corpus / "train/wav.scp").read_text().splitlines()[0].split()[1])
    soundfile.write(first, np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    prepare_kaldi(corpus, tmp_path / "data", deep=False)
    with pytest.raises(UserError):
        prepare_kaldi(corpus, tmp_path / "data", deep=True)
    assert "NaN" in capsys.readouterr().err


def test_wrong_folders_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no <set>/wav.scp"):
        prepare_kaldi(corpus / "train", tmp_path / "data")
    with pytest.raises(UserError, match="is also the output"):
        prepare_kaldi(corpus, corpus)


def test_relative_paths_start_where_they_are_said_to(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train", "dev"):
        wav_scp = corpus / name / "wav.scp"
        wav_scp.write_text(wav_scp.read_text().replace(f"{tmp_path}/", ""))
    with pytest.raises(UserError, match="nothing was written"):
        prepare_kaldi(corpus, tmp_path / "data", paths_from=tmp_path / "own")
    assert f"'spk0-utt0', {tmp_path}/own/wavs/0.wav: cannot be read" in capsys.readouterr().err
    prepare_kaldi(corpus, tmp_path / "data", paths_from=tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [utt.recording for utt in read_data_dir(tmp_path / "data/dev")] == [
        tmp_path / f"wavs/{i}.wav" for i in range(4)
    ]
    monkeypatch.chdir(tmp_path)
    prepare_kaldi(corpus, tmp_path / "here")
    assert (tmp_path / "here/train/wav.scp").read_text() == (tmp_path / "data/train/wav.scp").read_text()


def test_pipes_need_leave(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav_scp = corpus / "train/wav.scp"
    lines = wav_scp.read_text().splitlines()
    key, path = lines[0].split()
    wav_scp.write_text("\n".join([f"{key} touch {tmp_path}/ran; cat {path} |", *lines[1:]]) + "\n")
    with pytest.raises(UserError):
        prepare_kaldi(corpus, tmp_path / "data")
    assert "shell command" in capsys.readouterr().err and not (tmp_path / "ran").exists()
    prepare_kaldi(corpus, tmp_path / "data", allow_pipes=True)
    assert read_data_dir(tmp_path / "data/train", allow_pipes=True)[0].duration_s == 1.0
