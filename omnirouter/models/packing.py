"""Padded batches and packed tokens: the encoder works on valid tokens only and pads for attention alone."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Packing:
    """Where the valid tokens of a padded batch lie; made once a batch from lengths known on the host.

    lengths: tokens of each of the B utterances; T is their sum, L their maximum.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.lengths = list(lengths)
        self.longest = max(self.lengths)
        # A plain number, of which torch.compile makes a symbol: of a list's length it makes a constant.
        self._batch = len(self.lengths)
        padded = any(length != self.longest for length in self.lengths)
        host = torch.arange(self.longest) < torch.tensor(self.lengths).unsqueeze(1)
        # The index is taken on the host: a boolean mask on a GPU would make the host wait for its count.
        self._index = host.flatten().nonzero().squeeze(1).to(device, non_blocking=True) if padded else None
        self.key_mask = host[:, None, None, :].to(device, non_blocking=True) if padded else None
        """(B, 1, 1, L) true where a key is valid; None when nothing is padded."""

    def pack(self, x_BLC: Tensor) -> Tensor:
        """Gather the valid tokens: (B, L, C) to (T, C)."""
        x = x_BLC.flatten(0, 1)
        return x if self._index is None else x.index_select(0, self._index)

    def unpack(self, x_TC: Tensor) -> Tensor:
        """Scatter packed tokens into a batch padded with zeros: (T, C) to (B, L, C)."""
        if self._index is not None:
            x_TC = x_TC.new_zeros(self._batch * self.longest, x_TC.shape[1]).index_copy(0, self._index, x_TC)
        return x_TC.view(self._batch, self.longest, -1)

    def utterances(self, device: torch.device) -> Tensor:
        """Index of the utterance that each packed token belongs to: (T,)."""
        lengths = torch.tensor(self.lengths)
        return torch.arange(len(lengths)).repeat_interleave(lengths).to(device, non_blocking=True)

    def positions(self, device: torch.device) -> Tensor:
        """Index of each packed token in its utterance: (T,)."""
        steps = torch.arange(self.longest, device=device).expand(len(self.lengths), -1)
        return self.pack(steps.unsqueeze(2)).squeeze(1)
