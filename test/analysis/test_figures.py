"""What the figures show: their data, and that they are drawn at all."""

import json
from pathlib import Path

import numpy as np
import pytest

from omnirouter.analysis.agreement_figures import agreement_figure, default_layers, table_figure
from omnirouter.analysis.assignments import Assignments, make_assignments
from omnirouter.analysis.curves import (
    loss_figure,
    random_routing_figure,
    read_metrics,
    routing_in_training_figure,
    thinned,
)
from omnirouter.analysis.hearing import as_json, hear, hearing_figure, hearing_table, profile_figure
from omnirouter.analysis.labels import Labels
from omnirouter.analysis.load_figure import load_figure
from omnirouter.analysis.plot import COLOURS, colours, new_figure, palette, write_figure
from omnirouter.analysis.ribbons import Heard, choose_utterances, ribbon_figure
from omnirouter.analysis.subject import Subject
from omnirouter.data.errors import UserError
from omnirouter.decoding.ctm import Word
from omnirouter.models.config import ModelConfig

BELOW, ABOVE = [0, 0, 1, 1, 2, 2], [1, 1, 2, 2, 0, 1]


def make_subject(*layers: list[int], encoder: str = "switch", numbers: list[int] | None = None) -> Subject:
    numbers = numbers or list(range(1, len(layers) + 1))
    config = ModelConfig(encoder=encoder, layers=len(layers), experts=3, dim=32, heads=2)
    return Subject(encoder, config, make_assignments({"a": np.array(layers)}, numbers, [3] * len(layers), 0.04))


def test_a_figure_is_written_with_its_data_and_the_same_twice(tmp_path: Path) -> None:
    for name in ("one", "other"):
        figure = new_figure(2, 2, "title")
        figure.subplots().plot([1, 2])
        write_figure(tmp_path, name, figure, {"a": float("nan"), "b": (1, 2.5), "c": "ɪ"})
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    assert json.loads((tmp_path / "one.json").read_text(encoding="utf-8")) == {"a": None, "b": [1, 2.5], "c": "ɪ"}


def test_every_expert_has_a_colour_of_its_own() -> None:
    assert all(len(set(colours(count))) == count for count in (0, 1, 4, 8, 9, 64))
    assert colours(64)[:9] == [*COLOURS, colours(9)[8]]  # however many there are
    assert palette(["x", "y"]) == {"x": colours(2)[0], "y": colours(2)[1]}


def test_random_utterances_are_always_the_same() -> None:
    ids = [f"u{i}" for i in range(50)]
    assert choose_utterances(ids, 3, 0) == choose_utterances(ids[::-1], 3, 0) != choose_utterances(ids, 3, 1)
    assert choose_utterances(["b", "a"], 3, 0) == ["a", "b"]


def test_ribbons_show_matched_experts_over_time_and_words_under_them() -> None:
    heard = Heard("a", np.random.default_rng(0).normal(size=(26, 80)), [Word(0.04, 0.08, "HI")], [Word(0.0, 0.1, "h")])
    switch, omni = make_subject(BELOW, ABOVE), make_subject(BELOW, ABOVE, encoder="omnirouter")
    figure, data = ribbon_figure(heard, [switch, omni], "test")
    mel, switch_axes, omni_axes, phones, words = figure.axes
    assert [text.get_text() for text in words.texts] == ["HI"] and [text.get_text() for text in phones.texts] == ["h"]
    assert switch_axes.images[0].get_array().tolist() == [[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 0]]
    assert omni_axes.images[0].get_array().tolist() == [BELOW, ABOVE]
    assert data["experiments"]["switch"]["matched_experts"][1] == [1, 1, 2, 2, 3, 1]
    assert data["words"] == [{"start_s": 0.04, "duration_s": 0.08, "text": "HI"}]
    # 24 of the 26 frames make tokens; the axis is that of the audio.
    assert omni_axes.images[0].get_extent()[:2] == pytest.approx([0, 0.24]) and mel.get_xlim() == (0, 0.26)


@pytest.mark.parametrize(("layers", "pair"), [(16, (14, 15)), (6, (4, 5)), (2, (1, 2))])
def test_the_layers_shown_stand_as_the_papers_do(layers: int, pair: tuple[int, int]) -> None:
    assert default_layers(make_subject(*[BELOW] * layers)) == pair


def test_the_contingency_table_has_its_columns_matched() -> None:
    _, data = table_figure([make_subject(BELOW, ABOVE, numbers=[2, 4])], "test")
    ours = data["switch"]
    assert (ours["layers"], ours["columns"]) == ((2, 4), [2, 3, 1])
    assert ours["table"] == [[2, 0, 0], [0, 2, 0], [1, 0, 1]]
    assert ours["paper"]["cramers_v"] == pytest.approx(0.458, abs=5e-4)
    with pytest.raises(UserError, match="layer 3 is no MoE layer; those are 2, 4"):
        table_figure([make_subject(BELOW, ABOVE, numbers=[2, 4])], "test", (2, 3))


