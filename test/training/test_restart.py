"""--restart: nothing deleted before the new training can begin, the user's list kept, nothing left behind."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from omnirouter.bin.train import main
from omnirouter.data.errors import UserError
from omnirouter.data.sampler import BatchConfig
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.experiment import Inputs
from omnirouter.training.run import train

CPU = torch.device("cpu")


def test_a_restart_that_cannot_begin_deletes_nothing(tmp_path: Path, inputs: Inputs, short: ExperimentConfig) -> None:
    exp, other = tmp_path / "exp/a", tmp_path / "exp/other"
    train(exp, short, inputs, CPU)
    train(other, dataclasses.replace(short, model=dataclasses.replace(short.model, dim=64)), inputs, CPU)
    before = (exp / "model.pt").stat().st_mtime_ns
    for name, words in (("a", "the experiment itself"), ("other", "another shape"), ("none", "does not exist")):
        with pytest.raises(UserError, match=words):
            train(exp, short, dataclasses.replace(inputs, init=tmp_path / "exp" / name), CPU, restart=True)
    (inputs.dev / "text").rename(inputs.dev / "gone")
    with pytest.raises(UserError, match="text does not exist"):
        train(exp, short, inputs, CPU, restart=True)
    (inputs.dev / "gone").rename(inputs.dev / "text")
    (inputs.dev / "utt005.ark").rename(inputs.dev / "gone")
    with pytest.raises(UserError, match="utt005: cannot read its features"):
        train(exp, short, inputs, CPU, restart=True)
    (inputs.dev / "gone").rename(inputs.dev / "utt005.ark")
    tiny, narrow = BatchConfig(max_utterance_s=0.2), dataclasses.replace(short.model, n_mels=40)
    with pytest.raises(UserError, match="model.n_mels is 40, but the training features have 80 values"):
        train(exp, dataclasses.replace(short, model=narrow), inputs, CPU, restart=True)
    with pytest.raises(UserError, match=r"no training utterance is left; .*/\.a\.trial/dropped_utts says why"):
        train(exp, dataclasses.replace(short, batch=tiny), inputs, CPU, restart=True)
    assert len((tmp_path / "exp/.a.trial/dropped_utts").read_text().splitlines()) == 60
    (exp / "leave_out").write_text("utt003\nnobody\n")
    with pytest.raises(UserError, match=r"exp/a/leave_out:2: 'nobody' is no utterance"):
        train(exp, short, inputs, CPU, restart=True)
    (exp / "leave_out").unlink()
    assert (exp / "model.pt").stat().st_mtime_ns == before and (exp / "checkpoints").is_dir()
    train(exp, short, inputs, CPU)  # without it, the model that is still there
    assert {path.name for path in (tmp_path / "exp").iterdir()} == {"a", "other"}
    train(exp, short, inputs, CPU, restart=True)
    assert (exp / "model.pt").stat().st_mtime_ns > before
    assert {path.name for path in (tmp_path / "exp").iterdir()} == {"a", "other"}


def test_a_training_may_be_begun_anew_from_inside(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(short.as_dict()))
    for folder, exp, dev in ((inputs.dev, tmp_path / "exp/a", "."), (tmp_path / "exp/a", ".", inputs.dev)):
        monkeypatch.chdir(folder)
        options = {"config": tmp_path / "c.yaml", "exp": exp, "dev": dev, "train": inputs.train, "lang": inputs.lang}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        monkeypatch.setattr(sys, "argv", ["train", *words, "--ngpu", "0", "--restart"])
        main()
        config = yaml.safe_load((tmp_path / "exp/a/config.yaml").read_text())
        assert config["inputs"]["dev"] == str(inputs.dev)  # by whose name tables tell a dev set
        assert (tmp_path / "exp/a/model.pt").exists()


def test_a_restart_is_due_until_the_old_experiment_is_gone(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun gives the same command, --restart included, after each failure."""
    model = tmp_path / "exp/a/model.pt"
    train(model.parent, short, inputs, CPU)
    before = model.stat().st_mtime_ns
    missing = dataclasses.replace(inputs, lang_text=inputs.train / "text", init=tmp_path / "none")
    for attempt in ("0", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", attempt)
        with pytest.raises(UserError, match="does not exist"):
            train(model.parent, short, missing, CPU, restart=True)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    train(model.parent, short, inputs, CPU, restart=True)
    anew = model.stat().st_mtime_ns
    assert anew > before
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "3")
    train(model.parent, short, inputs, CPU, restart=True)
    assert model.stat().st_mtime_ns == anew


def test_what_a_killed_restart_has_left_goes_with_the_next_start(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig
) -> None:
    (tmp_path / "exp/.a.removed/decode_test").mkdir(parents=True)
    train(tmp_path / "exp/a", short, inputs, CPU)
    assert [path.name for path in (tmp_path / "exp").iterdir()] == ["a"]


