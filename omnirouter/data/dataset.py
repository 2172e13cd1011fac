"""Utterances with stored features, and padded batches of them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from omnirouter.data.datadir import read_table
from omnirouter.data.errors import UserError
from omnirouter.data.features import load_features
from omnirouter.data.sampler import BucketSampler, bounded_batches
from omnirouter.data.specaugment import SpecAugmentConfig, spec_augment


@dataclass(frozen=True)
class FeatureUtterance:
    """One utterance with stored features."""

    utt_id: str
    place: str
    """Where its features are, `ark:offset`."""
    frames: int
    text: str


@dataclass(frozen=True)
class Batch:
    """B utterances, features padded to the longest."""

    utt_ids: list[str]
    features: Tensor
    """(B, frames, n_mels) log-mel energies, not normalised."""
    lengths: list[int]
    """Frames of each utterance."""
    targets: Tensor
    """Concatenated labels (ΣU,)."""
    target_lengths: list[int]
    epoch: int = 0


def read_feature_dir(data_dir: Path) -> list[FeatureUtterance]:
    """Read a data directory with features, in order of utterance id."""
    for name, maker in (("feats.scp", "stage 2"), ("utt2num_frames", "stage 2"), ("text", "stage 1")):
        if not (data_dir / name).exists():
            raise UserError(f"{data_dir / name} does not exist; {maker} makes it")
    places, frames = read_table(data_dir / "feats.scp"), read_table(data_dir / "utt2num_frames")
    texts = read_table(data_dir / "text")
    if not (places.keys() == frames.keys() == texts.keys()):
        odd = sorted((places.keys() ^ frames.keys()) | (places.keys() ^ texts.keys()))[0]
        raise UserError(f"{data_dir}: feats.scp, utt2num_frames and text differ in {odd}; run stage 2")
    return [FeatureUtterance(key, places[key], int(frames[key]), texts[key]) for key in sorted(places)]


class TrainingData(Dataset):
    """Training utterances by (epoch, index); their augmentation depends on the seed and on these alone."""

    def __init__(
        self,
        utterances: Sequence[FeatureUtterance],
        labels: Sequence[list[int]],
        augment: SpecAugmentConfig,
        fill: np.ndarray,
        seed: int,
    ) -> None:
        self.utterances, self._labels = utterances, labels
        self._augment, self._fill, self._seed = augment, fill.astype(np.float32), seed

    def __getitem__(self, key: tuple[int, list[int]]) -> Batch:
        """Load and augment the batch (epoch, indices)."""
        epoch, indices = key
        features = [self._load(epoch, index) for index in indices]
        labels = [self._labels[index] for index in indices]
        return make_batch([self.utterances[index].utt_id for index in indices], features, labels, epoch)

    def _load(self, epoch: int, index: int) -> np.ndarray:
        utterance = self.utterances[index]
        rng = np.random.default_rng((self._seed, epoch, index))
        return spec_augment(load_features(utterance.place, utterance.utt_id), self._augment, self._fill, rng)


def make_batch(
    utt_ids: list[str], features: Sequence[np.ndarray], labels: Sequence[list[int]], epoch: int = 0
) -> Batch:
    """Pad features (frames, n_mels) with zeros to the longest and join the labels."""
    lengths = [len(matrix) for matrix in features]
    padded = np.zeros((len(features), max(lengths), features[0].shape[1]), np.float32)
    for row, matrix in zip(padded, features, strict=True):
        row[: len(matrix)] = matrix
    joined = torch.tensor([label for sequence in labels for label in sequence], dtype=torch.long)
    return Batch(utt_ids, torch.from_numpy(padded), lengths, joined, [len(sequence) for sequence in labels], epoch)


def training_batches(data: TrainingData, sampler: BucketSampler, first_step: int, workers: int) -> Iterator[Batch]:
    """Yield batches for ever from a given step on, loaded ahead by worker processes (0: in this process)."""
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=_Keys(sampler, first_step),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # its own: the loader's draw must not disturb the training's random state
        worker_init_fn=_worker_alone,
    )
    return iter(loader)


def ordered_batches(
    utterances: Sequence[FeatureUtterance], max_batch_s: float, frames_per_s: int = 100
) -> Iterator[Batch]:
    """Yield batches without labels for evaluation, longest utterances first, bounded by padded length."""
    frames = [utterance.frames for utterance in utterances]
    order = sorted(range(len(utterances)), key=lambda i: (-frames[i], utterances[i].utt_id))
    for indices in bounded_batches(order, frames, int(max_batch_s * frames_per_s)):
        chosen = [utterances[i] for i in indices]
        features = [load_features(utterance.place, utterance.utt_id) for utterance in chosen]
        yield make_batch([utterance.utt_id for utterance in chosen], features, [[] for _ in chosen])


class _Keys:
    """What the loader draws its keys from: the sampler's batches from a step on."""

    def __init__(self, sampler: BucketSampler, first_step: int) -> None:
        self._sampler, self._first_step = sampler, first_step

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        return self._sampler.batches_from(self._first_step)


def _worker_alone(_: int) -> None:
    """Keep a loading worker to one thread, and deaf to Ctrl-C: the main process ends it."""
    import signal

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(1)
