"""Filter banks from FLAC to ark on one core, against others' extractors and against bare decoding."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import kaldiio
import numpy as np
import soundfile
import torch

from bench.report import Report, Target, none_faster
from bench.settings import Settings, installed
from bench.timing import interleaved, ratio, spread
from omnirouter.data.datadir import Utterance, write_data_dir
from omnirouter.data.fbank import N_MELS, SAMPLE_RATE_HZ, run_fbank_job

TITLE = "Filter banks, FLAC to ark"
UTTERANCES, QUICK_UTTERANCES = 80, 10
BARE, AGAIN = "bare FLAC decoding", "ours again"
LEAST_OF_BARE = 0.25

Extractor = Callable[[np.ndarray], np.ndarray]


def run(settings: Settings) -> list[Report]:
    """Time each over the same utterances of the corpus; only a note where there is no corpus."""
    recordings = _recordings(settings)
    if not recordings:
        return [Report(TITLE, ["left out"], [["no corpus: name a folder with LibriSpeech/ by --corpus-dir"]])]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with TemporaryDirectory() as folder:
            flacs, audio_s = _copy(recordings, Path(folder))
            times_s = interleaved(contenders(flacs, Path(folder)), settings.repeats, torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)
    return [_report(times_s, audio_s, len(flacs))]


def _recordings(settings: Settings) -> list[Path]:
    """Recordings of the corpus, spread over its speakers."""
    if settings.corpus is None:
        return []
    files = sorted(
        path for path in (settings.corpus / "LibriSpeech").rglob("*.*") if path.suffix in (".flac", ".ogg", ".opus")
    )
    number = QUICK_UTTERANCES if settings.quick else UTTERANCES
    return files[:: max(1, len(files) // number)][:number]


def _copy(recordings: Sequence[Path], folder: Path) -> tuple[dict[str, Path], float]:
    """Write 16-bit FLAC files, whatever the corpus holds; returns them by utterance, and their length in seconds."""
    flacs: dict[str, Path] = {}
    frames = 0
    for recording in recordings:
        samples, rate_hz = soundfile.read(recording, dtype="int16")
        assert rate_hz == SAMPLE_RATE_HZ, f"{recording}: {rate_hz} Hz"
        flacs[recording.stem] = folder / f"{recording.stem}.flac"
        soundfile.write(flacs[recording.stem], samples, rate_hz)
        frames += len(samples)
    return flacs, frames / SAMPLE_RATE_HZ


def contenders(flacs: dict[str, Path], folder: Path) -> dict[str, Callable[[], object]]:
    """By name, a function that turns the FLAC files into `folder/NAME/feats.1.ark`; bare decoding writes nothing."""
    write_data_dir(folder / "data", [Utterance(key, path, "A", "s") for key, path in flacs.items()])
    extractors: dict[str, Extractor] = {}
    if installed("kaldi_native_fbank"):
        extractors["kaldi-native-fbank"] = kaldi_native_fbank()
    if installed("lhotse"):
        extractors["lhotse"] = lhotse_fbank()
    for name in ("ours", AGAIN, *extractors):
        (folder / name).mkdir()
    return {
        BARE: lambda: [soundfile.read(path, dtype="float32") for path in flacs.values()],
        **{name: lambda name=name: run_fbank_job(folder / "data", folder / name, 1, 1) for name in ("ours", AGAIN)},
        **{name: lambda name=name: _store(extractors[name], flacs, folder / name) for name in extractors},
    }


def _store(extract: Extractor, flacs: dict[str, Path], folder: Path) -> None:
    with open(folder / "feats.1.ark", "wb") as ark:
        for utt_id, path in flacs.items():
            samples, _ = soundfile.read(path, dtype="float32")
            kaldiio.save_ark(ark, {utt_id: extract(samples)})


def kaldi_native_fbank() -> Extractor:
    """The extractor of the package kaldi-native-fbank, with our options."""
    import kaldi_native_fbank as native

    options = native.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = SAMPLE_RATE_HZ
    options.mel_opts.num_bins = N_MELS

    def extract(samples: np.ndarray) -> np.ndarray:
        extractor = native.OnlineFbank(options)
        extractor.accept_waveform(SAMPLE_RATE_HZ, samples * 32768)
        extractor.input_finished()
        return np.stack([extractor.get_frame(i) for i in range(extractor.num_frames_ready)])

    return extract


def lhotse_fbank() -> Extractor:
    """lhotse's extractor as it comes: samples within [-1, 1], and a frame more or less at the edges."""
    from lhotse import Fbank

    extractor = Fbank()
    return lambda samples: extractor.extract(samples, SAMPLE_RATE_HZ)


def _report(times_s: dict[str, list[float]], audio_s: float, utterances: int) -> Report:
    rows = [
        [
            name,
            f"{audio_s / spread(times).median:.0f}",
            str(ratio(times_s[BARE], times)),
            str(ratio(times, times_s["ours"])),
        ]
        for name, times in times_s.items()
    ]
    missing = [name for name in ("kaldi-native-fbank", "lhotse") if name not in times_s]
    notes = [
        f"{utterances} utterances of the corpus, {audio_s:.0f} s, one thread, {N_MELS} bands; all but bare decoding "
        "write an ark through kaldiio. Ours is timed twice a round, for the noise. Medians over interleaved "
        "rounds [10 %, 90 %].",
        *(f"{name} is not installed (extra `bench`)." for name in missing),
    ]
    header = ["", "audio s per s and core", "speed / bare decoding", "time / ours"]
    return Report(TITLE, header, rows, targets(times_s), notes)


def targets(times_s: dict[str, list[float]]) -> list[Target]:
    """Ours is the fastest, and not far from bare decoding."""
    to_ours = {name: ratio(times, times_s["ours"]) for name, times in times_s.items() if name not in ("ours", BARE)}
    del to_ours[AGAIN]
    return [
        *none_faster(list(to_ours.items())),
        Target("speed of ours / bare decoding", ratio(times_s[BARE], times_s["ours"]).median, LEAST_OF_BARE, True),
    ]
