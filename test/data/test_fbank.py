"""Filter banks against kaldi-native-fbank, and their storage."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from omnirouter.data import fbank as module
from omnirouter.data import streams
from omnirouter.data.audio import load_utterance
from omnirouter.data.datadir import Utterance, read_data_dir, read_table, write_data_dir
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import GrowingLists, fbank, run_fbank_job, store_fbank
from omnirouter.data.parsing import Pipe


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


def test_utterances_in_any_order_are_stored_in_that_of_their_ids(
    tiny_data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store_fbank(tiny_data_dir, Path("fbank"), 2)
    before = {path.name: path.read_bytes() for path in [*Path("fbank").glob("feats.*"), tiny_data_dir / "feats.scp"]}
    lines = (tiny_data_dir / "wav.scp").read_text().splitlines(keepends=True)
    (tiny_data_dir / "wav.scp").write_text("".join(reversed(lines)))
    store_fbank(tiny_data_dir, Path("fbank"), 2)
    assert len(before) == 5
    assert {
        name: (tiny_data_dir if name == "feats.scp" else Path("fbank")).joinpath(name).read_bytes() for name in before
    } == before


def test_a_fault_in_a_table_is_named_with_file_and_line_before_any_job(tiny_data_dir: Path, tmp_path: Path) -> None:
    text = (tiny_data_dir / "text").read_text()
    (tiny_data_dir / "text").write_text(text.replace("spk0-utt1 ", "spk0-uttX "))
    with pytest.raises(UserError, match=r"text:2: utterance 'spk0-uttX' is not in wav.scp; .* \(1 more: run "):
        store_fbank(tiny_data_dir, tmp_path / "fbank", 2)
    assert not (tmp_path / "fbank").exists()


def test_features_that_lack_are_counted_and_nothing_is_written(tiny_data_dir: Path, tmp_path: Path) -> None:
    store_fbank(tiny_data_dir, tmp_path / "fbank", 2)
    before = (tiny_data_dir / "feats.scp").read_bytes()
    lines = (tmp_path / "fbank/feats.1.scp").read_text().splitlines(keepends=True)
    (tmp_path / "fbank/feats.1.scp").write_text(lines[1])
    with pytest.raises(UserError, match="no features for 1 utterances, first spk0-utt0; see"):
        module._join(tiny_data_dir, tmp_path / "fbank", 2)
    assert (tiny_data_dir / "feats.scp").read_bytes() == before


def test_growing_lists_are_read_once_and_may_be_renamed(tmp_path: Path) -> None:
    lists = GrowingLists([tmp_path / "a.scp", tmp_path / "b.scp"])
    assert lists.count() == 0
    growing = tmp_path / "a.scp.tmp"
    growing.write_text("1\n2\nhalf of a li")
    assert lists.count() == 2
    growing.write_text("\n" * 15 + "ne\n")  # what has been read is not looked at again
    (tmp_path / "b.scp").write_text("1\n")
    assert lists.count() == 4
    growing.rename(tmp_path / "a.scp")
    assert lists.count() == 4
    with open(tmp_path / "a.scp", "a") as file:
        file.write("last\n")
    assert lists.count() == 5


def test_a_job_reads_its_part_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK_LINES", 1000)
    monkeypatch.setattr(module, "utterance_fbank", lambda utt: np.full((2, 80), utt.start_s, np.float32))
    peaks = []
    for count in (10, 20_000, 40_000):  # the first imports
        data_dir = tmp_path / str(count)
        data_dir.mkdir()
        (data_dir / "wav.scp").write_text("rec rec.flac\n")
        (data_dir / "segments").write_text("".join(f"utt{i:09d} rec {i} {i + 9}\n" for i in range(count)))
        tracemalloc.start()
        run_fbank_job(data_dir, data_dir, 3, 5)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        lines = (data_dir / "feats.3.scp").read_text().splitlines()
        assert [line.split()[0] for line in lines] == [f"utt{i:09d}" for i in range(count * 2 // 5, count * 3 // 5)]
    assert kaldiio.load_mat(lines[7].split()[1])[0, 0] == 16_007
    assert peaks[2] - peaks[1] < 20_000 * 10 and peaks[2] < 2**22


def test_a_job_by_itself_runs_no_command_either(tmp_path: Path) -> None:
    write_data_dir(tmp_path / "data", [Utterance("u", Pipe(f"touch {tmp_path}/pwned"), "A", "s", duration_s=1.0)])
    with pytest.raises(UserError, match="utterance u: its entry in wav.scp would run a shell command; .*--allow-pipes"):
        run_fbank_job(tmp_path / "data", tmp_path, 1, 1)
    assert not (tmp_path / "pwned").exists()
