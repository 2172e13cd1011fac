"""Made-up utterances with the lengths of LibriSpeech's."""

from pathlib import Path

import kaldiio
import numpy as np

from omnirouter.data.datadir import write_table

LENGTHS = (
    "Lengths like LibriSpeech's: 7 in 10 utterances normal with mean 14.5 s and deviation 1.2 s, the others uniform "
    "from 1.5 to 13 s; 12.3 s on average."
)


def librispeech_frames(utterances: int, seed: int = 0) -> np.ndarray:
    """Numbers of 10 ms frames, int32 (utterances,), as LENGTHS says; at most 24 s."""
    rng = np.random.default_rng(seed)
    long = rng.random(utterances, dtype=np.float32) < 0.7
    seconds = np.where(long, rng.normal(14.5, 1.2, utterances), rng.uniform(1.5, 13.0, utterances))
    return (100 * seconds.clip(1.5, 24.0)).astype(np.int32)


def transcripts(utterances: int, seed: int = 0) -> list[str]:
    """Texts of 35 words out of 9000, two or three syllables each, frequencies by Zipf's law."""
    rng = np.random.default_rng(seed)
    syllables = [c + v + e for c in "BDFGKLMNPRSTVWZ" for v in "AEIOU" for e in ("", "N", "R", "S")]
    words = ["".join(rng.choice(syllables, rng.integers(2, 4))) for _ in range(9000)]
    shares = 1 / np.arange(10, len(words) + 10)
    return [" ".join(rng.choice(words, 35, p=shares / shares.sum())) for _ in range(utterances)]


def write_feature_dir(folder: Path, frames: np.ndarray, n_mels: int = 80) -> None:
    """Write a data directory of utterances with so many frames of noise as features."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    texts = transcripts(len(frames))
    rows: dict[str, dict[str, str]] = {"text": {}, "feats.scp": {}, "utt2num_frames": {}}
    with open(folder / "feats.ark", "wb") as ark:
        for i, (length, text) in enumerate(zip(frames.tolist(), texts, strict=True)):
            key = f"utt{i:06d}"
            offset = ark.tell() + len(f"{key} ")
            kaldiio.save_ark(ark, {key: rng.standard_normal((length, n_mels), dtype=np.float32)})
            words = text.split()[: max(1, length // 50)]  # two words a second
            rows["text"][key], rows["utt2num_frames"][key] = " ".join(words), str(length)
            rows["feats.scp"][key] = f"{folder / 'feats.ark'}:{offset}"
    for name, table in rows.items():
        write_table(folder / name, table)
