"""The mini corpus as synthesised: signal-to-noise ratios, sample rate, and bytes that depend on the seed alone."""

import dataclasses
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import soundfile
from threadpoolctl import threadpool_info, threadpool_limits

pytest.importorskip("espeakng_loader")

from omnirouter.corpora import mini  # noqa: E402
from omnirouter.corpora.mini_plan import NOISES, Spec, plan, takes  # noqa: E402
from omnirouter.data.datadir import read_data_dir, read_table  # noqa: E402

COUNTS = {"test": 40, "dev": 16, "train": 90}


def prepare(folder: Path, counts: dict[str, int] = COUNTS, seed: int = 0, jobs: int = 2) -> dict[str, str]:
    """Make a small corpus in `folder` and return the digests of its files."""
    with pytest.MonkeyPatch.context() as patch:
        folder.mkdir(exist_ok=True)
        patch.chdir(folder)
        mini.prepare_mini(Path("data"), Path("wavs"), counts, seed, jobs)
    return digests(folder)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini")
    prepare(folder)
    return folder


def test_data_directories(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus)
    for set_name, count in COUNTS.items():
        utterances = read_data_dir(f"data/{set_name}")
        specs = {spec.utt_id: spec for spec in plan(set_name, count, 0)}
        assert {utt.utt_id: utt.text for utt in utterances} == {key: spec.text for key, spec in specs.items()}
        noises = read_table(f"data/{set_name}/utt2noise")
        for utt in utterances:
            info = soundfile.info(utt.recording)
            assert (info.samplerate, info.channels, info.format, info.subtype) == (16000, 1, "FLAC", "PCM_16")
            assert utt.duration_s == pytest.approx(info.frames / 16000, abs=1e-6) and 0.6 < utt.duration_s < 8
            assert utt.speaker == specs[utt.utt_id].speaker
            assert (noises[utt.utt_id] == "clean") == (specs[utt.utt_id].snr_db is None)
        assert read_table(f"data/{set_name}/spk2accent").keys() == {utt.speaker for utt in utterances}
        rows = [line.split() for line in Path(f"data/{set_name}/phones.ctm").read_text(encoding="utf-8").splitlines()]
        assert [key for key, _ in itertools.groupby(row[0] for row in rows)] == [utt.utt_id for utt in utterances]
        for utt in utterances:
            spans = [(float(row[2]), float(row[3])) for row in rows if row[0] == utt.utt_id]
            ends_s = [start_s + length_s for start_s, length_s in spans]
            assert ends_s[:-1] == pytest.approx([start_s for start_s, _ in spans[1:]], abs=0.0015)
            assert ends_s[-1] == pytest.approx(utt.duration_s, abs=0.0015)


def test_phonemes_without_a_symbol_are_joined_and_those_without_time_left_out() -> None:
    said = [(0.0, "s"), (0.1, ""), (0.2, ""), (0.3, "iː"), (0.3, "m"), (0.5, ""), (0.6, "")]
    spans = [(0.0, 0.1, "s"), (0.1, 0.3, "_"), (0.3, 0.5, "m"), (0.5, 0.7, "_")]
    assert mini.spans(mini.Synthesised(0.7, said)) == spans


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info()}


def test_a_worker_computes_on_one_core() -> None:
    with threadpool_limits(2):
        assert threads() == {2}
        with ProcessPoolExecutor(1, get_context("fork"), mini._init_worker, (os.getpid(),)) as pool:
            assert pool.submit(threads).result() == {1}


def test_bytes_depend_on_the_seed_alone(corpus: Path, tmp_path: Path) -> None:
    assert prepare(tmp_path / "one_job", jobs=1) == digests(corpus)
    prepare(tmp_path / "other_seed", {"dev": 16}, seed=1)
    audio, other = digests(corpus / "wavs" / "dev"), digests(tmp_path / "other_seed" / "wavs" / "dev")
    assert audio.keys() == other.keys() and audio.items().isdisjoint(other.items())


