"""Features that are there already: our own are replaced, those of others are kept."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from omnirouter.bin import compute_fbank
from omnirouter.data import counting, fbank
from omnirouter.data.counting import count_frames
from omnirouter.data.datadir import read_table, write_table
from omnirouter.data.dataset import read_feature_dir
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import store_fbank
from omnirouter.data.features import load_features
from omnirouter.data.perturb import perturb_data_dir

FBANK = Path("fbank")
FOREIGN = {
    "elsewhere": "/kaldi/fbank/raw_fbank_tiny.1.ark:13",
    "elsewhere by our name": "old/feats.1.ark:13",
    "here by another name": "fbank/raw_fbank_tiny.1.ark:13",
    "command": "copy-feats scp:fbank/feats.1.ark:13 - |",
    "part": "fbank/feats.1.ark:13[0:9]",
}


@pytest.fixture
def data_dir(tiny_data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory in the current one; jobs are done by this process, which is quicker."""

    def run_jobs(commands: Sequence[Sequence[str]], *_: object, **__: object) -> None:
        for _, _, *argv in commands:
            monkeypatch.setattr(sys, "argv", argv)
            compute_fbank.main()

    monkeypatch.setattr(fbank, "run_jobs", run_jobs)
    monkeypatch.setattr(counting, "run_jobs", run_jobs)
    monkeypatch.chdir(tiny_data_dir.parent)
    return Path("tiny")


def compute(data_dir: Path, features: str) -> None:
    if features == "on_the_fly":
        count_frames(data_dir, FBANK, 2)
    else:
        store_fbank(data_dir, FBANK, 2, compressed=features == "compressed")


def put_foreign(data_dir: Path, place: str = FOREIGN["elsewhere"]) -> tuple[bytes, bytes]:
    """Make others' feats.scp, with one place of its own, and utt2num_frames; returns their bytes."""
    store_fbank(data_dir, FBANK, 2)
    write_table(data_dir / "feats.scp", {**read_table(data_dir / "feats.scp"), "spk1-utt3": place})
    write_table(data_dir / "utt2num_frames", dict.fromkeys(read_table(data_dir / "feats.scp"), "7"))
    return tables(data_dir)


def tables(folder: Path, ending: str = "") -> tuple[bytes, bytes]:
    return (folder / f"feats.scp{ending}").read_bytes(), (folder / f"utt2num_frames{ending}").read_bytes()


@pytest.mark.parametrize("place", FOREIGN.values(), ids=FOREIGN.keys())
@pytest.mark.parametrize("features", ["stored", "on_the_fly"])
def test_features_of_others_are_moved_aside_with_a_message(
    data_dir: Path, capsys: pytest.CaptureFixture[str], features: str, place: str
) -> None:
    before = put_foreign(data_dir, place)
    capsys.readouterr()
    compute(data_dir, features)
    message = "tiny/feats.scp: its features are not those in fbank; moved to tiny/.backup/feats.scp"
    assert message in capsys.readouterr().err.splitlines()
    assert tables(data_dir / ".backup") == before
    assert (data_dir / "feats.scp").exists() == (features == "stored")
    assert read_table(data_dir / "utt2num_frames")["spk0-utt1"] == "108"
    for utt in read_feature_dir(data_dir):
        assert load_features(utt.place, utt.utt_id, utt.frames).shape == (utt.frames, 80)
    compute(data_dir, features)
    assert "moved" not in capsys.readouterr().err
    assert sorted(path.name for path in (data_dir / ".backup").iterdir()) == ["feats.scp", "utt2num_frames"]


def test_what_was_moved_before_is_kept_too(data_dir: Path) -> None:
    first = put_foreign(data_dir)
    compute(data_dir, "on_the_fly")
    second = put_foreign(data_dir, FOREIGN["command"])
    compute(data_dir, "stored")
    assert first != second
    assert tables(data_dir / ".backup") == first and tables(data_dir / ".backup", ".2") == second


def test_what_is_moved_together_has_one_number(data_dir: Path) -> None:
    put_foreign(data_dir)
    (data_dir / "utt2num_frames").unlink()
    first = (data_dir / "feats.scp").read_bytes()
    compute(data_dir, "on_the_fly")
    second = put_foreign(data_dir, FOREIGN["command"])
    compute(data_dir, "stored")
    assert (data_dir / ".backup/feats.scp").read_bytes() == first
    assert tables(data_dir / ".backup", ".2") == second and len(list((data_dir / ".backup").iterdir())) == 3


@pytest.mark.parametrize("features", ["stored", "on_the_fly"])
def test_links_are_moved_and_their_targets_left_alone(data_dir: Path, features: str) -> None:
    theirs = put_foreign(data_dir)
    Path("theirs").mkdir()
    for name in ("feats.scp", "utt2num_frames"):
        (data_dir / name).rename(f"theirs/{name}")
        (data_dir / name).symlink_to(Path("theirs", name).absolute())
    compute(data_dir, features)
    assert tables(Path("theirs")) == theirs == tables(data_dir / ".backup")
    assert not (data_dir / "utt2num_frames").is_symlink() and not (data_dir / "feats.scp").is_symlink()
    assert read_table(data_dir / "utt2num_frames")["spk0-utt1"] == "108"


