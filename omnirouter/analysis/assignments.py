"""Which expert each token of a set was sent to: exp/EXP/routing_SET/experts.npz."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_write


@dataclass(frozen=True)
class Assignments:
    """The most probable expert of each token, the utterances in order of id, one after the other."""

    utt_ids: np.ndarray
    """Unicode (n_utts,)."""
    offsets: np.ndarray
    """int64 (n_utts + 1,): the i-th utterance has the tokens offsets[i] to offsets[i + 1]."""
    layers: np.ndarray
    """int (L,): numbers of the MoE layers, from 1 at the bottom of the encoder."""
    n_experts: np.ndarray
    """int (L,): experts of each."""
    experts_LT: np.ndarray
    """uint8 or uint16 (L, all tokens)."""
    token_s: float
    """Seconds of a token."""

    @cached_property
    def spans(self) -> dict[str, slice]:
        """Where each utterance's tokens stand among all, by its id."""
        bounds = self.offsets.tolist()
        return dict(zip(self.utt_ids.tolist(), map(slice, bounds, bounds[1:]), strict=True))

    def lengths(self) -> np.ndarray:
        """Tokens of each utterance: (n_utts,)."""
        return np.diff(self.offsets)

    def loads(self) -> list[list[float]]:
        """Share of the tokens that each expert gets, by layer; nothing where there are no tokens."""
        tokens = max(1, self.experts_LT.shape[1])
        counts = zip(self.experts_LT, self.n_experts.tolist(), strict=True)
        return [(np.bincount(experts_T, minlength=experts) / tokens).tolist() for experts_T, experts in counts]


def make_assignments(
    experts: Mapping[str, np.ndarray], layers: Sequence[int], n_experts: Sequence[int], token_s: float
) -> Assignments:
    """Join the experts (L, tokens) of utterances by id."""
    utt_ids = sorted(experts)
    dtype = np.uint8 if max(n_experts) <= 256 else np.uint16
    return Assignments(
        utt_ids=np.array(utt_ids),
        offsets=np.cumsum([0, *(experts[utt_id].shape[1] for utt_id in utt_ids)], dtype=np.int64),
        layers=np.array(layers),
        n_experts=np.array(n_experts),
        experts_LT=np.concatenate([experts[utt_id] for utt_id in utt_ids], axis=1).astype(dtype),
        token_s=token_s,
    )


def write_assignments(path: Path, assignments: Assignments) -> None:
    """Write a file that `read_assignments` reads; equal assignments give equal bytes."""
    arrays = {field.name: np.asarray(getattr(assignments, field.name)) for field in fields(Assignments)}
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def read_assignments(path: Path) -> Assignments:
    """Read what stage 7 has written; UserError where it is missing or something else."""
    if not path.exists():
        raise UserError(f"{path} does not exist; stage 7 makes it, for mixtures of experts")
    try:
        with np.load(path) as arrays:
            values = {field.name: arrays[field.name] for field in fields(Assignments)}
    except (KeyError, ValueError, BadZipFile, EOFError) as error:
        raise UserError(f"{path}: no expert assignments ({error}); run stage 7 again") from error
    return Assignments(**{**values, "token_s": float(values["token_s"])})
