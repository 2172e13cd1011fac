"""Utterances with stored features, and padded batches of them."""

import dataclasses
import itertools
import os
import signal
import threading
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
from omnirouter.data.sampler import BucketSampler, Position, bounded_batches
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
    position: Position = Position()
    """In the sequence of training batches."""
    after: Position = Position()
    """Where that sequence goes on after the training step to which this batch belongs."""


@dataclass(frozen=True)
class Share:
    """Which batches one process trains on: of every `batches_per_step`, those from `rank` on at distances of `ranks`.

    So a step has the same batches, whatever the number of processes among which they are shared out.
    """

    rank: int = 0
    ranks: int = 1
    batches_per_step: int = 1
    """A multiple of `ranks`."""


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

    def __getitem__(self, key: tuple[Position, list[int], Position]) -> Batch:
        """Load and augment a batch, given its position, its utterances and the position after its step."""
        position, indices, after = key
        features = [self._load(position.epoch, index) for index in indices]
        labels = [self._labels[index] for index in indices]
        batch = make_batch([self.utterances[index].utt_id for index in indices], features, labels)
        return dataclasses.replace(batch, position=position, after=after)

    def _load(self, epoch: int, index: int) -> np.ndarray:
        utterance = self.utterances[index]
        rng = np.random.default_rng((self._seed, epoch, index))
        return spec_augment(load_features(utterance.place, utterance.utt_id), self._augment, self._fill, rng)


def make_batch(utt_ids: list[str], features: Sequence[np.ndarray], labels: Sequence[list[int]]) -> Batch:
    """Pad features (frames, n_mels) with zeros to the longest and join the labels."""
    lengths = [len(matrix) for matrix in features]
    padded = np.zeros((len(features), max(lengths), features[0].shape[1]), np.float32)
    for row, matrix in zip(padded, features, strict=True):
        row[: len(matrix)] = matrix
    joined = torch.tensor([label for sequence in labels for label in sequence], dtype=torch.long)
    return Batch(utt_ids, torch.from_numpy(padded), lengths, joined, [len(sequence) for sequence in labels])


def training_batches(
    data: TrainingData, sampler: BucketSampler, start: Position, workers: int, share: Share = Share()
) -> Iterator[Batch]:
    """Yield this process's batches for ever, loaded ahead by worker processes (0: in this process).

    start: where a step begins; batches_per_step / ranks batches in a row are this process's part of a step.
    """
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=_Keys(sampler, start, share),
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
    """What the loader draws its keys from: one process's share of the sampler's batches."""

    def __init__(self, sampler: BucketSampler, start: Position, share: Share) -> None:
        self._sampler, self._start, self._share = sampler, start, share

    def __iter__(self) -> Iterator[tuple[Position, list[int], Position]]:
        batches = self._sampler.batches_from(self._start)
        while True:
            step = list(itertools.islice(batches, self._share.batches_per_step))
            after = step[-1][0].next()
            for position, indices in step[self._share.rank :: self._share.ranks]:
                yield position, indices, after


def _worker_alone(_: int) -> None:
    """Keep a loading worker to one thread, and deaf to Ctrl-C and SIGTERM: the main process ends it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_at_parents_word, daemon=True).start()
    os.nice(1)


def _end_at_parents_word() -> None:
    """Wait for the main process's SIGTERM; one that is sent to all processes leaves it time to end in its own way."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