@pytest.mark.parametrize("features", ["stored", "on_the_fly"])
def test_a_link_to_what_is_not_there_is_moved_too(data_dir: Path, features: str) -> None:
    """As on a disk that is not mounted: when it is, the features there are not taken for ours."""
    for name in ("feats.scp", "utt2num_frames"):
        (data_dir / name).symlink_to(Path("disk", name).absolute())
    compute(data_dir, features)
    assert all(path.is_symlink() for path in (data_dir / ".backup").iterdir()) and not Path("disk").exists()
    assert len(list((data_dir / ".backup").iterdir())) == 2
    Path("disk").mkdir()
    write_table(Path("disk/feats.scp"), dict.fromkeys(read_table(data_dir / "utt2num_frames"), FOREIGN["elsewhere"]))
    for utt in read_feature_dir(data_dir):
        assert load_features(utt.place, utt.utt_id, utt.frames).shape == (utt.frames, 80)


def test_after_a_kill_between_the_moves_the_rest_is_moved(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = put_foreign(data_dir)
    rename, moved = Path.rename, []

    def killed(path: Path, target: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(rename(path, target))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed)
        compute(data_dir, "on_the_fly")
    compute(data_dir, "on_the_fly")
    assert tables(data_dir / ".backup") == before and not (data_dir / "feats.scp").exists()


@pytest.mark.parametrize("features", ["stored", "on_the_fly"])
@pytest.mark.parametrize(
    "fault",
    ["2.wav: ", "spk1-utt2.*: 0 s to 9 s is not within the recording's 1.2 s"],
    ids=["audio", "segment"],
)
def test_features_of_others_stay_where_ours_cannot_be_computed(data_dir: Path, features: str, fault: str) -> None:
    before = put_foreign(data_dir)
    recordings = read_table(data_dir / "wav.scp")
    if "9 s" in fault:
        segments = {utt_id: f"{utt_id} 0 {9 if utt_id == 'spk1-utt2' else 1}" for utt_id in recordings}
        write_table(data_dir / "segments", segments)
    else:
        Path(recordings["spk1-utt2"]).write_bytes(b"no audio")
    with pytest.raises(UserError, match=fault):
        compute(data_dir, features)
    assert tables(data_dir) == before and not (data_dir / ".backup").exists()


def test_features_of_others_stay_where_ours_are_not_all_there(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = put_foreign(data_dir)
    run_jobs = fbank.run_jobs

    def lose_the_last(*args: object, **options: object) -> None:
        run_jobs(*args, **options)
        (FBANK / "feats.2.scp").write_bytes(b"")

    monkeypatch.setattr(fbank, "run_jobs", lose_the_last)
    with pytest.raises(UserError, match="no features for 2 utterances, first spk1-utt2"):
        compute(data_dir, "stored")
    assert tables(data_dir) == before and not (data_dir / ".backup").exists()


def test_our_own_are_replaced_without_a_word(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    perturb_data_dir(data_dir, Path("tiny_sp"), [0.9])
    for folder in (data_dir, Path("tiny_sp")):
        made: dict[str, bytes] = {}
        for features in ("stored", "compressed", "on_the_fly", "stored", "on_the_fly", "compressed"):
            compute(folder, features)
            archives = sorted(FBANK.glob("feats.*"))
            assert len(archives) == (0 if features == "on_the_fly" else 4)
            content = b"".join(path.read_bytes() for path in archives)
            assert made.setdefault(features, content) == content
            assert (folder / "feats.scp").exists() == (features != "on_the_fly")
        store_fbank(folder, FBANK.absolute(), 2)  # the same folder by another name
        assert not (folder / ".backup").exists()
        store_fbank(folder, FBANK, 1)
    assert "moved" not in capsys.readouterr().err


@pytest.mark.parametrize("features", ["stored", "on_the_fly"])
def test_only_what_jobs_make_is_deleted(data_dir: Path, features: str) -> None:
    FBANK.mkdir()
    stale = ["feats.7.ark", "feats.7.scp", "feats.12.ark.tmp", "feats.7.scp.tmp"]
    stale += ["headers.9", "headers.9.tmp"] if features == "on_the_fly" else []
    mine = ["feats.mine", "feats.scp", "feats.ark", "feats.1.ark.gz", "feats.old.ark", "headers.mine", "headers.txt"]
    for name in stale + mine:
        (FBANK / name).write_bytes(b"mine")
    compute(data_dir, features)
    made = ["feats.1.ark", "feats.1.scp", "feats.2.ark", "feats.2.scp"] if features == "stored" else []
    assert {path.name for path in FBANK.iterdir()} == {*mine, *made}
