"""What the report takes from the files of experiments."""

import json

import numpy as np
import pytest
import soundfile

from omnirouter.analysis.report.audio import outline, write_sounds
from omnirouter.analysis.report.curves import make_series, read_curves
from omnirouter.analysis.report.overview import most_experts
from omnirouter.analysis.report.scripts import characters, letters, write_script
from omnirouter.data.datadir import Utterance
from omnirouter.data.errors import UserError


def test_a_script_holds_any_text_as_letters(tmp_path, read_script):
    value = {"text": "</script><script>alert('1')</script> \" \\ naïve Ω \u2028 😀", "none": None, "numbers": [1, 0.5]}
    write_script(tmp_path, "one", value)
    assert read_script(tmp_path, "one") == value
    script = (tmp_path / "one.js").read_bytes()
    assert script.startswith(b"\xff\xfe")  # the mark by which a browser knows UTF-16
    text = script.decode("utf-16")
    assert text.startswith('REPORT.receive("one", ') and text.endswith('");\n')
    assert "<" not in text and "\\" not in text and text.count('"') == 4 and len(text.splitlines()) == 1


def test_letters_hold_15_bits_each():
    """0x8001ff is 100000000000000 111111111 and six bits of padding."""
    assert letters(b"\x80\x01\xff") == chr(0x3000 + 0x4000) + chr(0x3000 + 0x7FC0)
    assert letters(b"") == "" and letters(b"\xff" * 15) == "\uafff" * 8


def test_characters_begin_at_zero_and_go_beyond_letters():
    assert characters(np.array([0, 1, 9, 10, 300])) == "019:" + chr(348)
    assert characters(np.array([], dtype=np.uint8)) == ""


def test_curves_of_dense_and_routed_trainings(tmp_path, make_experiment, tiny_data_dir):
    hypotheses = {f"spk{i // 2}-utt{i}": f"tone number {i}" for i in range(4)}
    paths = [make_experiment(tmp_path / kind, kind, tiny_data_dir, hypotheses) for kind in ("dense", "switch")]
    nothing = {"x": [], "y": []}
    curves = {curve["title"].split()[0]: curve["series"] for curve in read_curves([*paths, tmp_path / "none"])}
    assert curves["CTC"] == [{"x": [10, 20, 30], "y": [10, 5, 3.3333]}] * 2 + [nothing]
    assert curves["Word"][0] == {"x": [20, 30], "y": [12.5, 0]}
    assert curves["Load-balancing"] == [nothing, {"x": [10, 20, 30], "y": [6, 6, 6]}, nothing]
    assert curves["Cramér's"][1] == {"x": [10, 20, 30], "y": [0.3, 0.3, 0.3]}
    of_dense = [(curve["title"].split()[0], curve["log"]) for curve in read_curves(paths[:1])]
    assert of_dense == [("CTC", True), ("Word", False)]  # a rate of zero has no logarithm


def test_most_experts_are_those_of_any_layer_named_or_loaded():
    sets = [{"layers": [None, {"names": 3}]}, {"layers": [{"names": 2}, None]}]
    routing = [[None, [{"load": [1.0, 0.0]}, {"load": [0.25] * 4}]], [[{"load": [1.0]}], None]]
    assert most_experts(sets, routing) == 4 and most_experts(sets, [[None]]) == 3
    assert most_experts([{"layers": [{"names": 5}]}], routing) == 5
    assert most_experts([{"layers": [None]}], [[None]]) == 0


def test_thinned_curves_are_means_of_neighbours():
    points = [(1, 1.0), (2, 3.0), (3, float("nan")), (4, None), (5, 5.0), (6, 7.0)]
    assert make_series(points, most=2) == {"x": [1.5, 5.5], "y": [2, 6]}
    assert make_series(points, most=9) == {"x": [1, 2, 5, 6], "y": [1, 3, 5, 7]}


def test_a_broken_line_of_metrics_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + "\n{broken\n")
    with pytest.raises(UserError, match="metrics.jsonl:2: "):
        read_curves([tmp_path])


def test_an_outline_has_the_greatest_amplitudes():
    samples = np.zeros(16000, np.float32)
    samples[0], samples[-1] = -0.5, 0.25
    levels = [ord(character) - ord("0") for character in outline(samples)]
    assert levels == [31, *[0] * 78, 16]
    assert len(outline(np.ones(160_000, np.float32))) == 300
    assert outline(np.zeros(1, np.float32)) == "0"


def test_audio_is_opus_of_the_utterance_alone(tmp_path, write_tone):
    long = write_tone(tmp_path / "long.wav", duration_s=3.0, sample_rate_hz=8000)
    utterances = [Utterance("a", long, "", "s", start_s=1.0, end_s=1.5), Utterance("b", tmp_path / "none.wav", "", "s")]
    cut, missing = write_sounds(utterances, tmp_path / "audio")
    assert cut.duration_s == 0.5 and len(cut.outline) == 40 and not cut.problem
    assert missing.outline == "" and "none.wav" in missing.problem
    info = soundfile.info(tmp_path / "audio/0.ogg")
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("OGG", "OPUS", 16000, 1)
    assert abs(info.duration - 0.5) < 0.01
    samples, _ = soundfile.read(tmp_path / "audio/0.ogg")
    assert np.argmax(np.abs(np.fft.rfft(samples))) == pytest.approx(440 * 0.5, abs=1)
    assert not (tmp_path / "audio/1.ogg").exists()
