"""The mini corpus: synthetic English commands in many voices, half of them noisy, made on the spot by eSpeak NG."""

import functools
import itertools
import os
import random
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile
from numpy.lib.stride_tricks import sliding_window_view
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from omnirouter.corpora import espeak
from omnirouter.corpora.mini_plan import Spec, draw_sentence, plan, takes, voices
from omnirouter.data.datadir import Utterance, write_data_dir, write_table
from omnirouter.data.files import atomic_dir, atomic_write
from omnirouter.data.jobs import bind_to_parent

SAMPLE_RATE_HZ = 16000
SPEECH_RMS = 0.05  # full scale is 1; leaves room for noise at 5 dB below
BABBLE_VOICES = 3
HUM_HZ, HUM_HARMONICS = (50.0, 60.0), 8
SHORTEST_S = 0.001  # of a phoneme; eSpeak reports some that take no time
UNNAMED = "_"  # stands for what eSpeak gives no symbol: pauses, and a glide now and then


@dataclass(frozen=True)
class Synthesised:
    """An utterance that has been written."""

    duration_s: float
    phones: list[tuple[float, str]]
    """As eSpeak reports them."""


def prepare_mini(output: Path, audio_dir: Path, counts: dict[str, int], seed: int, jobs: int) -> None:
    """Synthesise `counts` utterances of each set into `audio_dir`/<set>/*.flac and describe them in `output`/<set>.

    A set's audio and data directory each appear when complete. Same seed and counts: same bytes, whatever `jobs` is.
    """
    # By fork, as espeak.py does; before tqdm starts a thread, which a fork would not survive in good order.
    pool = ProcessPoolExecutor(jobs, get_context("fork"), _init_worker, (os.getpid(),))
    try:
        for set_name, count in counts.items():
            _prepare_set(pool, plan(set_name, count, seed), output / set_name, audio_dir / set_name)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest


def _prepare_set(pool: Executor, specs: Sequence[Spec], data_dir: Path, audio_dir: Path) -> None:
    """Make the audio and then the data directory of one set."""
    with atomic_dir(audio_dir) as folder:
        made = _synthesise_all(pool, specs, folder)
    utterances = [
        Utterance(
            utt_id=spec.utt_id,
            recording=audio_dir / f"{spec.utt_id}.flac",
            text=spec.text,
            speaker=spec.speaker,
            duration_s=made[spec.utt_id].duration_s,
        )
        for spec in specs
    ]
    write_data_dir(data_dir, utterances)
    write_table(data_dir / "utt2noise", {spec.utt_id: _describe_noise(spec) for spec in specs})
    write_table(data_dir / "spk2accent", {spec.speaker: spec.accent for spec in specs})
    _write_phones(data_dir / "phones.ctm", made)


def _write_phones(path: Path, made: Mapping[str, Synthesised]) -> None:
    """Write the phonemes that eSpeak reports, as lines `utt-id 1 start_s duration_s phoneme`."""
    with atomic_write(path) as file:
        for utt_id, utterance in sorted(made.items()):
            for start_s, end_s, phone in spans(utterance):
                file.write(f"{utt_id} 1 {start_s:.3f} {end_s - start_s:.3f} {phone}\n")


def spans(utterance: Synthesised) -> list[tuple[float, float, str]]:
    """Where each phoneme begins and ends, in seconds; those without a symbol that follow one another are one."""
    starts = [
        (start_s, phone or UNNAMED)
        for (_, before), (start_s, phone) in itertools.pairwise([(0.0, UNNAMED), *utterance.phones])
        if phone or before
    ]
    ends_s = [*(start_s for start_s, _ in starts[1:]), utterance.duration_s]
    return [
        (start_s, end_s, phone)
        for (start_s, phone), end_s in zip(starts, ends_s, strict=True)
        if end_s - start_s > SHORTEST_S
    ]


def synthesise(take: Sequence[Spec]) -> list[tuple[np.ndarray, list[tuple[float, str]]]]:
    """Return the int16 samples at SAMPLE_RATE_HZ of a take's utterances, and their phonemes as eSpeak reports them.

    Each depends on none after it.
    """
    babbles = [_babble_prompts(spec) if spec.noise == "babble" and spec.snr_db is not None else [] for spec in take]
    prompts = [[_prompt(spec), *babble] for spec, babble in zip(take, babbles, strict=True)]
    spoken = iter(espeak.synthesise([prompt for group in prompts for prompt in group]))
    utterances = []
    for spec, group in zip(take, prompts, strict=True):
        own, *others = [next(spoken) for _ in group]
        speech = _level(own.samples)
        if spec.snr_db is not None:
            noise = make_noise(spec, len(speech), [_level(other.samples) for other in others])
            speech = add_noise(speech, noise, spec.snr_db)
        utterances.append((np.clip(np.rint(speech * 32768), -32768, 32767).astype(np.int16), own.phones))
    return utterances


