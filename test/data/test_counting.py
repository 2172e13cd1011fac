"""Features that are not stored: their frames are counted exactly, and they are the same as stored ones."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from omnirouter.data import counting
from omnirouter.data.audio import load_utterance, resampled_length
from omnirouter.data.counting import count_frames
from omnirouter.data.datadir import Utterance, read_data_dir, read_table, write_data_dir, write_table
from omnirouter.data.dataset import FeatureUtterance, ordered_batches, read_feature_dir
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import fbank, frame_count, store_fbank
from omnirouter.data.features import load_features
from omnirouter.data.parsing import Pipe
from omnirouter.data.perturb import perturb_data_dir

RATES_HZ = (8000, 11025, 16000, 22050, 44100, 48000)
SPEEDS = (0.9, 1.0, 1.1)
WriteTone = Callable[..., Path]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def noise(path: Path, samples: int, rate_hz: int = 16000, **options: str) -> Path:
    rng = np.random.default_rng(samples)
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, rng.uniform(-0.5, 0.5, samples), rate_hz, **options)
    return path


def various_sources() -> list[Utterance]:
    """Whole files of several formats and rates, segments of a long one, commands, and all at other speeds."""
    files = [
        noise(Path("wavs/a.wav"), 20_001),
        noise(Path("wavs/b.flac"), 33_333),
        noise(Path("wavs/c.wav"), 30_011, 24000),
        noise(Path("wavs/d.flac"), 70_007, 44100),
        noise(Path("wavs/e.mp3"), 48_001, 48000),
        noise(Path("wavs/f.opus"), 30_000, 48000, format="OGG", subtype="OPUS"),
        noise(Path("wavs/g.ogg"), 9_999, 8000),
        noise(Path("wavs/h.wav"), 399),
        noise(Path("wavs/i.wav"), 400),
    ]
    utterances = [Utterance(path.stem, path, "x", "s") for path in files]
    long = noise(Path("wavs/long.flac"), 16000 * 60)
    for i, (start_s, end_s) in enumerate([(0.0, 1.5), (10.00003, 12.34567), (59.5, None), (58.9, 60.4)]):
        utterances.append(Utterance(f"seg{i}", long, "x", "s", start_s, end_s))
    utterances.append(Utterance("seg_mp3", files[4], "x", "s", 0.3, 0.77))
    utterances.append(Utterance("piped", Pipe("cat wavs/b.flac"), "x", "s"))
    return utterances


def make_data_dir() -> None:
    utterances = various_sources()
    recordings = {utt.recording: f"rec-{i:02d}" for i, utt in enumerate(utterances)}
    write_data_dir("plain", utterances, {key: recording for recording, key in recordings.items()})
    perturb_data_dir("plain", "data", [0.9, 1.1], allow_pipes=True)


def features_of(data_dir: Path) -> dict[str, np.ndarray]:
    utterances = read_feature_dir(data_dir, allow_pipes=True)
    return {utt.utt_id: load_features(utt.place, utt.utt_id, utt.frames) for utt in utterances}


@pytest.mark.parametrize("jobs", [1, 3])
def test_frames_and_features_are_those_that_are_stored(jobs: int) -> None:
    make_data_dir()
    data_dir = Path("data")
    total = store_fbank(data_dir, Path("fbank"), jobs, allow_pipes=True)
    counts, stored = (data_dir / "utt2num_frames").read_bytes(), features_of(data_dir)
    assert len(stored) == 45 and len({len(matrix) for matrix in stored.values()}) > 20
    assert count_frames(data_dir, Path("fbank"), jobs, allow_pipes=True) == total
    assert (data_dir / "utt2num_frames").read_bytes() == counts
    assert not (data_dir / "feats.scp").exists() and [path.name for path in Path("fbank").iterdir()] == ["log"]
    computed = features_of(data_dir)
    assert computed.keys() == stored.keys()
    for utt_id, matrix in stored.items():
        assert matrix.dtype == computed[utt_id].dtype and np.array_equal(matrix, computed[utt_id]), utt_id
    store_fbank(data_dir, Path("fbank"), jobs, allow_pipes=True)  # and back
    assert (data_dir / "feats.scp").exists() and (data_dir / "utt2num_frames").read_bytes() == counts


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_counts_are_what_comes_out_for_odd_lengths(tmp_path: Path, rate_hz: int, speed: float) -> None:
    rng = np.random.default_rng(rate_hz)
    edges = [int(np.ceil((400 + 160 * k) * rate_hz * speed / 16000)) for k in (0, 1, 7)]
    lengths = [n + d for n in edges for d in (-1, 0, 1)] + rng.integers(300, 300_000, 12).tolist()
    if math.gcd(round(rate_hz * speed), 16000) < 100:  # resampling by such factors takes seconds
        lengths = lengths[3:6]
    soundfile.write(tmp_path / "long.wav", rng.uniform(-0.5, 0.5, 300_000), rate_hz)
    from_hz = np.full(len(lengths), round(rate_hz * speed))
    counted = frame_count(resampled_length(np.array(lengths), from_hz, 16000))
    for length, frames in zip(lengths, counted.tolist(), strict=True):
        utt = Utterance("u", tmp_path / "long.wav", "", "", 0.0, length / rate_hz, speed=speed)
        assert frames == len(fbank(load_utterance(utt))), length


def test_counts_by_hand() -> None:
    assert frame_count(np.array([0, 399, 400, 559, 560, 16000])).tolist() == [0, 0, 1, 1, 2, 98]
    # 14400 Hz to 16 kHz is 10 for 9; 22050 to 16000 is 320 for 441
    lengths = resampled_length(np.array([9, 10, 441, 442, 7]), np.array([14400, 14400, 22050, 22050, 16000]), 16000)
    assert lengths.tolist() == [10, 12, 320, 321, 7]


def test_a_rate_at_another_speed_is_rounded_not_cut_off() -> None:
    path = noise(Path("a.wav"), 2643, 24000)
    write_data_dir("data", [Utterance("u", path, "x", "s", speed=1.16)])
    assert 24000 * 1.16 < 27840
    # 27840 Hz to 16 kHz is 50 for 87: 1519 samples, one less than an eighth frame needs, which 27839 Hz would give
    assert count_frames(Path("data"), Path("fbank"), 1) == 7 == len(fbank(load_utterance(read_data_dir("data")[0])))


def test_lengths_are_those_of_the_resampler_where_single_precision_rounds(tmp_path: Path) -> None:
    import torch
    from torchaudio.functional import resample

    for samples in (1_000_001, 7_000_003, 25_000_007):
        wanted = resample(torch.zeros(samples), 14400, 16000).shape[0]
        assert resampled_length(np.array([samples]), np.array([14400]), 16000).tolist() == [wanted]


def test_each_recording_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command leaves a trace for each time that it is run."""
    noise(Path("long.wav"), 16000 * 10)
    command = Pipe("echo >> opened; cat long.wav")
    utterances = [Utterance(f"u{i:02d}", command, "x", "s", i / 5, (i + 1) / 5, duration_s=0.2) for i in range(50)]
    write_data_dir("data", utterances, {"rec": command})
    count_frames(Path("data"), Path("fbank"), 3, allow_pipes=True)
    assert len(Path("opened").read_text()) == 1
    assert set(read_table("data/utt2num_frames").values()) == {"18"}


