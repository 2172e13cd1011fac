"""Filter banks against kaldi-native-fbank, and their storage."""

import subprocess
import sys
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from omnirouter.data.audio import load_utterance
from omnirouter.data.datadir import Utterance, read_data_dir, read_table, write_data_dir
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import fbank, store_fbank


def native_fbank(samples: np.ndarray) -> np.ndarray:
    native = pytest.importorskip("kaldi_native_fbank")
    options = native.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = 16000
    options.mel_opts.num_bins = 80
    extractor = native.OnlineFbank(options)
    extractor.accept_waveform(16000, (samples * 32768).tolist())
    extractor.input_finished()
    return np.stack([extractor.get_frame(i) for i in range(extractor.num_frames_ready)])


@pytest.mark.parametrize("samples", [400, 559, 560, 16000, 33333])
def test_fbank_equals_kaldi_native_fbank(samples: int) -> None:
    rng = np.random.default_rng(0)
    wave = (0.1 * rng.standard_normal(samples)).astype(np.float32)
    mine, wanted = fbank(wave), native_fbank(wave)
    assert mine.shape == wanted.shape == (1 + (samples - 400) // 160, 80)
    np.testing.assert_allclose(mine, wanted, atol=2e-3)


def test_fbank_of_real_speech_equals_kaldi_native_fbank(test_data: Path) -> None:
    path = sorted((test_data / "an4/wav/an4_clstk/fash").iterdir())[0]
    wave = load_utterance(Utterance("u", path, "", "s"))
    np.testing.assert_allclose(fbank(wave), native_fbank(wave), atol=2e-3)


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.1, 0.9])
@pytest.mark.parametrize("n_mels", [40, 80])
def test_fbank_equals_torchaudio(level: float, n_mels: int) -> None:
    torch, kaldi = pytest.importorskip("torch"), pytest.importorskip("torchaudio.compliance.kaldi")
    rng = np.random.default_rng(0)
    wave = (level * rng.standard_normal(16000 * 7 + 123) + level / 3).astype(np.float32)  # longer than two blocks
    wave[5000:9000] = level  # nothing but an offset
    scaled = torch.from_numpy(wave).unsqueeze(0) * 32768
    wanted = kaldi.fbank(scaled, num_mel_bins=n_mels, dither=0.0, sample_frequency=16000)
    np.testing.assert_allclose(fbank(wave, n_mels), wanted.numpy(), atol=1e-4)


def test_shorter_than_a_window_gives_no_frame() -> None:
    assert fbank(np.zeros(399, np.float32)).shape == (0, 80)


@pytest.mark.parametrize("jobs", [1, 3, 9])
def test_stored_features_are_the_computed_ones(
    tiny_data_dir: Path, tmp_path: Path, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frames = store_fbank(tiny_data_dir, Path("fbank"), jobs)
    places = read_table(tiny_data_dir / "feats.scp")
    counts = read_table(tiny_data_dir / "utt2num_frames")
    utterances = read_data_dir(tiny_data_dir)
    assert list(places) == [utterance.utt_id for utterance in utterances]
    for utterance in utterances:
        wanted = fbank(load_utterance(utterance))
        np.testing.assert_array_equal(kaldiio.load_mat(places[utterance.utt_id]), wanted)
        assert int(counts[utterance.utt_id]) == len(wanted)
    assert frames == sum(map(int, counts.values()))


def test_an_utterance_without_frames_is_stored_empty(
    tmp_path: Path, write_tone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {"long": write_tone(tmp_path / "long.wav"), "short": write_tone(tmp_path / "short.wav", duration_s=0.01)}
    write_data_dir("data", [Utterance(key, path, "A", "s") for key, path in paths.items()])
    store_fbank(Path("data"), Path("fbank"), 2)
    assert read_table("data/utt2num_frames") == {"long": "98", "short": "0"}
    assert kaldiio.load_mat(read_table("data/feats.scp")["short"]).shape == (0, 80)


def test_a_failed_job_names_the_utterance_and_writes_no_feats_scp(tiny_data_dir: Path, tmp_path: Path) -> None:
    Path(read_table(tiny_data_dir / "wav.scp")["spk1-utt2"]).write_bytes(b"no audio")
    with pytest.raises(UserError, match="spk1-utt2"):
        store_fbank(tiny_data_dir, tmp_path / "fbank", 2)
    assert not (tiny_data_dir / "feats.scp").exists()


def test_the_command_exits_with_1_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "omnirouter.bin.compute_fbank", str(tmp_path / "none"), "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


@pytest.mark.parametrize("part", ["x", "0/2", "3/2", "1"])
def test_a_part_that_cannot_be_is_refused(tmp_path: Path, part: str) -> None:
    command = [sys.executable, "-m", "omnirouter.bin.compute_fbank", "data", "--output", "out", "--job", part]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--job: " in done.stderr