def add_noise(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Return speech plus noise, the noise scaled to lie `snr_db` below the mean power of the speech."""
    gain = np.sqrt(np.mean(speech**2) / np.mean(noise**2) / 10 ** (snr_db / 10))
    return speech + gain * noise


def make_noise(spec: Spec, frames: int, others: Sequence[np.ndarray]) -> np.ndarray:
    """Return the noise of an utterance, of any level: white, pink or brown noise, mains hum, or `others` talking."""
    rng = np.random.default_rng(spec.noise_seed)
    if spec.noise == "babble":
        return sum(np.resize(np.roll(other, rng.integers(len(other))), frames) for other in others)
    if spec.noise == "hum":
        return _hum(rng, frames)
    return _coloured(rng, frames, {"white": 0.0, "pink": 0.5, "brown": 1.0}[spec.noise])


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample (frames,) to ceil(frames * to_hz / from_hz) frames, as torchaudio does.

    In numpy, so that no worker loads torch, which takes longer than its share of the corpus and slows each fork.
    """
    divisor = np.gcd(from_hz, to_hz)
    step, phases = from_hz // divisor, to_hz // divisor
    kernel = _resampling_kernel(step, phases)
    frames = -(-len(samples) * phases // step)
    blocks = -(-frames // phases)
    margin = (len(kernel) - step) // 2
    padded = np.pad(samples, (margin, blocks * step + margin - len(samples)))
    return (sliding_window_view(padded, len(kernel))[::step] @ kernel).reshape(-1)[:frames]


@functools.cache
def _resampling_kernel(step: int, phases: int, width: int = 16, rolloff: float = 0.99) -> np.ndarray:
    """Return (step + 2 margin, phases): a Hann-windowed sinc of `width` zero crossings, for each output phase."""
    cutoff = rolloff * min(1.0, phases / step)
    margin = int(np.ceil(width / cutoff))
    times = np.arange(-margin, step + margin)[:, None] - np.arange(phases) * step / phases
    window = np.cos(np.pi / 2 * np.clip(times * cutoff / width, -1, 1)) ** 2
    return cutoff * np.sinc(times * cutoff) * window


def _prompt(spec: Spec) -> espeak.Prompt:
    return espeak.Prompt(spec.text.lower(), spec.voice, spec.rate_wpm, spec.pitch)


def _babble_prompts(spec: Spec) -> list[espeak.Prompt]:
    """Return other sentences in other voices of the same set."""
    rng = random.Random(spec.noise_seed)
    others = [voice for voice in voices(spec.set_name) if "+".join(voice) != spec.voice]
    return [
        espeak.Prompt(draw_sentence(spec.set_name, rng).lower(), "+".join(voice), spec.rate_wpm, spec.pitch)
        for voice in rng.sample(others, BABBLE_VOICES)
    ]


def _level(spoken: np.ndarray) -> np.ndarray:
    """Return what eSpeak said at SAMPLE_RATE_HZ and SPEECH_RMS."""
    samples = resample(spoken / 32768, espeak.SAMPLE_RATE_HZ, SAMPLE_RATE_HZ)
    return samples * (SPEECH_RMS / np.sqrt(np.mean(samples**2)))


def _hum(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Return mains hum: a fundamental and its harmonics, weaker as they go up, over a floor of white noise."""
    angles = 2 * np.pi * rng.choice(HUM_HZ) / SAMPLE_RATE_HZ * np.arange(frames)
    harmonics = sum(np.sin(k * angles + rng.uniform(0, 2 * np.pi)) / k for k in range(1, HUM_HARMONICS + 1))
    return harmonics + 0.05 * rng.standard_normal(frames)


def _coloured(rng: np.random.Generator, frames: int, exponent: float) -> np.ndarray:
    """Return Gaussian noise whose amplitude falls as frequency to the `exponent`, from 20 Hz on."""
    size = 1 << (frames - 1).bit_length()  # a fast length for the transform
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequencies_hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    return np.fft.irfft(spectrum / np.maximum(frequencies_hz, 20.0) ** exponent, size)[:frames]


def _describe_noise(spec: Spec) -> str:
    return "clean" if spec.snr_db is None else f"{spec.noise} {spec.snr_db:.1f}"


def _synthesise_all(pool: Executor, specs: Sequence[Spec], folder: Path) -> dict[str, Synthesised]:
    """Write `folder`/<utt_id>.flac for all specs in parallel; return what each is, by utterance id."""
    made: dict[str, Synthesised] = {}
    results = pool.map(functools.partial(_write_take, folder=folder), takes(specs))
    with tqdm(desc=specs[0].set_name, total=len(specs), unit="utt", mininterval=1) as progress:
        for done in results:
            made |= done
            progress.update(len(done))
    return made


def _init_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threadpool_limits(1)  # each worker would else have numpy's matrix products on all cores, and lose by it
    bind_to_parent()
    if os.getppid() != parent:  # it was killed before the line above
        os._exit(1)


def _write_take(take: Sequence[Spec], folder: Path) -> dict[str, Synthesised]:
    made = {}
    for spec, (samples, phones) in zip(take, synthesise(take), strict=True):
        soundfile.write(folder / f"{spec.utt_id}.flac", samples, SAMPLE_RATE_HZ, subtype="PCM_16")
        made[spec.utt_id] = Synthesised(len(samples) / SAMPLE_RATE_HZ, phones)
    return made
