"""Figures of the routing by hand, warnings, and the metrics file."""

import json
import math
import os
from pathlib import Path

import pytest
import torch

from omnirouter.models.router import Routing
from omnirouter.training import telemetry
from omnirouter.training.telemetry import MetricsFile, Telemetry, flatten, routing_warnings


def routing_of(probs: list[list[float]]) -> Routing:
    p = torch.tensor(probs)
    return Routing(p, p.argmax(1, keepdim=True), p.amax(1, keepdim=True))


def test_routing_record_averages_batches_by_hand() -> None:
    telemetry = Telemetry()
    telemetry.add({}, {0: routing_of([[0.75, 0.25], [0.75, 0.25]])})
    telemetry.add({}, {0: routing_of([[1.0, 0.0], [0.25, 0.75]])})
    record = telemetry.routing_record()["1"]
    assert record["load"] == [0.75, 0.25]  # (1 + 0.5) / 2
    assert record["prob"] == pytest.approx([0.6875, 0.3125])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert record["entropy"] == pytest.approx((entropy + entropy / 2) / 2)
    assert record["top1_prob"] == pytest.approx((0.75 + 0.875) / 2)
    assert record["margin"] == pytest.approx((0.5 + 0.75) / 2)
    assert record["expert_top1_prob"] == pytest.approx([(0.75 + 0.75 + 1) / 3, 0.75])  # by tokens, not by batches
    assert record["cramers_v"] is None


def test_figures_of_two_choices_a_token_are_of_the_first_but_for_the_load() -> None:
    probs = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.1, 0.4]])
    weights, experts = probs.topk(2, dim=1)
    telemetry = Telemetry()
    telemetry.add({}, {0: Routing(probs, experts, weights)})
    record = telemetry.routing_record()["1"]
    assert record["load"] == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    assert record["top1_prob"] == pytest.approx((0.6 + 0.7 + 0.5) / 3)
    assert record["margin"] == pytest.approx((0.3 + 0.5 + 0.1) / 3)
    assert record["expert_top1_prob"] == pytest.approx([0.55, 0.7, 0.0])


def test_agreement_of_two_choices_a_token_is_of_the_first() -> None:
    experts = {0: [[0, 2], [1, 2], [0, 3], [1, 3]], 1: [[1, 2], [0, 3], [1, 2], [0, 3]]}  # the second do not agree
    probs, weights = torch.full((4, 4), 1 / 4), torch.full((4, 2), 1 / 4)
    telemetry = Telemetry()
    telemetry.add({}, {layer: Routing(probs, torch.tensor(chosen), weights) for layer, chosen in experts.items()})
    assert telemetry.routing_record()["2"]["cramers_v"] == pytest.approx(1)


def test_an_expert_without_tokens_has_probability_zero() -> None:
    telemetry = Telemetry()
    telemetry.add({}, {0: routing_of([[0.75, 0.25], [0.5, 0.5]])})
    assert telemetry.routing_record()["1"]["expert_top1_prob"] == [0.625, 0.0]


def test_agreement_is_that_of_the_last_batch_with_the_layer_below() -> None:
    telemetry = Telemetry()
    a, b = [0.9, 0.1], [0.2, 0.8]
    telemetry.add({}, {layer: routing_of([a, b, b, a]) for layer in (0, 2, 3, 5)})
    telemetry.add({}, {0: routing_of([a, a, b, b]), 2: routing_of([b, b, a, a]), 5: routing_of([a, b, a, b])})
    record = telemetry.routing_record()
    assert [record[layer]["cramers_v"] for layer in ("1", "3", "4", "6")] == [None, pytest.approx(1), None, None]
    telemetry.add({}, {0: routing_of([a, a, b, b]), 2: routing_of([a, b, a, b]), 3: routing_of([a, a, a, a])})
    record = telemetry.routing_record()
    assert (record["3"]["cramers_v"], record["4"]["cramers_v"]) == (pytest.approx(0), None)


def test_state_is_taken_up_exactly() -> None:
    whole, first, second = Telemetry(), Telemetry(), Telemetry()
    steps = [({"ctc": 0.1 * i}, {1: routing_of([[0.1 * i, 1 - 0.1 * i]])}) for i in range(1, 6)]
    for step in steps:
        whole.add(*step)
    for step in steps[:2]:
        first.add(*step)
    second.restore(first.state(), torch.device("cpu"))
    for step in steps[2:]:
        second.add(*step)
    assert second.sum("ctc") == whole.sum("ctc")
    assert second.routing_record() == whole.routing_record()


def test_warnings_name_starved_experts_and_undecided_routers() -> None:
    good = {"load": [0.3, 0.7], "top1_prob": 0.8}
    starved = {"load": [0.991, 0.009], "top1_prob": 0.9}
    uniform = {"load": [0.5, 0.5], "top1_prob": 0.52}
    record = {"1": good, "2": starved, "3": uniform}
    warnings = routing_warnings(record, record)
    assert len(warnings) == 2
    assert "layer 2: expert [2]" in warnings[0] and "layer 3" in warnings[1] and "uniform" in warnings[1]
    assert routing_warnings({}, record) == []
    assert routing_warnings({"1": good, "2": good, "3": good}, record) == []  # once is no state yet
    assert routing_warnings(record, {"1": good, "2": {**starved, "load": [0.009, 0.991]}, "3": good}) == []


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, 0)
    metrics.write({"step": 1})
    length = metrics.sync()
    metrics.write({"step": 2})
    metrics.sync()  # then the run is killed
    resumed = MetricsFile(path, length)
    resumed.write({"step": 2, "again": True})
    resumed.sync()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 1}, {"step": 2, "again": True}]


@pytest.mark.parametrize(("left", "kept"), [(None, []), (9, []), (12, [{"step": 1}]), (20, [{"step": 1}])])
def test_lost_metrics_are_a_warning_and_what_is_whole_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int | None, kept: list[dict[str, int]]
) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, 0)
    for step in (1, 2):
        metrics.write({"step": step})  # 12 bytes each
    length = metrics.sync()
    path.unlink() if left is None else os.truncate(path, left)
    warnings: list[str] = []
    monkeypatch.setattr(telemetry.LOG, "warning", lambda text, *values: warnings.append(text % values))
    resumed = MetricsFile(path, length)
    resumed.write({"step": 3})
    resumed.sync()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [*kept, {"step": 3}]
    assert len(warnings) == 1 and f"{path} has {left or 0} bytes" in warnings[0] and "24" in warnings[0]


def test_flatten_names_numbers_by_place() -> None:
    assert flatten({"a": 1, "b": {"c": [2.0, 3.0], "d": "text"}}) == {"a": 1, "b/c/1": 2.0, "b/c/2": 3.0}