def test_agreement_is_that_of_adjacent_layers_and_of_all() -> None:
    subject = make_subject(BELOW, [1, 1, 2, 2, 0, 0], [0] * 6)
    _, data = agreement_figure([subject], "test", palette(["switch"]))
    found = data["experiments"]["switch"]
    assert found["adjacent"] == pytest.approx([1.0, float("nan")], nan_ok=True) and found["matrix"][1][0] == 1.0
    assert data["paper"]["cramers_v"]["omnirouter"] == pytest.approx(0.830, abs=5e-4)


def test_load_is_counted_by_set_layer_and_expert() -> None:
    dev, test = make_subject(BELOW, [0] * 6), make_subject(BELOW, ABOVE)
    _, data = load_figure({"switch": {"dev": dev.assignments, "test": test.assignments}})
    assert data["switch"]["dev"]["load"] == [pytest.approx([1 / 3] * 3), [1, 0, 0]]
    assert data["switch"]["test"]["load"][1] == pytest.approx([1 / 6, 1 / 2, 1 / 3])


def assign_two(experts_T: np.ndarray) -> Assignments:
    return make_assignments({"a": experts_T[None, :200], "b": experts_T[None, 200:]}, [3], [2], 0.04)


def test_hearing_is_written_and_drawn() -> None:
    index_T = np.random.default_rng(0).integers(3, size=400)
    assignments = assign_two((index_T == 2).astype(int))
    speaker_T = np.arange(2).repeat(200)
    kinds = [Labels("phone", ["ɪ", "s", "t"], index_T), Labels("speaker", ["x", "y"], speaker_T, speaker_T)]
    hearings = hear(assignments, kinds)
    measured = as_json(hearings)
    phone = measured["phone"]
    assert phone["values"] == 3 and phone["layers"][0]["normalised"] == pytest.approx(1, abs=0.02)
    assert phone["preferred"][0][1] == [("t", 1.0)] and {value for value, _ in phone["preferred"][0][0]} == {"ɪ", "s"}
    table = hearing_table(hearings)
    assert "phone         3      3   0.9" in table and "phone    layer 3 expert 2: t 100%" in table
    axes = hearing_figure({"switch": measured}, "test", palette(["switch"])).axes
    assert [panel.get_title() for panel in axes] == ["phone (3 values)", "speaker (2 values)"]
    _, profile = profile_figure(assignments, kinds, hearings, "switch, test")
    assert profile["layer"] == 3 and profile["values"][-1] == "t" and profile["table"][0][-1] == 0
    assert profile_figure(assignments, kinds[1:], hearings[1:], "switch, test") is None


def point(share: float, seed: int, change: float) -> dict[str, float]:
    return {"share": share, "seed": seed, "wer": 10 + change / 10, "change_percent": change}


def test_draws_of_a_share_are_averaged_and_other_options_refused() -> None:
    points = [point(0.0, 0, 0.0), point(0.5, 0, 10.0), point(0.5, 1, 30.0)]
    options = {"draw": "layer", "may_keep": True, "scale": "drawn", "headline": "raw"}
    measured = {"switch": {"options": options, "points": points}, "omni": {"options": options, "points": points[:2]}}
    _, data = random_routing_figure(measured, "test", palette(measured))
    assert data["experiments"]["switch"] == [
        {"share": 0.0, "draws": 1, "wer": 10.0, "mean": 0.0, "lowest": 0.0, "highest": 0.0},
        {"share": 0.5, "draws": 2, "wer": 12.0, "mean": 20.0, "lowest": 10.0, "highest": 30.0},
    ]
    measured["omni"] = {"options": {**options, "draw": "token"}, "points": points}
    with pytest.raises(UserError, match="omni"):
        random_routing_figure(measured, "test", palette(measured))


def test_training_is_read_without_validations_and_drawn_by_layer(tmp_path: Path) -> None:
    steps = [
        {
            "step": step, "ctc_loss": 5.0 / step, "balance_loss": 2.0,
            "routing": {layer: {"load": [0.7, 0.3], "entropy": 0.5} for layer in (["1", "2"] if step == 1 else ["2"])},
        }
        for step in (1, 2)
    ]  # fmt: skip
    lines = [steps[0], {"step": 1, "valid": {"wer": 50.0}}, steps[1]]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    records = read_metrics(tmp_path)
    assert records == steps
    dense = [{"step": 1, "ctc_loss": 1.0, "balance_loss": 0.0}]
    figure, data = loss_figure({"switch": records, "dense": dense}, palette(["switch", "dense"]))
    assert data["switch"]["ctc_loss"] == [5.0, 2.5] and len(figure.axes[1].lines) == 1
    _, curves = routing_in_training_figure({"switch": records, "dense": dense})
    assert curves["switch"]["1"]["step"] == [1.0] and curves["switch"]["2"]["largest_load"] == [0.7, 0.7]
    assert routing_in_training_figure({"dense": dense}) is None
    figure, _ = loss_figure({"dense": dense}, palette(["dense"]))
    assert [axes.get_title() for axes in figure.axes] == ["CTC loss"]


def test_long_curves_are_averaged() -> None:
    assert thinned([1, 2, 3, 4, 5], 2) == [2.0, 4.5] and thinned([1, 2], 2) == [1.0, 2.0]


def test_metrics_that_are_not_there_or_broken_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stage 4 makes it"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    with pytest.raises(UserError, match="metrics.jsonl:2"):
        read_metrics(tmp_path)
