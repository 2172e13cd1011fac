"""Timing, tables and targets of the benchmarks, with numbers made by hand."""

import sys
from pathlib import Path

import pytest
import scipy.stats
import torch
from bench import timing
from bench.report import Report, Target, markdown_table, worst
from bench.timing import Spread, interleaved, ratio, spread

CPU = torch.device("cpu")


def test_spread_is_the_median_and_the_outer_tenths() -> None:
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0, 10.0, 8.0, 7.0, 6.0, 9.0, 0.0]) == Spread(5.0, 1.0, 9.0, 0.0, 10.0)
    assert str(Spread(1.049, 0.996, 2.0, 0.9, 3.0)) == "1.05 [1.00, 2.00]"


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine is twice as slow in the second round: the ratio of the medians would be 5 / 3 or 6 / 4.
    assert ratio([3.0, 8.0, 3.0], [2.0, 4.0, 3.0]) == Spread(1.5, pytest.approx(1.1), pytest.approx(1.9), 1.0, 2.0)


@pytest.mark.parametrize(("repeats", "outside"), [(5, 0), (8, 0), (10, 0), (11, 0), (12, 1), (15, 2), (30, 7)])
def test_the_interval_of_a_median_is_as_scipy_has_it(repeats: int, outside: int) -> None:
    figures = spread([float(value) for value in range(repeats)])
    assert (figures.median_low, figures.median_high) == (outside, repeats - 1 - outside)
    assert outside == max(0, scipy.stats.binom.ppf(0.005, repeats, 0.5) - 1)


def test_contenders_take_turns_after_each_other_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = iter(range(10000))
    monkeypatch.setattr(timing, "ENOUGH_S", 1e9)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock) * 0.5)
    times = interleaved({name: lambda name=name: calls.append(name) for name in "abc"}, 300, CPU)
    assert times == {name: [0.5] * 300 for name in "abc"}
    assert calls[:3] == ["a", "b", "c"]  # untimed
    rounds = ["".join(calls[start : start + 3]) for start in range(3, len(calls), 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    for pair in ("ab", "ba", "bc", "cb", "ac", "ca"):  # two orders of six have the pair
        assert 70 < sum(pair in turn for turn in rounds) < 130


def test_slow_contenders_end_after_the_least_number_of_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock) * timing.ENOUGH_S)
    assert len(interleaved({"a": lambda: None}, 30, CPU)["a"]) == timing.LEAST_ROUNDS
    assert len(interleaved({"a": lambda: None}, 2, CPU)["a"]) == 2


def test_a_table_lines_up() -> None:
    assert markdown_table(["name", "s"], [["a", "1.25"], ["longer", "–"]]).splitlines() == [
        "| name   |    s |",
        "| :----- | ---: |",
        "| a      | 1.25 |",
        "| longer |    – |",
    ]


@pytest.mark.parametrize(
    ("measured", "at_least", "line"),
    [
        (1.0499, False, "holds: x ≤ 1.05: 1.05 (row)"),
        (1.06, False, "missed: x ≤ 1.05: 1.06 (row)"),
        (float("nan"), False, "missed: x ≤ 1.05: nan (row)"),
        (1.06, True, "holds: x ≥ 1.05: 1.06 (row)"),
        (1.04, True, "missed: x ≥ 1.05: 1.04 (row)"),
    ],
)
def test_a_target_says_whether_it_holds(measured: float, at_least: bool, line: str) -> None:
    assert str(Target("x", measured, 1.05, at_least, "row")) == line


def test_the_worst_row_decides() -> None:
    figures = [("first", 1.0), ("second", 1.2), ("third", 0.9)]
    assert worst("x", figures, 1.1) == [Target("x", 1.2, 1.1, False, "second")]
    assert worst("x", figures, 0.8, at_least=True) == [Target("x", 0.9, 0.8, True, "third")]
    assert worst("x", [], 1.0) == []


def test_a_report_is_title_notes_table_and_targets() -> None:
    text = Report("T", ["a"], [["b"]], [Target("x", 1, 2), Target("y", 3, 2)], ["A note."]).markdown()
    assert text == ("### T\n\nA note.\n\n| a   |\n| :-- |\n| b   |\n\n- holds: x ≤ 2: 1\n- missed: y ≤ 2: 3\n")


def test_the_command_appends_its_tables(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    from bench import __main__ as command
    from bench import moe_ffn

    monkeypatch.setattr(moe_ffn, "run", lambda settings: [Report(f"{settings.repeats} rounds", ["a"], [["b"]])])
    output = tmp_path / "RESULTS.md"
    output.write_text("before\n")
    monkeypatch.setattr(sys, "argv", ["bench", "moe_ffn", "--repeats", "3", "--device", "cpu", "--output", str(output)])
    command.main()
    written = output.read_text()
    assert written.startswith("before\n## moe_ffn\n\n- date: ") and "### 3 rounds\n\n| a " in written
    assert capsys.readouterr().out.strip() == written.removeprefix("before\n").strip()
    monkeypatch.setattr(sys, "argv", ["bench", "moe_fn"])
    with pytest.raises(SystemExit):
        command.main()
    assert "no benchmark moe_fn; there are moe_ffn, " in capsys.readouterr().err
