"""Routing statistics of a set."""

import itertools
import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from omnirouter.analysis.matching import v_matrix
from omnirouter.analysis.routing import analyse_routing, routing_json, routing_table, token_energy_db
from omnirouter.data.dataset import Batch
from omnirouter.data.errors import UserError
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel, CtcOutput
from omnirouter.models.router import Routing


def test_figures_of_a_set_do_not_depend_on_its_batches() -> None:
    torch.manual_seed(0)
    model = CtcModel(ModelConfig(layers=3, dim=32, heads=2, ffn_dim=32, moe_every=2, encoder="switch"), 5).eval()
    features = torch.randn(4, 80, 80)
    lengths = [80, 60, 33, 20]
    together = [Batch(list("abcd"), features, lengths, torch.zeros(0), [0] * 4)]
    apart = [
        Batch([name], features[i : i + 1, :n], [n], torch.zeros(0), [0])
        for i, (name, n) in enumerate(zip("abcd", lengths, strict=True))
    ]
    with_batch, alone = analyse_routing(model, together), analyse_routing(model, apart)
    (one,), (other,) = with_batch.layers, alone.layers
    assert one.layer == other.layer == 2 and one.cramers_v is None
    assert one.load == other.load and sum(one.load) == pytest.approx(1)
    assert (one.entropy, one.top1_prob) == pytest.approx((other.entropy, other.top1_prob), rel=1e-5)
    assert analyse_routing(CtcModel(ModelConfig(layers=1, dim=32, heads=2, encoder="dense"), 5), together) is None
    for a, b in zip(asdict(with_batch.assignments).values(), asdict(alone.assignments).values(), strict=True):
        assert np.array_equal(a, b)
    assert with_batch.assignments.offsets.tolist() == [0, 20, 35, 43, 48]
    assert with_batch.energy_db_T == pytest.approx(alone.energy_db_T)


class GivenRouting(CtcModel):
    """Says that its tokens, of two experts a layer, went where it is told, and how surely in each layer."""

    experts_LT: Tensor
    probs_L: list[float]

    def forward(self, features: Tensor, lengths: list[int], with_routing: bool = False) -> CtcOutput:
        output = super().forward(features, lengths, with_routing)
        routing = {}
        for layer, (prob, chosen_T) in enumerate(zip(self.probs_L, self.experts_LT, strict=True)):
            chosen_T1 = chosen_T.unsqueeze(1)
            probs_TN = torch.full((len(chosen_T), 2), 1 - prob).scatter(1, chosen_T1, prob)
            routing[layer] = Routing(probs_TN, chosen_T1, probs_TN.gather(1, chosen_T1))
        return replace(output, routing=routing)


def test_the_figures_by_hand() -> None:
    model = GivenRouting(ModelConfig(layers=3, dim=32, heads=2, ffn_dim=32, experts=2, encoder="switch"), 5).eval()
    # V of 2 x 2 counts is |ad - bc| over the root of the product of their margins: 4 * 2 / sqrt(6 * 2 * 4 * 4) = 0.577
    # of the two lower layers; the third has the experts of the second exchanged, V = 1
    model.experts_LT = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0, 0]])
    model.probs_L = [0.75, 0.6, 0.9]
    routing = analyse_routing(model, [Batch(["a"], torch.randn(1, 32, 80), [32], torch.zeros(0), [0])])
    rows = routing_json(routing.layers)["layers"]
    entropies = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in model.probs_L]
    assert [row["layer"] for row in rows] == [1, 2, 3]
    assert [row["load"] for row in rows] == [[0.75, 0.25], [0.5, 0.5], [0.5, 0.5]]
    assert [row["entropy"] for row in rows] == pytest.approx(entropies)
    assert [row["top1_prob"] for row in rows] == pytest.approx(model.probs_L)
    agreements = [row["cramers_v"] for row in rows]
    assert agreements[0] is None and agreements[1:] == pytest.approx([3**-0.5, 1])
    assert agreements[1:] == pytest.approx(np.diagonal(v_matrix(routing.assignments), 1))
    assert [line.split() for line in routing_table(routing.layers).splitlines()[1:]] == [
        ["1", "75.0", "25.0", "0.562", "0.750"],
        ["2", "50.0", "50.0", "0.673", "0.600", "0.577"],
        ["3", "50.0", "50.0", "0.325", "0.900", "1.000"],
    ]


def test_where_all_tokens_go_to_one_expert_there_is_no_agreement() -> None:
    model = CtcModel(ModelConfig(layers=2, dim=32, heads=2, ffn_dim=32, experts=2, encoder="switch"), 5).eval()
    with torch.no_grad():
        model.encoder.routers[1].weight.zero_()  # all experts alike: the first is taken
    routing = analyse_routing(model, [Batch(["a"], torch.randn(1, 80, 80), [80], torch.zeros(0), [0])])
    assert routing.layers[1].load == [1, 0] and routing.layers[1].cramers_v is None
    json.dumps(routing_json(routing.layers), allow_nan=False)


def test_an_utterance_without_a_token_is_there_with_none() -> None:
    model = CtcModel(ModelConfig(layers=1, dim=32, heads=2, ffn_dim=32, encoder="switch"), 5).eval()
    short = Batch(["b"], torch.randn(1, 3, 80), [3], torch.zeros(0), [0])
    long = Batch(["a", "c"], torch.randn(2, 8, 80), [8, 3], torch.zeros(0), [0, 0])
    assignments = analyse_routing(model, [long, short]).assignments
    assert assignments.utt_ids.tolist() == ["a", "b", "c"] and assignments.lengths().tolist() == [2, 0, 0]
    with pytest.raises(UserError, match="as long as a token, 4 frames"):
        analyse_routing(model, [short])


def test_transcripts_are_aligned_where_they_fit() -> None:
    torch.manual_seed(0)
    model = CtcModel(ModelConfig(layers=1, dim=32, heads=2, ffn_dim=32, encoder="switch"), 5).eval()
    batch = Batch(["a", "b"], torch.randn(2, 24, 80), [24, 8], torch.zeros(0), [0, 0])
    paths = analyse_routing(model, [batch], {"a": [2, 3], "b": [1, 2, 3]}).paths
    assert paths.keys() == {"a"} and len(paths["a"]) == 6
    assert [label for label, _ in itertools.groupby(paths["a"]) if label] == [2, 3]


def test_energy_is_the_mean_power_of_a_tokens_frames_in_decibels() -> None:
    powers = np.array([[1.0, 3.0], [2.0, 2.0], [100.0, 300.0], [200.0, 200.0]])
    assert token_energy_db(np.log(powers), 2) == pytest.approx([10 * np.log10(2), 20 + 10 * np.log10(2)])