def test_a_file_that_a_job_renames_while_progress_is_looked_at_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "headers.1.tmp").write_bytes(bytes(3 * counting.HEADER.itemsize))
    (tmp_path / "headers.2.tmp").write_bytes(bytes(2 * counting.HEADER.itemsize + 5))
    list_files = counting.job_files

    def list_then_rename(output: Path, kind: str) -> list[Path]:
        listed = list_files(output, kind)
        (tmp_path / "headers.1.tmp").rename(tmp_path / "headers.1")
        return listed

    with monkeypatch.context() as patch:
        patch.setattr(counting, "job_files", list_then_rename)
        assert counting._count_done(tmp_path) == 2
    assert counting._count_done(tmp_path) == 5


def test_commands_need_permission_each_time(write_tone: WriteTone) -> None:
    write_tone(Path("a.wav"))
    write_data_dir("data", [Utterance("u", Pipe("touch pwned; cat a.wav"), "x", "s", duration_s=1.0)])
    with pytest.raises(UserError, match="'u' would run a shell command"):
        count_frames(Path("data"), Path("fbank"), 1)
    assert not Path("pwned").exists()
    count_frames(Path("data"), Path("fbank"), 1, allow_pipes=True)
    Path("pwned").unlink()
    with pytest.raises(UserError, match="'u' would run a shell command"):
        read_feature_dir(Path("data"))
    assert not Path("pwned").exists()


