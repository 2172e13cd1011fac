"""Log-mel filter banks, computed when needed, or once by parallel jobs that store them as Kaldi archives."""

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from omnirouter.data.audio import load_utterance
from omnirouter.data.datadir import Utterance, check_tables
from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_write
from omnirouter.data.jobs import run_jobs
from omnirouter.data.sources import stream_audio, utterance_ids
from omnirouter.data.stored import remove_stored, set_aside_foreign

if TYPE_CHECKING:
    from torch import Tensor  # slow to import, and not every command computes features

SAMPLE_RATE_HZ = 16000
N_MELS = 80
WINDOW_SAMPLES = 400  # 25 ms
SHIFT_SAMPLES = 160  # 10 ms
FFT_SAMPLES = 512
PREEMPHASIS = 0.97
BLOCK_FRAMES = 256  # what a processor's cache holds
FRAMES_PER_S = 100
COMPRESSION = 2  # Kaldi's kSpeechFeature, its default for features: one byte a value, scaled per utterance and band


def fbank(samples: np.ndarray, n_mels: int = N_MELS) -> np.ndarray:
    """Compute Kaldi-compatible log-mel energies of 16 kHz mono samples, float32 in [-1, 1].

    25 ms windows every 10 ms, no dither. Returns float32 (frames, n_mels); shorter than a window: no frames.
    """
    import torch

    if len(samples) < WINDOW_SAMPLES:
        return np.zeros((0, n_mels), np.float32)
    window, banks = _window_and_banks(n_mels)
    with torch.inference_mode():
        frames = torch.from_numpy(samples).unfold(0, WINDOW_SAMPLES, SHIFT_SAMPLES)
        means = frames.mean(dim=1, keepdim=True)
        energies = torch.empty(len(frames), n_mels)
        for block, mean, energy in zip(*(x.split(BLOCK_FRAMES) for x in (frames, means, energies)), strict=True):
            # The order of torchaudio's kaldi.fbank: in silence another one's rounding shows, by 0.004 in the logarithm.
            x = block - mean
            x[:, 1:] -= PREEMPHASIS * x[:, :-1]  # the window leaves nothing of the first sample
            spectrum = torch.fft.rfft(x.mul_(window), FFT_SAMPLES)
            torch.mm(spectrum.real.square() + spectrum.imag.square(), banks, out=energy)
        return energies.clamp_(min=torch.finfo(torch.float32).eps).log_().numpy()


@cache
def _window_and_banks(n_mels: int) -> tuple["Tensor", "Tensor"]:
    """Kaldi's Povey window, scaled to 16-bit integers, and the mel filters (FFT bins, n_mels)."""
    import torch
    from torchaudio.compliance import kaldi

    window = torch.hann_window(WINDOW_SAMPLES, periodic=False).pow(0.85) * 32768
    banks, _ = kaldi.get_mel_banks(n_mels, FFT_SAMPLES, SAMPLE_RATE_HZ, 20.0, 0.0, 100.0, -500.0, 1.0)
    return window, torch.nn.functional.pad(banks, (0, 1)).T.contiguous()  # Kaldi leaves out the highest bin


def frame_count(samples: np.ndarray) -> np.ndarray:
    """Return how many frames `fbank` makes of so many samples at 16 kHz, integers (n,)."""
    return np.maximum(0, 1 + (samples - WINDOW_SAMPLES) // SHIFT_SAMPLES)


def utterance_fbank(utterance: Utterance) -> np.ndarray:
    """Compute the features (frames, n_mels) of an utterance from its audio; `UserError` naming it."""
    try:
        with _one_thread():
            return fbank(load_utterance(utterance, SAMPLE_RATE_HZ))
    except (UserError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"utterance {utterance.utt_id}: {error}") from error


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: the rounding of its sums must not depend on who computes them."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def store_fbank(
    data_dir: Path,
    output: Path,
    jobs: int,
    job_prefix: Sequence[str] = (),
    allow_pipes: bool = False,
    compressed: bool = False,
) -> int:
    """Compute and store the features of a data directory; add its feats.scp and utt2num_frames.

    Runs `jobs` parallel jobs, each writing one archive aside and renaming it when complete. Returns the frame count.
    A feats.scp of other features is moved to .backup/ when the new ones are there.
    Raises UserError when a job fails or an utterance is missing from the outcome.
    """
    check_tables(data_dir, allow_pipes, labelled=False)
    utterances = sum(map(len, utterance_ids(data_dir)))
    jobs = max(1, min(jobs, utterances))
    remove_stored(data_dir, output)
    base = [sys.executable, "-m", "omnirouter.bin.compute_fbank", str(data_dir), "--output", str(output)]
    base += ["--allow-pipes"] if allow_pipes else []
    base += ["--features", "compressed"] if compressed else []
    commands = [[*base, "--job", f"{j}/{jobs}"] for j in range(1, jobs + 1)]
    done = GrowingLists([output / f"feats.{j}.scp" for j in range(1, jobs + 1)])
    with tqdm(total=utterances, desc=f"fbank {data_dir}", unit="utt", file=sys.stderr, disable=None) as bar:
        logs = [output / "log" / f"fbank.{j}.log" for j in range(1, jobs + 1)]
        run_jobs(commands, logs, job_prefix, on_poll=lambda: bar.update(done.count() - bar.n))
    return _join(data_dir, output, jobs)


