"""Routing statistics of a trained model on a set: load, certainty, and agreement between layers."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from omnirouter.data.dataset import Batch
from omnirouter.models.agreement import contingency, cramers_v
from omnirouter.models.ctc import CtcModel


@dataclass(frozen=True)
class LayerRouting:
    """Routing of one MoE layer over all tokens of a set."""

    layer: int
    """Layer number, from 1 at the bottom."""
    load: list[float]
    """Share of tokens whose most probable expert is each one."""
    entropy: float
    """Mean entropy of the router's distribution, in nats."""
    top1_prob: float
    """Mean probability of the most probable expert."""
    cramers_v: float | None
    """Cramér's V between the experts of this MoE layer and of the one below; None for the lowest."""


@torch.inference_mode()
def analyse_routing(model: CtcModel, batches: Iterable[Batch]) -> list[LayerRouting]:
    """Run a model over a set and describe each MoE layer; an empty list for a dense encoder."""
    device = next(model.parameters()).device
    chosen: dict[int, list[Tensor]] = {}
    certainty: dict[int, Tensor] = {}
    for batch in batches:
        if max(batch.lengths) < model.encoder.config.stack_frames:
            continue
        output = model(batch.features.to(device), batch.lengths, with_routing=True)
        for layer, routing in output.routing.items():
            probs = routing.probs_TN.cpu().double()
            sums = torch.stack((-torch.special.xlogy(probs, probs).sum(), probs.amax(1).sum()))
            certainty[layer] = certainty.get(layer, torch.zeros(2)) + sums
            chosen.setdefault(layer, []).append(routing.experts_TK[:, 0].cpu())
    experts = {layer: torch.cat(parts) for layer, parts in chosen.items()}
    return [_describe(model, experts, certainty, layer) for layer in sorted(experts)]


def _describe(model: CtcModel, experts: dict[int, Tensor], certainty: dict[int, Tensor], layer: int) -> LayerRouting:
    tokens = len(experts[layer])
    load = torch.bincount(experts[layer], minlength=model.encoder.plan[layer].experts) / tokens
    entropy, top1 = (certainty[layer] / tokens).tolist()
    below = max((other for other in experts if other < layer), default=None)
    agreement = None if below is None else cramers_v(contingency(experts[below], experts[layer]))
    return LayerRouting(layer + 1, load.tolist(), entropy, top1, agreement)


def routing_table(layers: list[LayerRouting]) -> str:
    """Plain-text table of the layers, for people."""
    lines = ["layer  load per expert, %               entropy  top-1 prob  Cramér's V to the layer below"]
    for layer in layers:
        load = " ".join(f"{100 * share:5.1f}" for share in layer.load)
        agreement = "" if layer.cramers_v is None else f"{layer.cramers_v:10.3f}"
        lines.append(f"{layer.layer:5d}  {load:32s} {layer.entropy:7.3f} {layer.top1_prob:11.3f} {agreement}".rstrip())
    return "\n".join(lines) + "\n"


def routing_json(layers: list[LayerRouting]) -> dict[str, list[dict]]:
    """The same figures as data."""
    return {"layers": [asdict(layer) for layer in layers]}