def test_a_restart_keeps_the_list_of_utterances_to_leave_out(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig
) -> None:
    exp, removed = tmp_path / "exp/a", tmp_path / "exp/.a.removed"
    train(exp, short, inputs, CPU)
    (exp / "decode_test").mkdir()
    for utt_ids in ("utt003\n", "utt003\nutt004\n"):
        (exp / "leave_out").write_text(utt_ids)
        train(exp, short, inputs, CPU, restart=True)
        assert (exp / "leave_out").read_text() == utt_ids and not (exp / "decode_test").exists()
        assert json.loads((exp / "model_info.json").read_text())["left_out"] == utt_ids.count("utt")
    exp.rename(removed)  # a restart that was killed when it had done so
    train(exp, short, inputs, CPU)
    assert (exp / "leave_out").read_text() == utt_ids and not removed.exists()
    removed.mkdir()
    (removed / "leave_out").write_text("utt005\n")  # of before; the user has written another one since
    train(exp, short, inputs, CPU)
    assert (exp / "leave_out").read_text() == utt_ids and not removed.exists()


def test_a_restart_keeps_a_link_and_deletes_what_it_leads_to(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig
) -> None:
    exp, disk = tmp_path / "exp/link", tmp_path / "disk"
    exp.parent.mkdir()
    disk.mkdir()
    exp.symlink_to("../disk/a")
    with pytest.raises(UserError, match=f"exp/link links to {disk}/a, which does not exist; mount its disk"):
        train(exp, short, inputs, CPU)
    (disk / "a").mkdir()
    train(exp, short, inputs, CPU)
    (exp / "leave_out").write_text("utt003\n")
    for _ in range(2):
        (disk / "a/checkpoints/9.pt").write_text("of the old training")
        before = (exp / "model.pt").stat().st_mtime_ns
        train(exp, short, inputs, CPU, restart=True)
        assert exp.is_symlink() and (disk / "a/model.pt").stat().st_mtime_ns > before
        assert not (disk / "a/checkpoints/9.pt").exists() and (disk / "a/leave_out").read_text() == "utt003\n"
        assert [path.name for folder in (exp.parent, disk) for path in folder.iterdir()] == ["link", "a"]


def test_nothing_is_trained_in_a_linked_folder_whose_disk_is_not_mounted(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig
) -> None:
    """`exp` -> a folder of a disk: when that is not mounted, its mount point is an empty folder."""
    exp, disk, mounted = tmp_path / "exp/a", tmp_path / "disk", tmp_path / "mounted"
    exp.parent.symlink_to(disk / "exp")
    (disk / "exp").mkdir(parents=True)
    train(exp, short, inputs, CPU)
    before = (exp / "model.pt").stat().st_mtime_ns
    disk.rename(mounted)
    disk.mkdir()
    for restart in (False, True):
        with pytest.raises(UserError, match=f"{exp.parent} links to {disk}/exp, which does not exist; mount its disk"):
            train(exp, short, inputs, CPU, restart)
        assert not any(disk.iterdir())
    disk.rmdir()
    mounted.rename(disk)
    train(exp, short, inputs, CPU)  # finished
    assert (exp / "model.pt").stat().st_mtime_ns == before


@pytest.mark.parametrize("linked", [False, True])
def test_a_restart_where_a_disk_is_mounted_is_refused_before_anything_is_made(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    mount = tmp_path / "disk/vol"
    mount.mkdir(parents=True)
    (tmp_path / "link").symlink_to(mount)
    exp = tmp_path / "link" if linked else mount
    train(exp, short, inputs, CPU)
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path) == mount)
    before = {path: path.stat().st_mtime_ns for path in mount.parent.rglob("*")}
    with pytest.raises(UserError, match=f"^{mount}: a disk is mounted there, .* make {exp} a link to a folder on that"):
        train(exp, short, inputs, CPU, restart=True)
    assert {path: path.stat().st_mtime_ns for path in mount.parent.rglob("*")} == before
    train(exp, short, inputs, CPU)  # finished


@pytest.mark.parametrize("made", [False, True])  # killed before, or after, the target is there again
def test_what_a_killed_restart_of_a_link_has_left_goes_with_the_next_start(
    tmp_path: Path, inputs: Inputs, short: ExperimentConfig, made: bool
) -> None:
    exp, disk = tmp_path / "exp/link", tmp_path / "disk"
    exp.parent.mkdir()
    exp.symlink_to(disk / "a")
    for name in (".a.removed", ".a.trial"):
        (disk / name / "lang").mkdir(parents=True)
    (disk / ".a.removed/leave_out").write_text("utt003\n")
    if made:
        (disk / "a").mkdir()
    train(exp, short, inputs, CPU)
    assert exp.is_symlink() and (disk / "a/model.pt").exists() and (exp / "leave_out").read_text() == "utt003\n"
    assert [path.name for folder in (exp.parent, disk) for path in folder.iterdir()] == ["link", "a"]