def run_fbank_job(
    data_dir: Path, output: Path, job: int, jobs: int, allow_pipes: bool = False, compressed: bool = False
) -> None:
    """Compute the job-th of `jobs` equal parts of a data directory (job counts from 1)."""
    import kaldiio

    utterances = sum(map(len, utterance_ids(data_dir)))
    part = range(utterances * (job - 1) // jobs, utterances * job // jobs)
    ark, scp = output / f"feats.{job}.ark", output / f"feats.{job}.scp"
    with open(f"{ark}.tmp", "wb") as ark_file, open(f"{scp}.tmp", "w", encoding="utf-8") as scp_file:
        for utterance in stream_audio(data_dir, part, allow_pipes):
            features = utterance_fbank(utterance)
            offset = ark_file.tell() + len(f"{utterance.utt_id} ".encode())
            method = COMPRESSION if compressed and len(features) else None  # Kaldi does not compress nothing either
            kaldiio.save_ark(ark_file, {utterance.utt_id: features}, compression_method=method)
            scp_file.write(f"{utterance.utt_id} {ark}:{offset} {len(features)}\n")
            scp_file.flush()
    Path(f"{ark}.tmp").replace(ark)
    Path(f"{scp}.tmp").replace(scp)


class GrowingLists:
    """Counts the lines of files that jobs write as NAME.tmp and then rename; it reads only what has been added."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._read_bytes = dict.fromkeys(paths, 0)
        self._lines = 0

    def count(self) -> int:
        """Lines so far."""
        for path, start in self._read_bytes.items():
            for name in (path, f"{path}.tmp"):  # a file that is renamed meanwhile is counted the next time
                with suppress(FileNotFoundError), open(name, "rb") as file:
                    file.seek(start)
                    added = file.read()
                    self._lines += added.count(b"\n")
                    self._read_bytes[path] += len(added)
                    break
        return self._lines


def _join(data_dir: Path, output: Path, jobs: int) -> int:
    """Write feats.scp and utt2num_frames from the jobs' lists, after checking that every utterance is there.

    Those of others are moved aside once all is written.
    """
    lines = _job_lines(output, jobs)
    total, missing, first, line = 0, 0, "", next(lines, "")
    with (
        atomic_write(data_dir / "feats.scp", follow_link=False) as scp,  # a link's target is others'
        atomic_write(data_dir / "utt2num_frames", follow_link=False) as counts,  # which takes its place first
    ):
        for utt_id in itertools.chain.from_iterable(utterance_ids(data_dir)):
            if line.startswith(f"{utt_id} "):
                place, _, frames = line.rstrip("\n").rpartition(" ")
                scp.write(f"{place}\n")
                counts.write(f"{utt_id} {frames}\n")
                total += int(frames)
                line = next(lines, "")
            else:
                missing, first = missing + 1, first or utt_id
        if missing:
            raise UserError(f"{data_dir}: no features for {missing} utterances, first {first}; see {output}/log")
        set_aside_foreign(data_dir, output)
    return total


def _job_lines(output: Path, jobs: int) -> Iterator[str]:
    """Yield the lines of the jobs' lists, `id place frames`, which are those of all utterances in order."""
    for job in range(1, jobs + 1):
        with open(output / f"feats.{job}.scp", encoding="utf-8") as file:
            yield from file