def spoil(kind: str) -> None:
    if kind == "segment":
        write_table("data/segments", {**read_table("data/segments"), "u1": "rec 3.0 9.0"})
    elif kind == "columns":
        write_table("data/segments", {**read_table("data/segments"), "u1": "rec 3.0"})
    elif kind == "unknown":
        write_table("data/segments", {**read_table("data/segments"), "u1": "record 0.1 0.2"})
    elif kind == "missing":
        os.remove("rec.wav")
    elif kind == "stereo":
        soundfile.write("rec.wav", np.zeros((64000, 2)), 16000)


FAULTS = {
    "segment": "utterance 'u1': 3 s to 9 s is not within the recording's 4 s",
    "columns": "segments:2: 3 columns, not 4",
    "unknown": "unknown recording 'record'",
    "missing": "recording rec: rec.wav: cannot be read",
    "stereo": "recording rec: rec.wav: 2 channels",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_are_named_and_leave_what_was_there(kind: str) -> None:
    noise(Path("rec.wav"), 64000)
    write_data_dir("data", [Utterance(f"u{i}", Path("rec.wav"), "x", "s", i, i + 1.0) for i in range(3)])
    store_fbank(Path("data"), Path("fbank"), 1)
    before = features_of(Path("data"))
    spoil(kind)
    with pytest.raises(UserError, match=FAULTS[kind]):
        count_frames(Path("data"), Path("fbank"), 2)
    assert all(np.array_equal(matrix, before[key]) for key, matrix in features_of(Path("data")).items())


def test_audio_that_has_become_longer_is_noticed(write_tone: WriteTone) -> None:
    write_tone(Path("a.wav"))
    write_data_dir("data", [Utterance("u", Path("a.wav"), "x", "s")])
    count_frames(Path("data"), Path("fbank"), 1)
    write_tone(Path("a.wav"), 1.5)
    with pytest.raises(UserError, match="utterance u: 148 frames, 98 when counted; run stage 2 again"):
        features_of(Path("data"))


def test_evaluation_batches_are_the_same_on_the_fly_and_stored() -> None:
    make_data_dir()
    os.remove("data/text")
    os.remove("data/utt2spk")
    os.remove("data/spk2utt")

    def batches(utterances: list[FeatureUtterance]) -> list[tuple[list[str], list[int], bytes]]:
        batches = ordered_batches(utterances, 7.0)
        return [(batch.utt_ids, batch.lengths, batch.features.numpy().tobytes()) for batch in batches]

    store_fbank(Path("data"), Path("fbank"), 2, allow_pipes=True)
    stored = batches(read_feature_dir(Path("data"), allow_pipes=True))
    count_frames(Path("data"), Path("fbank"), 2, allow_pipes=True)
    assert len(stored) > 5 and batches(read_feature_dir(Path("data"), allow_pipes=True)) == stored
