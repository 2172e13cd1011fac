"""Routing of a trained model on a set, seen in one pass: who goes where, how surely, and how loud it is there."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from omnirouter.analysis.assignments import Assignments, make_assignments
from omnirouter.data.dataset import Batch, FeatureUtterance
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.decoding.alignment import align_labels, transcript_labels
from omnirouter.models.agreement import contingency, cramers_v
from omnirouter.models.ctc import CtcModel, CtcOutput
from omnirouter.models.router import Routing


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
    """Cramér's V between the experts of this MoE layer and of the one below; None for the lowest, and where all tokens
    of either layer go to one expert."""


@dataclass(frozen=True)
class SetRouting:
    """Routing of a model over all tokens of a set, and what is heard there."""

    layers: list[LayerRouting]
    assignments: Assignments
    energy_db_T: np.ndarray
    """Mean power of each token's frames in dB, in the assignments' order."""
    paths: dict[str, list[int]]
    """The label or blank at each token of the utterances whose transcripts could be aligned, by utterance id."""


@torch.inference_mode()
def analyse_routing(
    model: CtcModel, batches: Iterable[Batch], labels: Mapping[str, Sequence[int]] | None = None
) -> SetRouting | None:
    """Run a model over a set and describe its routing; None for a dense encoder.

    labels: of the transcripts to align, by utterance id. UserError where no utterance is as long as a token.
    """
    plan, stack = model.encoder.plan, model.encoder.config.stack_frames
    moe_layers = [index for index, layer in enumerate(plan) if layer.experts]
    if not moe_layers:
        return None
    experts: dict[str, np.ndarray] = {}
    energy_db: dict[str, np.ndarray] = {}
    paths: dict[str, list[int]] = {}
    device = next(model.parameters()).device
    certainty_L2 = torch.zeros(len(moe_layers), 2, dtype=torch.float64)
    for batch in batches:
        tokens = [length // stack for length in batch.lengths]
        rows = zip(batch.utt_ids, batch.features.numpy(), tokens, strict=True)
        energy_db |= {utt_id: token_energy_db(matrix[: n * stack], stack) for utt_id, matrix, n in rows}
        if not max(tokens):
            experts |= dict.fromkeys(batch.utt_ids, np.zeros((len(moe_layers), 0), np.int64))
            continue
        output = model(batch.features.to(device), batch.lengths, with_routing=True)
        routings = [output.routing[index] for index in moe_layers]
        certainty_L2 += torch.stack([_certainty(routing) for routing in routings])
        chosen_LT = torch.stack([routing.experts_TK[:, 0] for routing in routings]).cpu().numpy()
        experts |= zip(batch.utt_ids, np.split(chosen_LT, np.cumsum(tokens)[:-1], axis=1), strict=True)
        paths |= _align(output, batch.utt_ids, labels or {})
    if not any(chosen_LT.size for chosen_LT in experts.values()):
        raise UserError(f"no utterance of this set is as long as a token, {stack} frames")
    counts = [plan[index].experts for index in moe_layers]
    assignments = make_assignments(experts, [index + 1 for index in moe_layers], counts, stack / FRAMES_PER_S)
    energy_db_T = np.concatenate([energy_db[utt_id] for utt_id in assignments.utt_ids.tolist()])
    return SetRouting(_describe(assignments, certainty_L2), assignments, energy_db_T, paths)


def transcripts(utterances: Iterable[FeatureUtterance], tokenizer: Tokenizer) -> dict[str, list[int]]:
    """Labels of the transcripts that there are and that the tokenizer has units for, by utterance id."""
    labels = {}
    for utterance in utterances:
        if utterance.text:
            with suppress(ValueError):
                labels[utterance.utt_id] = transcript_labels(tokenizer, utterance.text)
    return labels


def _align(output: CtcOutput, utt_ids: Sequence[str], labels: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Align the utterances that have labels; one too short for its labels is left out."""
    paths = {}
    for utt_id, log_probs_TV in zip(utt_ids, output.log_probs_TV.cpu().split(output.packing.lengths), strict=True):
        if labels.get(utt_id):
            with suppress(ValueError):
                paths[utt_id] = align_labels(log_probs_TV, labels[utt_id])
    return paths


def _certainty(routing: Routing) -> Tensor:
    """Sums over the tokens of the distribution's entropy and of the top-1 probability: (2,)."""
    probs = routing.probs_TN.cpu().double()
    return torch.stack((-torch.special.xlogy(probs, probs).sum(), probs.amax(1).sum()))


def token_energy_db(features: np.ndarray, stack: int) -> np.ndarray:
    """Energy of each token, the mean over its frames and bands, in dB; features: log-mel (tokens * stack, n_mels)."""
    powers = np.exp(features.astype(np.float64)).mean(axis=1)
    return 10 * np.log10(powers.reshape(-1, stack).mean(axis=1))


def _describe(assignments: Assignments, certainty_L2: Tensor) -> list[LayerRouting]:
    experts_LT = torch.from_numpy(assignments.experts_LT.astype(np.int64))
    tokens = experts_LT.shape[1]
    layers = []
    for i, (layer, load) in enumerate(zip(assignments.layers.tolist(), assignments.loads(), strict=True)):
        entropy, top1 = (certainty_L2[i] / tokens).tolist()
        agreement = cramers_v(contingency(experts_LT[i - 1], experts_LT[i])) if i else math.nan
        layers.append(LayerRouting(layer, load, entropy, top1, None if math.isnan(agreement) else agreement))
    return layers


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
