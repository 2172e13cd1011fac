"""Utterances with features, stored or computed when needed, and padded batches of them."""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from omnirouter.data.datadir import Utterance, read_data_dir, read_table
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.data.features import Place, load_features
from omnirouter.data.index import Index
from omnirouter.data.jobs import available_cores
from omnirouter.data.loading import loader
from omnirouter.data.sampler import BucketSampler, Position, bounded_batches
from omnirouter.data.specaugment import SpecAugmentConfig, spec_augment

MAX_EVALUATION_WORKERS = 4


@dataclass(frozen=True)
class FeatureUtterance:
    """One utterance with features."""

    utt_id: str
    place: Place
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
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Utterances of the batch that it lacks, since their features cannot be had, and why."""

    @property
    def padded_frames(self) -> int:
        """B times the frames of the longest."""
        return len(self.lengths) * max(self.lengths, default=0)


@dataclass(frozen=True)
class Share:
    """Which batches one process trains on: of every `batches_per_step`, those from `rank` on at distances of `ranks`.

    So a step has the same batches, whatever the number of processes among which they are shared out.
    """

    rank: int = 0
    ranks: int = 1
    batches_per_step: int = 1
    """A multiple of `ranks`."""


def read_feature_dir(data_dir: Path, allow_pipes: bool = False, n_mels: int | None = None) -> list[FeatureUtterance]:
    """Read a data directory whose frames are counted, in order of utterance id; its features are stored if feats.scp is
    there, else computed when needed. Without a table `text`, transcripts are empty.

    n_mels: what the features of the first utterance that can be read must have a frame, or UserError.
    """
    if not (data_dir / "utt2num_frames").exists():
        raise UserError(f"{data_dir / 'utt2num_frames'} does not exist; stage 2 makes it")
    frames = read_table(data_dir / "utt2num_frames")
    texts = read_table(data_dir / "text") if (data_dir / "text").exists() else dict.fromkeys(frames, "")
    places = _read_places(data_dir, allow_pipes)
    if not (places.keys() == frames.keys() == texts.keys()):
        odd = sorted((places.keys() ^ frames.keys()) | (places.keys() ^ texts.keys()))[0]
        source = "feats.scp" if (data_dir / "feats.scp").exists() else "wav.scp or segments"
        raise UserError(f"{data_dir}: {source}, utt2num_frames and text differ in {odd}; run stage 2")
    utterances = [FeatureUtterance(key, places[key], int(frames[key]), texts[key]) for key in sorted(places)]
    if n_mels is not None:
        _check_width(data_dir, utterances, n_mels)
    return utterances


def _read_places(data_dir: Path, allow_pipes: bool) -> dict[str, Place]:
    if (data_dir / "feats.scp").exists():
        return dict(read_table(data_dir / "feats.scp"))
    return {utterance.utt_id: utterance for utterance in read_data_dir(data_dir, allow_pipes, labelled=False)}


def _check_width(data_dir: Path, utterances: Sequence[FeatureUtterance], n_mels: int) -> None:
    """Check the first utterance that can be read; those that cannot are for who needs their features."""
    for utterance in utterances:
        try:
            width = load_features(utterance.place, utterance.utt_id).shape[1]
        except UserError:
            continue
        if width != n_mels:
            raise UserError(
                f"{data_dir}: its features have {width} values a frame (utterance {utterance.utt_id}), but the model "
                f"takes {n_mels}"
            )
        return


class TrainingData(Dataset):
    """Training utterances by (epoch, index); their augmentation depends on the seed and on these alone."""

    def __init__(
        self, index: Index, kept: np.ndarray, augment: SpecAugmentConfig, fill: np.ndarray, seed: int,
        left_out: Collection[int] = (),
    ) -> None:  # fmt: skip
        """kept: rows of the index to train on, int32 (n,); an utterance's index is its place among these.

        left_out: rows that batches are to lack all the same.
        """
        self._index, self._kept, self._left_out = index, kept, frozenset(left_out)
        self._augment, self._fill, self._seed = augment, fill.astype(np.float32), seed

    @property
    def frames(self) -> np.ndarray:
        """Frames of each utterance, int32 (n,)."""
        frames = self._index.frames
        return frames if len(self._kept) == len(frames) else frames[self._kept]

    @property
    def audio_h(self) -> float:
        """Hours of audio."""
        return int(self.frames.sum(dtype=np.int64)) / FRAMES_PER_S / 3600

    @property
    def left_out(self) -> list[str]:
        """Ids of the utterances that batches are to lack, sorted."""
        return [self._index.utt_id(row) for row in sorted(self._left_out)]

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, key: tuple[Position, list[int], Position]) -> Batch:
        """Load and augment a batch, given its position, its utterances and the position after its step.

        It lacks what is left out and what is unreadable; the other utterances are as they were with these.
        """
        position, indices, after = key
        features: dict[int, np.ndarray] = {}
        unreadable: dict[str, str] = {}
        for index in indices:
            row = int(self._kept[index])
            try:
                if row not in self._left_out:
                    features[row] = self._load(position.epoch, index)
            except UserError as error:
                unreadable[self._index.utt_id(row)] = _reason(error, self._index.utt_id(row))
        labels = [self._index.labels(row) for row in features]
        batch = make_batch([self._index.utt_id(row) for row in features], [*features.values()], labels)
        return dataclasses.replace(batch, position=position, after=after, unreadable=unreadable)

    def _load(self, epoch: int, index: int) -> np.ndarray:
        rng = np.random.default_rng((self._seed, epoch, index))
        return spec_augment(load_row(self._index, int(self._kept[index])), self._augment, self._fill, rng)


def load_row(index: Index, row: int) -> np.ndarray:
    """Return the features (frames, n_mels) of an utterance of an index."""
    return load_features(index.place(row), index.utt_id(row), int(index.frames[row]))


class _Rows(Dataset):
    """The features alone of all utterances of an index, by row, or why they cannot be had."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def __getitem__(self, row: int) -> np.ndarray | str:
        try:
            return load_row(self._index, row)
        except UserError as error:
            return _reason(error, self._index.utt_id(row))


