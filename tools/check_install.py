"""Check that what tools/install.sh has installed works, and print what is there."""

import importlib
import math
import platform
import sys
from importlib.metadata import version

PACKAGES: dict[str, str] = {  # on the package index -> as imported
    "torch": "torch",
    "torchaudio": "torchaudio",
    "numpy": "numpy",
    "kaldiio": "kaldiio",
    "matplotlib": "matplotlib.pyplot",
    "PyYAML": "yaml",
    "rapidfuzz": "rapidfuzz.distance",
    "scipy": "scipy.stats",
    "sentencepiece": "sentencepiece",
    "soundfile": "soundfile",
    "threadpoolctl": "threadpoolctl",
    "tqdm": "tqdm",
    "whisper-normalizer": "whisper_normalizer.english",
}
EXTRAS: dict[str, dict[str, str]] = {  # of setup.py -> the same
    "mini": {"espeakng-loader": "espeakng_loader"},
    "lhotse": {"lhotse": "lhotse", "urllib3": "urllib3"},
    "lm": {"ufal-flashlight-text": "flashlight.lib.text.decoder", "ufal-kenlm": "kenlm"},
    "tensorboard": {"tensorboard": "tensorboard"},
    "bench": {"kaldi-native-fbank": "kaldi_native_fbank", "lhotse": "lhotse"},  # transformers needs Python 3.11
    "test": {
        "jiwer": "jiwer",
        "openai-whisper": "whisper.normalizers",
        "pytest": "pytest",
        "ruff": "ruff",
        "selenium": "selenium",
    },
}
ALL = ("mini", "lhotse", "lm", "tensorboard", "bench")
CONTAINS = {"all": ALL, "test": (*ALL, "test")}
TONE_HZ, RATE_HZ, BANDS = 1000, 16000, 80


def main() -> None:
    """Import everything, the extras in the arguments too, and compute; exit with one line that says what fails."""
    print(f"Python {platform.python_version()} ({sys.executable})")
    packages = dict(PACKAGES)
    for extra in (part for wanted in sys.argv[1:] for part in CONTAINS.get(wanted, (wanted,))):
        packages |= EXTRAS[extra]
    print(", ".join(f"{package} {_import(package, module)}" for package, module in packages.items()))
    frames, loudest = _fbank_of_a_tone()
    print(f"torchaudio: fbank of a {TONE_HZ} Hz tone has {frames} frames, and most energy in band {loudest} of {BANDS}")
    print(f"GPU: {_gpus() or 'none found, training and decoding will use the CPU'}")


def _import(package: str, module: str) -> str:
    try:
        importlib.import_module(module)
        return version(package)
    except (ImportError, OSError) as error:  # OSError: a shared library that torchaudio's wheel needs is not there
        hint = " (torch and torchaudio must come from the same package index)" if "torch" in package else ""
        sys.exit(f"error: {package} cannot be imported: {error}{hint}")


def _fbank_of_a_tone() -> tuple[int, int]:
    """Return the number of frames of one second of a sine, and the band with the most energy."""
    import torch
    from torchaudio.compliance.kaldi import fbank

    tone = torch.sin(2 * math.pi * TONE_HZ / RATE_HZ * torch.arange(RATE_HZ))[None] * 10000
    features = fbank(tone, num_mel_bins=BANDS, sample_frequency=RATE_HZ, dither=0.0)
    loudest = int(features.mean(0).argmax())
    if features.shape != (98, BANDS) or loudest != _band_of(TONE_HZ):
        sys.exit(f"error: torchaudio's fbank is wrong: shape {tuple(features.shape)}, loudest band {loudest}")
    return len(features), loudest


def _band_of(hz: float) -> int:
    """Return the band whose centre is nearest to a frequency, with Kaldi's mel scale from 20 Hz to half the rate."""

    def mel(hz: float) -> float:
        return 1127 * math.log(1 + hz / 700)

    return round((mel(hz) - mel(20)) / (mel(RATE_HZ / 2) - mel(20)) * (BANDS + 1)) - 1


def _gpus() -> str:
    import torch

    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


if __name__ == "__main__":
    main()
