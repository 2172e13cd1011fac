import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from omnirouter.data.datadir import Utterance, read_data_dir, read_recordings, write_data_dir
from omnirouter.data.errors import UserError
from omnirouter.data.perturb import perturb_data_dir
from omnirouter.data.validate import validate_data_dirs


def test_copies(tmp_path: Path, tiny_data_dir: Path) -> None:
    perturb_data_dir(tiny_data_dir, tmp_path / "sp", [0.9, 1.1])
    originals, perturbed = read_data_dir(tiny_data_dir), read_data_dir(tmp_path / "sp")
    by_id = {utt.utt_id: utt for utt in perturbed}
    assert len(perturbed) == 12
    for utt in originals:
        assert by_id[utt.utt_id] == utt
    slow, fast = by_id["sp0.9-spk1-utt2"], by_id["sp1.1-spk1-utt2"]
    assert (slow.speaker, slow.text, slow.speed, slow.recording.name) == ("sp0.9-spk1", "tone number 2", 0.9, "2.wav")
    assert (slow.duration_s, fast.duration_s) == (1.333333, 1.090909)  # 1.2 / 0.9 and 1.2 / 1.1
    assert (tmp_path / "sp" / "spk2utt").read_text().count("\n") == 6
    (report,) = validate_data_dirs([tmp_path / "sp"], deep=True)
    assert report.problems == []


def test_segments_stay_as_they_are(tmp_path: Path, write_tone: Callable[..., Path]) -> None:
    recording = write_tone(tmp_path / "x.wav", 3.0)
    write_data_dir(tmp_path / "d", [Utterance("u", recording, "x", "s", 1.0, 2.5)], {"meeting": recording})
    perturb_data_dir(tmp_path / "d", tmp_path / "sp", [0.9])
    assert (tmp_path / "sp" / "segments").read_text() == (
        "sp0.9-u meeting 1.000000 2.500000\nu meeting 1.000000 2.500000\n"
    )
    assert (tmp_path / "sp" / "utt2dur").read_text() == "sp0.9-u 1.666667\nu 1.500000\n"
    assert read_recordings(tmp_path / "sp") == {"meeting": recording}


@pytest.mark.parametrize("factors", [[], [1.0], [0.9, 0.9], [0.0], [-1.0], [float("nan")]])
def test_senseless_factors_are_refused(tmp_path: Path, tiny_data_dir: Path, factors: list[float]) -> None:
    with pytest.raises(UserError, match="speed factors"):
        perturb_data_dir(tiny_data_dir, tmp_path / "sp", factors)
    assert not (tmp_path / "sp").exists()


def test_the_source_is_not_replaced(tiny_data_dir: Path) -> None:
    with pytest.raises(UserError, match="must not replace"):
        perturb_data_dir(tiny_data_dir, tiny_data_dir / ".." / tiny_data_dir.name, [0.9])


def test_command_line_names_a_bad_factor(tmp_path: Path, tiny_data_dir: Path) -> None:
    command = [sys.executable, "-m", "omnirouter.bin.perturb_speed", tiny_data_dir, "--output", tmp_path / "sp"]
    done = subprocess.run([*command, "--factors", "0.9 fast"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: --factors '0.9 fast': ")
    assert subprocess.run([*command, "--factors=0.9"]).returncode == 0
    assert len(read_data_dir(tmp_path / "sp")) == 8
