"""LibriSpeech: which parts make which sets, with which utterances; and what is missing."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("lhotse")

from omnirouter.corpora.download import CORPORA  # noqa: E402
from omnirouter.corpora.librispeech import prepare_librispeech  # noqa: E402
from omnirouter.data.datadir import read_table  # noqa: E402
from omnirouter.data.errors import UserError  # noqa: E402
from omnirouter.data.validate import validate_data_dirs  # noqa: E402

CHAPTERS = {
    "train-clean-100": [("26", "495", [("A B", 8000)]), ("103", "1240", [("ONE", 8001), ("TWO WORDS", 16000)])],
    "train-clean-360": [("14", "208", [("AND WHAT'S MORE", 24000)])],
    "train-other-500": [("20", "205", [("NOISY", 4000)])],
    "dev-clean": [("84", "121123", [("GO DO YOU HEAR", 8000)])],
    "dev-other": [("116", "288045", [("AS I APPROACHED", 8000)])],
    "test-clean": [("61", "70968", [("HE BEGAN", 8000)])],
    "test-other": [("367", "130732", [("LOBSTERS", 8000)])],
}
TEXTS = {
    "train_100": {"26-495-0000": "A B", "103-1240-0000": "ONE", "103-1240-0001": "TWO WORDS"},
    "dev_clean": {"84-121123-0000": "GO DO YOU HEAR"},
    "dev_other": {"116-288045-0000": "AS I APPROACHED"},
    "dev": {"84-121123-0000": "GO DO YOU HEAR", "116-288045-0000": "AS I APPROACHED"},
    "test_clean": {"61-70968-0000": "HE BEGAN"},
    "test_other": {"367-130732-0000": "LOBSTERS"},
}
TRAIN_SPEAKERS = {100: ["103", "26"], 460: ["103", "14", "26"], 960: ["103", "14", "20", "26"]}
NEEDED = {
    100: {"train-clean-100", "dev-clean", "dev-other", "test-clean", "test-other"},
    460: {"train-clean-100", "train-clean-360", "dev-clean", "dev-other", "test-clean", "test-other"},
    960: set(CHAPTERS),
}


@pytest.fixture
def corpus(tmp_path: Path, write_chapter: Callable[..., None]) -> Path:
    for part, chapters in CHAPTERS.items():
        for chapter in chapters:
            write_chapter(tmp_path / "LibriSpeech" / part, *chapter)
    return tmp_path / "LibriSpeech"


@pytest.mark.parametrize("inside", [True, False])
def test_the_sets_of_100_hours(corpus: Path, tmp_path: Path, inside: bool) -> None:
    data = tmp_path / "data"
    prepare_librispeech(corpus if inside else corpus.parent, data, 100)
    assert {path.name: read_table(path / "text") for path in data.iterdir()} == TEXTS
    train = data / "train_100"
    assert read_table(train / "utt2spk") == {"26-495-0000": "26", "103-1240-0000": "103", "103-1240-0001": "103"}
    assert read_table(train / "spk2utt") == {"26": "26-495-0000", "103": "103-1240-0000 103-1240-0001"}
    assert read_table(train / "utt2dur") == {
        "26-495-0000": "0.500000",
        "103-1240-0000": "0.500062",
        "103-1240-0001": "1.000000",
    }
    assert read_table(train / "wav.scp")["26-495-0000"] == f"{corpus}/train-clean-100/26/495/26-495-0000.flac"
    assert all(report.is_good for report in validate_data_dirs(data.iterdir()))


@pytest.mark.parametrize("hours", NEEDED)
def test_hours_choose_the_parts(corpus: Path, tmp_path: Path, hours: int) -> None:
    for part in set(CHAPTERS) - NEEDED[hours]:
        shutil.rmtree(corpus / part)
    prepare_librispeech(corpus, tmp_path / "data", hours)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {*TEXTS} - {"train_100"} | {f"train_{hours}"}
    assert sorted(read_table(tmp_path / f"data/train_{hours}/spk2utt")) == TRAIN_SPEAKERS[hours]


@pytest.mark.parametrize("hours", NEEDED)
def test_the_same_parts_are_downloaded(hours: int) -> None:
    archives = CORPORA[f"librispeech_{hours}"]
    assert {archive.name for archive in archives} == {f"{part}.tar.gz" for part in NEEDED[hours]}
    assert {archive.folder for archive in archives} == {f"LibriSpeech/{part}" for part in NEEDED[hours]}
    assert all("/resources/12/" in url for archive in archives for url in archive.urls)
    assert len({archive.digest for archive in archives}) == len(archives)


def test_every_missing_part_is_named_at_once(corpus: Path, tmp_path: Path) -> None:
    for part in ("train-clean-360", "dev-other"):
        shutil.rmtree(corpus / part)
    for path in (corpus / "test-clean").rglob("*.trans.txt"):
        path.unlink()
    with pytest.raises(UserError) as error:
        prepare_librispeech(corpus, tmp_path / "data", 460)
    assert str(error.value).splitlines()[1:] == [
        f"{corpus}/train-clean-360: no such folder",
        f"{corpus}/dev-other: no such folder",
        f"{corpus}/test-clean: no *.trans.txt in it",
    ]
    assert not (tmp_path / "data").exists()


def test_other_hours_leave_the_common_sets_as_they_are(corpus: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare_librispeech(corpus, data, 100)
    for name in TEXTS:
        (data / name / "feats.scp").write_text("made by stage 2\n")
    prepare_librispeech(corpus, data, 460)
    assert all((data / name / "feats.scp").exists() for name in TEXTS)
    assert not (data / "train_460/feats.scp").exists() and read_table(data / "train_100/text") == TEXTS["train_100"]

    transcript = corpus / "dev-other/116/288045/116-288045.trans.txt"
    transcript.write_text("116-288045-0000 CORRECTED\n")
    (data / "test_other/spk2utt").unlink()
    prepare_librispeech(corpus, data, 460)
    assert read_table(data / "dev_other/text") == {"116-288045-0000": "CORRECTED"}
    assert read_table(data / "dev/text")["116-288045-0000"] == "CORRECTED"
    assert (data / "test_other/spk2utt").exists()
    kept = {name for name in TEXTS if (data / name / "feats.scp").exists()}
    assert kept == {"train_100", "dev_clean", "test_clean"}
