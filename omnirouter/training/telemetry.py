"""Figures of a training run, averaged over intervals: metrics.jsonl, TensorBoard and warnings about the routing."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from omnirouter.models.agreement import contingency, cramers_v
from omnirouter.models.router import Routing, expert_load
from omnirouter.training.distributed import gathered, ranks, summed
from omnirouter.training.log import LOG

STARVED_SHARE = 0.01
UNIFORM_MARGIN = 1.05


def routing_figures(routing: Routing) -> Tensor:
    """Figures of one layer and batch, (4 N + 3,).

    Load per expert, mean probability per expert; for the tokens whose first choice each expert is, the sum of their
    top-1 probabilities and their number; then means of the entropy (nats), of the top-1 probability and of its margin
    over the second.
    """
    probs = routing.probs_TN.detach()
    top = probs.topk(min(2, probs.shape[1]), dim=1).values
    entropy = -torch.special.xlogy(probs, probs).sum(dim=1).mean()
    scalars = torch.stack((entropy, top[:, 0].mean(), (top[:, 0] - top[:, -1]).mean()))
    first = F.one_hot(routing.experts_TK[:, 0], probs.shape[1]).to(probs.dtype)
    of_experts = (expert_load(routing), probs.mean(dim=0), (first * top[:, :1]).sum(dim=0), first.sum(dim=0))
    return torch.cat((*of_experts, scalars))


class Telemetry:
    """Sums of figures since the last record; part of a checkpoint, so that a resumed run writes the same records."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._routing: dict[int, Tensor] = {}
        self._routed: dict[int, int] = {}
        self._first_choices: dict[int, Tensor] = {}
        """Of the last batch; not part of the state, since a record is written right after a batch."""

    def add(self, figures: Mapping[str, float], routing: Mapping[int, Routing]) -> None:
        """Add one step's figures and routing."""
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        for layer, decisions in routing.items():
            seen = routing_figures(decisions)  # stays on its device: no waiting for it
            self._routing[layer] = self._routing[layer] + seen if layer in self._routing else seen
            self._routed[layer] = self._routed.get(layer, 0) + 1
        if routing:
            self._first_choices = {layer: decisions.experts_TK[:, 0] for layer, decisions in routing.items()}

    def merge(self, other: "Telemetry") -> None:
        """Add what another one has been given; its last batch is the last one now."""
        for name, value in other._sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        for layer, figures in other._routing.items():
            self._routing[layer] = self._routing[layer] + figures if layer in self._routing else figures
            self._routed[layer] = self._routed.get(layer, 0) + other._routed[layer]
        self._first_choices = other._first_choices

    def share(self) -> None:
        """Add up what all processes have been given: figures of the same names, and as many batches of equal layers."""
        if ranks() == 1:
            return
        names, layers = sorted(self._sums), sorted(self._routing)
        sums = summed(torch.tensor([self._sums[name] for name in names], dtype=torch.float64))
        self._sums = dict(zip(names, sums.tolist(), strict=True))
        if layers:
            routing = summed(torch.cat([self._routing[layer] for layer in layers]))
            parts = routing.split([len(self._routing[layer]) for layer in layers])
            self._routing = dict(zip(layers, parts, strict=True))
            self._routed = {layer: count * ranks() for layer, count in self._routed.items()}

    def is_finite(self) -> bool:
        """Tell whether all sums of figures are finite."""
        return all(map(math.isfinite, self._sums.values()))

    def sum(self, name: str) -> float:
        """Sum of a figure since the last record."""
        return self._sums.get(name, 0.0)

    def routing_record(self) -> dict[str, dict[str, Any]]:
        """Means per MoE layer (named from 1) since the last record; to be called by all processes at once.

        expert_top1_prob: over all tokens whose first choice the expert is; 0 where there is none.
        cramers_v: of the last batch, with the MoE layer below; None for the lowest, where either layer was left out
        of that batch, and where either has sent all its tokens to one expert.
        """
        record = {}
        layers = sorted(self._routing)
        pairs = zip([None, *layers], layers, strict=False)
        agreement = gathered({layer: self._agreement(below, layer) for below, layer in pairs})[-1]
        for layer in layers:
            mean = self._routing[layer] / self._routed[layer]
            load, prob, sums, tokens = mean[:-3].unflatten(0, (4, -1))
            record[str(layer + 1)] = {
                "load": load.tolist(),
                "prob": prob.tolist(),
                "expert_top1_prob": torch.where(tokens > 0, sums / tokens, 0.0).tolist(),
                **dict(zip(("entropy", "top1_prob", "margin"), mean[-3:].tolist(), strict=True)),
                "cramers_v": agreement[layer],
            }
        return record

    def _agreement(self, below: int | None, layer: int) -> float | None:
        if below not in self._first_choices or layer not in self._first_choices:
            return None
        agreement = cramers_v(contingency(self._first_choices[below].cpu(), self._first_choices[layer].cpu()))
        return None if math.isnan(agreement) else agreement  # JSON knows no NaN

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        routing = {layer: figures.cpu() for layer, figures in self._routing.items()}
        return {"sums": dict(self._sums), "routing": routing, "routed": dict(self._routed)}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take up the state of a checkpoint."""
        self._sums, self._routed = dict(state["sums"]), dict(state["routed"])
        self._routing = {layer: figures.to(device) for layer, figures in state["routing"].items()}


def routing_warnings(before: Mapping[str, Mapping[str, Any]], record: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say which experts are starved and which layers' routers do not decide, in this record and the one before it."""
    warnings = []
    for layer in sorted(before.keys() & record.keys(), key=int):
        earlier, figures = before[layer], record[layer]
        experts = len(figures["load"])
        shares = map(max, earlier["load"], figures["load"])
        starved = [j for j, share in enumerate(shares, 1) if share < STARVED_SHARE]
        if starved:
            warnings.append(f"layer {layer}: expert {starved} gets less than {STARVED_SHARE:.0%} of the tokens")
        if experts > 1 and max(earlier["top1_prob"], figures["top1_prob"]) < UNIFORM_MARGIN / experts:
            warnings.append(
                f"layer {layer}: mean top-1 probability {figures['top1_prob']:.3f} is that of a uniform router"
            )
    return warnings


class MetricsFile:
    """metrics.jsonl: one record a line, appended; cut back to a checkpoint's length on resume, so no step is twice."""

    def __init__(self, path: Path, length: int) -> None:
        self._file = open(path, "ab+")
        there = os.fstat(self._file.fileno()).st_size
        if there < length:  # truncate would fill it up with zeros
            LOG.warning("%s has %d bytes, the checkpoint knows of %d: records are lost", path, there, length)
            length = _whole_lines(self._file)
        self._file.truncate(length)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record."""
        self._file.write(json.dumps(record).encode() + b"\n")

    def sync(self) -> int:
        """Force all records to disk and return the file's length in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size


def _whole_lines(file: IO[bytes]) -> int:
    """Return the length in bytes of a file's complete lines."""
    file.seek(0)
    return file.read().rfind(b"\n") + 1


def tensorboard_writer(folder: Path, first_step: int) -> Any | None:
    """Open a TensorBoard writer that drops what a killed run wrote from a step on; None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_step)


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Name the numbers of a nested record `a/b/c`; list items by position from 1."""
    flat: dict[str, float] = {}
    for key, value in record.items():
        items = dict(enumerate(value, 1)) if isinstance(value, list) else value
        if isinstance(items, Mapping):
            flat |= flatten(items, f"{prefix}{key}/")
        elif isinstance(items, (int, float)):
            flat[f"{prefix}{key}"] = items
    return flat