def features_of(
    index: Index, rows: np.ndarray, workers: int, on_broken: Callable[[str, str], None]
) -> Iterator[np.ndarray]:
    """Yield the features (frames, n_mels) of rows of an index, in order; the workers are for those not stored.

    on_broken: is told the id of an utterance whose features cannot be had, and why; it is then left out.
    """
    for row, features in zip(rows, loader(_Rows(index), rows.tolist(), 0 if index.is_stored else workers), strict=True):
        if isinstance(features, str):
            on_broken(index.utt_id(int(row)), features)
        else:
            yield features


def _reason(error: UserError, utt_id: str) -> str:
    return str(error).removeprefix(f"utterance {utt_id}: ")


def make_batch(utt_ids: list[str], features: Sequence[np.ndarray], labels: Sequence[list[int]]) -> Batch:
    """Pad features (frames, n_mels) with zeros to the longest and join the labels; there may be none."""
    lengths, widths = [len(matrix) for matrix in features], [matrix.shape[1] for matrix in features]
    if len(set(widths)) > 1:
        other = next(i for i, width in enumerate(widths) if width != widths[0])
        raise UserError(
            f"utterance {utt_ids[0]} has features of {widths[0]} values a frame, {utt_ids[other]} of {widths[other]}"
        )
    padded = np.zeros((len(features), max(lengths, default=0), max(widths, default=0)), np.float32)
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
    return loader(data, _Keys(sampler, start, share), workers)


def ordered_batches(
    utterances: Sequence[FeatureUtterance],
    max_batch_s: float,
    frames_per_s: int = FRAMES_PER_S,
    on_broken: Callable[[str, str], None] | None = None,
) -> Iterator[Batch]:
    """Yield batches without labels for evaluation, longest utterances first, bounded by padded length.

    Features that are not stored are computed ahead by worker processes.
    on_broken: is told the id of an utterance whose features cannot be had, and why; it is then left out. Without,
    this is a UserError.
    """
    frames = [utterance.frames for utterance in utterances]
    order = sorted(range(len(utterances)), key=lambda i: (-frames[i], utterances[i].utt_id))
    batches = bounded_batches(order, frames, int(max_batch_s * frames_per_s))
    computed = any(isinstance(utterance.place, Utterance) for utterance in utterances)
    workers = min(available_cores(), MAX_EVALUATION_WORKERS, len(batches)) if computed else 0
    for batch, broken in loader(_EvaluationData(utterances), batches, workers):
        for utt_id, reason in broken.items():
            if on_broken is None:
                raise UserError(f"utterance {utt_id}: {reason}")
            on_broken(utt_id, reason)
        if batch is not None:
            yield batch


class _EvaluationData(Dataset):
    """Batches of utterances without labels, by the utterances' indices, and what is wrong with those left out."""

    def __init__(self, utterances: Sequence[FeatureUtterance]) -> None:
        self._utterances = utterances

    def __getitem__(self, indices: list[int]) -> tuple[Batch | None, dict[str, str]]:
        features: dict[str, np.ndarray] = {}
        broken: dict[str, str] = {}
        for utterance in (self._utterances[i] for i in indices):
            try:
                features[utterance.utt_id] = load_features(utterance.place, utterance.utt_id, utterance.frames)
            except UserError as error:
                broken[utterance.utt_id] = _reason(error, utterance.utt_id)
        batch = make_batch(list(features), list(features.values()), [[] for _ in features]) if features else None
        return batch, broken


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
