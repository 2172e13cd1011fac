"""Figures of the routing by hand, warnings, and the metrics file."""

import json
import math
from pathlib import Path

import pytest
import torch

from omnirouter.models.router import Routing
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
    warnings = routing_warnings({"1": good, "2": starved, "3": uniform})
    assert len(warnings) == 2
    assert "layer 2: expert [2]" in warnings[0] and "layer 3" in warnings[1] and "uniform" in warnings[1]


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


def test_flatten_names_numbers_by_place() -> None:
    assert flatten({"a": 1, "b": {"c": [2.0, 3.0], "d": "text"}}) == {"a": 1, "b/c/1": 2.0, "b/c/2": 3.0}
