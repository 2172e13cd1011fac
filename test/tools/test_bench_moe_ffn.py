"""What is timed side by side computes the same: values and gradients of every peer against ours."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from bench import moe_ffn, timing
from bench.ffn_peers import GroupedMm, HuggingFace, MaskedLoop, OneHot, Ours, Undispatched
from bench.moe_ffn import AGAIN, Case, Result, _cases, make_layers, targets
from bench.settings import Settings
from bench.timing import Spread
from torch import nn

PEERS: dict[str, Callable[[Ours, torch.Tensor], nn.Module]] = {
    "masked loop": lambda ours, x: MaskedLoop(ours.router, ours.experts),
    "one-hot": lambda ours, x: OneHot(ours.router, ours.experts, x),
    "Hugging Face": lambda ours, x: HuggingFace(ours.router, ours.experts),
    "grouped_mm": lambda ours, x: GroupedMm(ours.router, ours.experts),
}


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("experts", [2, 4])
@pytest.mark.parametrize("name", PEERS)
def test_peers_compute_what_we_compute(name: str, experts: int, skewed: bool) -> None:
    if name == "Hugging Face":
        pytest.importorskip("transformers")
    layers, x = make_layers(Case(32, 48, experts, 2048, skewed, True), torch.device("cpu"))
    ours = layers["ours"]
    peer = PEERS[name](ours, x)
    direction = torch.randn_like(x)
    values, inputs = [], []
    for layer in (ours, peer):
        inputs.append(x.clone().requires_grad_())
        values.append(layer(inputs[-1]))
        values[-1].backward(direction)
    torch.testing.assert_close(values[1], values[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-3, atol=1e-5)
    for theirs, mine in zip(peer.gradients(), ours.gradients(), strict=True):
        assert mine.abs().max() > 1e-3
        torch.testing.assert_close(theirs, mine, rtol=1e-3, atol=1e-3 * float(mine.abs().max()))


@pytest.mark.parametrize("skewed", [False, True])
def test_undispatched_is_ours_for_tokens_in_the_order_of_their_experts(skewed: bool) -> None:
    layers, x = make_layers(Case(32, 48, 4, 500, skewed, True), torch.device("cpu"))
    routing = layers["ours"].router(x)
    order = routing.experts_TK.flatten().argsort(stable=True)
    y = Undispatched(layers["ours"].router, layers["ours"].experts, x)(x[order]) * routing.weights_TK[order]
    torch.testing.assert_close(y, layers["ours"](x)[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("skewed", "wanted"), [(False, [500] * 4), (True, [1800, 67, 67, 66])])
def test_the_load_is_the_one_that_is_claimed(skewed: bool, wanted: list[int]) -> None:
    layers, x = make_layers(Case(32, 48, 4, 2000, skewed, False), torch.device("cpu"))
    counts = torch.bincount(layers["ours"].router(x).experts_TK.flatten(), minlength=4)
    assert sorted(counts.tolist(), reverse=True) == wanted


def test_targets_by_hand() -> None:
    def figures(median: float, high: float = 9.0) -> Spread:
        return Spread(median, median, median, median, high)

    def result(tokens: int, skewed: bool, ours: float, peer: float, high: float) -> Result:
        case = Case(192, 768, 4, tokens, skewed, True)
        return Result(case, 9.0, {"ours": figures(ours)}, {"peer": figures(peer, high)}, figures(1.0))

    rows = [result(1024, False, 1.1, 1.3, 1.5), result(16384, False, 1.06, 0.98, 1.01)]
    found = targets([*rows, result(16384, True, 1.14, 0.96, 0.99)], torch.device("cpu"))
    assert [target.bound for target in found] == [1.15, 1.05, 1.15, 1.0]
    lines = [str(target) for target in found]
    assert [line.split(":")[0] for line in lines] == ["holds", "missed", "holds", "missed"]
    assert lines[1].endswith("≤ 1.05: 1.06 (D 192, 16384 tokens, N 4, balanced, f+b)")
    assert lines[3].endswith("0.99 (peer; D 192, 16384 tokens, N 4, 90% on one, f+b; median 0.960)")
    assert str(targets(rows, torch.device("cpu"))[-1]).startswith("holds")  # 0.98: within the noise
    on_cuda, _ = targets([result(39375, True, 1.16, 1.3, 1.5)], torch.device("cuda"))
    assert str(on_cuda).startswith("missed: ours / dense, 39375 tokens ≤ 1.15: 1.16 ")


@pytest.mark.parametrize(("device", "most"), [("cpu", 1024), ("cuda", moe_ffn.CUDA_TOKENS)])
def test_the_papers_widths_are_timed(device: str, most: int) -> None:
    cases = _cases(Settings(torch.device(device), repeats=1, quick=False, corpus=None, configs=[]))
    assert {case.dim for case in cases} == {192, 512, 768, 1024}
    assert {(case.experts, case.ffn_dim) for case in cases if case.dim > 512} == {(2, 4096)}  # Tables II and III
    assert max(case.tokens for case in cases if case.dim > 512) == most


def test_the_table_by_a_clock_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, timed_pass = [0.0], moe_ffn._pass

    def pass_taking_time(layer: nn.Module, *args: Any) -> Callable[[], None]:
        def work() -> None:
            computed()
            clock[0] += {"FeedForward": 1.0, "Ours": 1.1, "Undispatched": 0.5}.get(type(layer).__name__, 2.2)

        computed = timed_pass(layer, *args)
        return work

    cases = [Case(32, 48, 4, 64, skewed, backward) for skewed in (False, True) for backward in (False, True)]
    monkeypatch.setattr(moe_ffn, "_cases", lambda _: cases)
    monkeypatch.setattr(moe_ffn, "_pass", pass_taking_time)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    (report,) = moe_ffn.run(Settings(torch.device("cpu"), repeats=2, quick=True, corpus=None, configs=[]))
    rows = [dict(zip(report.header, row, strict=True)) for row in report.rows]
    assert [(row["load"], row["pass"]) for row in rows] == [(case.load, case.passes) for case in cases]
    for row, case in zip(rows, cases, strict=True):
        assert (row["D / F"], row["tokens"], row["N"], row["dense ms"]) == ("32 / 48", "64", "4", "1000.0")
        assert row["ours / dense"] == "1.10 [1.10, 1.10]" and row["ours / ours"] == "1.00 [1.00, 1.00]"
        assert row["undispatched / dense"] == "0.50 [0.50, 0.50]" and row["masked loop / dense"][:4] == "2.20"
        assert row["one-hot / dense"][:4] == ("–" if case.skewed else "2.20")  # 4 x 58 places for 64 tokens
    # What costs no dispatch is no peer: the slowest of these is twice as slow as ours.
    assert [(target.holds, round(target.measured, 2)) for target in report.targets] == [(True, 1.1), (True, 2.0)]


def test_ours_is_timed_twice_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    def interleaved(contenders: dict, *_: object) -> dict[str, list[float]]:
        assert list(contenders)[-1] == AGAIN
        return {name: [2.0, 4.0] for name in contenders} | {AGAIN: [1.0, 4.0]}

    monkeypatch.setattr(moe_ffn, "interleaved", interleaved)
    settings = Settings(torch.device("cpu"), repeats=2, quick=True, corpus=None, configs=[])
    result = moe_ffn._time(Case(32, 48, 4, 64, False, True), settings)
    assert result.noise.median == 0.75 and AGAIN not in result.to_ours and AGAIN not in result.to_dense
