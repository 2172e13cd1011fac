"""One's own corpus: good data directories are completed; with any problem nothing is written."""

import shutil
from pathlib import Path

import pytest

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


def test_wrong_folders_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no <set>/wav.scp"):
        prepare_kaldi(corpus / "train", tmp_path / "data")
    with pytest.raises(UserError, match="is also the output"):
        prepare_kaldi(corpus, corpus)


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
