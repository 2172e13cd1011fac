"""Error rates when tokens go to random experts (the paper's Fig. 3)."""

import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from omnirouter.data.dataset import Batch, FeatureUtterance, ordered_batches
from omnirouter.data.errors import UserError
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.decoding.greedy import greedy_decode
from omnirouter.models.ctc import CtcModel
from omnirouter.models.router import Routing
from omnirouter.scoring.normalize import normalize_english
from omnirouter.scoring.wer import ErrorCounts, word_errors

DRAWS = ("layer", "token")
SCALES = ("drawn", "original")


@dataclass(frozen=True)
class RandomRouting:
    """How a share of the tokens is sent elsewhere; the defaults are a reading of what the paper leaves open."""

    share: float
    """Probability p that a token's expert is drawn at random."""
    seed: int = 0
    draw: str = "layer"
    """layer: each layer draws for itself; token: a token is sent elsewhere in all layers or in none."""
    may_keep: bool = True
    """Whether the draw, uniform over all N experts, may give the top-1 expert; else it is among the N - 1 others."""
    scale: str = "drawn"
    """Which probability scales the output (eq. 2): the drawn expert's own, or the original expert's."""


class Rerouted:
    """A model whose tokens are sent to experts at random while this context is open.

    An utterance's draws depend on the seed, its id and the options alone, not on its batch. Of the same seed, the
    tokens that a share reroutes are among those of any larger share, and go to the same experts.
    """

    def __init__(self, model: CtcModel, options: RandomRouting) -> None:
        if model.encoder.config.top_k != 1:
            raise UserError(f"model.top_k is {model.encoder.config.top_k}: random routing is for the top-1 expert only")
        self._model, self._options = model, options
        self._hooks = ExitStack()
        self._picks: Tensor
        self.tokens = 0
        """Routing decisions so far: tokens times MoE layers."""
        self.drawn = 0
        """Those made at random."""
        self.changed = 0
        """Those that gave another expert."""

    def __enter__(self) -> "Rerouted":
        for layer, block in enumerate(self._model.encoder.blocks):
            if self._model.encoder.plan[layer].experts:
                handle = block.ffn.register_forward_pre_hook(self._hook(layer))
                self._hooks.callback(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def draws_for(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield batches, each after drawing for it: the model must be run on one before the next is asked for."""
        stack = self._model.encoder.config.stack_frames
        for batch in batches:
            parts = [self._draw(utt_id, n // stack) for utt_id, n in zip(batch.utt_ids, batch.lengths, strict=True)]
            self._picks = torch.from_numpy(np.concatenate(parts, axis=2))
            yield batch

    def _draw(self, utt_id: str, tokens: int) -> np.ndarray:
        """Numbers in [0, 1) for each layer and token: is it drawn, and which expert, (2, layers, tokens)."""
        rng = np.random.default_rng((self._options.seed, zlib.crc32(utt_id.encode())))
        layers = len(self._model.encoder.blocks)
        numbers = rng.random((1 if self._options.draw == "token" else layers, tokens, 2))  # by layer, then time
        return np.broadcast_to(numbers, (layers, tokens, 2)).transpose(2, 0, 1)

    def _hook(self, layer: int) -> Any:
        def reroute(_: nn.Module, args: tuple[Tensor, Routing]) -> tuple[Tensor, Routing]:
            x_TD, routing = args
            return x_TD, self._reroute(routing, *self._picks[:, layer].to(x_TD.device))

        return reroute

    def _reroute(self, routing: Routing, chance_T: Tensor, pick_T: Tensor) -> Routing:
        experts, top1_T = routing.probs_TN.shape[1], routing.experts_TK[:, 0]
        if self._options.may_keep:
            other_T = (pick_T * experts).long()
        else:
            other_T = (top1_T + 1 + (pick_T * (experts - 1)).long()) % experts
        drawn_T = chance_T < self._options.share
        chosen_T1 = torch.where(drawn_T, other_T, top1_T).unsqueeze(1)
        self.tokens += len(drawn_T)
        self.drawn += int(drawn_T.sum())
        self.changed += int((chosen_T1[:, 0] != top1_T).sum())
        if self._options.scale == "original":
            return replace(routing, experts_TK=chosen_T1)
        return replace(routing, experts_TK=chosen_T1, weights_TK=routing.probs_TN.gather(1, chosen_T1))


@dataclass(frozen=True)
class Point:
    """One decoding of a set with random routing."""

    share: float
    seed: int
    drawn_share: float
    """Share of the routing decisions that were made at random."""
    changed_share: float
    """Share that gave another expert than the router's."""
    words: int
    errors: int
    wer: float
    """Percent."""
    change_percent: float
    """Relative to the word error rate without random routing."""


def measure(
    model: CtcModel,
    tokenizer: Tokenizer,
    utterances: Sequence[FeatureUtterance],
    shares: Sequence[float],
    seeds: Sequence[int],
    options: RandomRouting,
    headline: str = "raw",
    max_batch_s: float = 200.0,
) -> list[Point]:
    """Decode a set with transcripts as it is, and then for each positive share and seed with random routing.

    The first point is that without, share 0.
    """
    if not any(layer.experts for layer in model.encoder.plan):
        raise UserError("a dense encoder has no routing to make random")
    settings = [replace(options, share=share, seed=seed) for share in shares if share > 0 for seed in seeds]
    settings.insert(0, replace(options, share=0.0, seed=0))
    points: list[Point] = []
    for setting in tqdm(settings, desc="random routing", unit="decoding", file=sys.stderr, disable=None):
        with Rerouted(model, setting) as rerouted:
            batches = rerouted.draws_for(ordered_batches(utterances, max_batch_s))
            counts = _score(greedy_decode(model, tokenizer, batches), utterances, headline)
        points.append(_point(setting, rerouted, counts, points[0].wer if points else counts.percent))
    return points


def _score(parts: Iterable[dict[str, str]], utterances: Sequence[FeatureUtterance], headline: str) -> ErrorCounts:
    hypotheses = {utt_id: text for part in parts for utt_id, text in part.items()}
    texts = [utterance.text for utterance in utterances], [hypotheses[utterance.utt_id] for utterance in utterances]
    refs, hyps = texts if headline == "raw" else (map(normalize_english, side) for side in texts)
    return word_errors(refs, hyps)


def _point(options: RandomRouting, seen: Rerouted, counts: ErrorCounts, wer: float) -> Point:
    return Point(
        share=options.share,
        seed=options.seed,
        drawn_share=seen.drawn / max(seen.tokens, 1),
        changed_share=seen.changed / max(seen.tokens, 1),
        words=counts.ref_units,
        errors=counts.errors,
        wer=counts.percent,
        change_percent=100 * (counts.percent / wer - 1) if wer else float("nan"),
    )


def as_json(points: Sequence[Point], options: RandomRouting, headline: str) -> dict[str, Any]:
    """The measurement as data."""
    settings = {name: value for name, value in asdict(options).items() if name not in ("share", "seed")}
    return {"options": {**settings, "headline": headline}, "points": [asdict(point) for point in points]}