def test_bytes_are_the_same_in_another_order_and_in_a_larger_corpus(corpus: Path, tmp_path: Path) -> None:
    shuffled = takes(plan("train", 120, 0))
    random.Random(0).shuffle(shuffled)
    for take in shuffled:
        mini._write_take(take, tmp_path)
    smaller, larger = digests(corpus / "wavs" / "train"), digests(tmp_path)
    assert len(smaller) == 90 and smaller.items() < larger.items()


@pytest.mark.parametrize("noise", NOISES)
def test_noise_lies_below_the_speech_by_the_ratio_of_the_plan(noise: str) -> None:
    clean = [dataclasses.replace(spec, snr_db=None) for spec in plan("train", 2000, 0)[:1]]
    for snr_db in (5.0, 12.3, 20.0):
        noisy = [dataclasses.replace(clean[0], noise=noise, snr_db=snr_db)]
        speech, mixture = (mini.synthesise(take)[0][0].astype(float) for take in (clean, noisy))
        measured_db = 10 * np.log10(np.mean(speech**2) / np.mean((mixture - speech) ** 2))
        assert measured_db == pytest.approx(snr_db, abs=0.05)
        assert np.abs(mixture).max() < 32767


def test_the_corpus_is_loud_enough_and_never_clips(corpus: Path) -> None:
    for path in (corpus / "wavs").rglob("*.flac"):
        samples, _ = soundfile.read(path)
        assert np.abs(samples).max() < 0.99 and 0.04 < np.sqrt(np.mean(samples**2)) < 0.07


@pytest.mark.parametrize(("noise", "octave_db"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_spectra_of_coloured_noise(noise: str, octave_db: float) -> None:
    spec = dataclasses.replace(plan("train", 1, 0)[0], noise=noise)
    power = np.abs(np.fft.rfft(mini.make_noise(spec, 1 << 18, []))) ** 2
    hz = np.fft.rfftfreq(1 << 18, 1 / 16000)
    levels_db = [10 * np.log10(power[(low <= hz) & (hz < 2 * low)].mean()) for low in (250, 500, 1000, 2000)]
    np.testing.assert_allclose(np.diff(levels_db), octave_db, atol=0.2)


def test_hum_is_at_mains_frequency_and_its_harmonics() -> None:
    spec: Spec = dataclasses.replace(plan("train", 1, 0)[0], noise="hum")
    power = np.abs(np.fft.rfft(mini.make_noise(spec, 16000, []))) ** 2  # bins of 1 Hz
    assert int(np.argmax(power)) in (50, 60)
    assert power[:: int(np.argmax(power))].sum() > 0.95 * power.sum()


def test_resampling_agrees_with_torchaudio() -> None:
    torch, functional = pytest.importorskip("torch"), pytest.importorskip("torchaudio.functional")
    for frames in (22050, 22051, 441, 5):
        samples = np.random.default_rng(frames).standard_normal(frames)
        expected = functional.resample(torch.from_numpy(samples), 22050, 16000, lowpass_filter_width=16).numpy()
        np.testing.assert_allclose(mini.resample(samples, 22050, 16000), expected, atol=1e-6)


def running_in(folder: Path, patience_s: float = 5.0) -> Iterator[int]:
    """Processes that still work in a folder after a while."""
    deadline_s = time.monotonic() + patience_s
    for link in Path("/proc").glob("[0-9]*/cwd"):
        while is_link_to(link, folder) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        if is_link_to(link, folder):
            yield int(link.parent.name)


def is_link_to(link: Path, folder: Path) -> bool:
    try:
        return link.readlink() == folder
    except OSError:  # the process has ended
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="workers outlive a killed parent elsewhere")
def test_killed_at_any_time_then_run_again_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    options = [f"--{name}-utterances={count}" for name, count in COUNTS.items()]
    command = [sys.executable, "-m", "omnirouter.bin.prepare_corpus", "mini", *options, "--nj=2"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    for delay_s in (0.4, 0.6, 0.8, 1.2, 1.6):
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as process:
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
        assert not list(running_in(tmp_path)), "workers end with their parent"
        for set_name, count in COUNTS.items():  # what there is, is complete
            if (tmp_path / "data" / set_name).exists():
                assert len(list((tmp_path / "wavs" / set_name).glob("*.flac"))) == count
    subprocess.run(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL, check=True)
    assert digests(tmp_path) == digests(corpus)
